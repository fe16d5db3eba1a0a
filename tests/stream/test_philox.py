import hashlib

import pytest
import torch

from initframe.stream import key
from initframe.stream.philox import philox

from . import oracle

KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers_of_random123(counter, key, expected):
    tensors = tuple(torch.tensor([word]) for word in counter)
    words = [int(word) & 0xFFFFFFFF for word in philox(tensors, key)]
    assert " ".join(f"{word:08x}" for word in words) == expected
    assert oracle.philox(counter, key) == words


def test_a_key_is_the_hash_of_name_purpose_and_seed():
    hashed = hashlib.blake2b(
        "ü.重み\0sparse".encode(), digest_size=16, key=(7).to_bytes(8, "little"), person=b"initframe.v1"
    )
    assert b"".join(word.to_bytes(4, "little") for word in key("ü.重み", 7, "sparse")) == hashed.digest()


def test_keys_differ_by_name_seed_and_purpose():
    keys = {key(n, s, p) for n in ("a", "b", "a.b") for s in (0, 1, 2**64 - 1) for p in ("", "sparse", "orthogonal")}
    assert len(keys) == 27


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_of_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match=r"outside of \[0, 2\*\*64\)"):
        key("a", seed)
