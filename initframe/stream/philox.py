"""Philox4x32-10: 32 random bits per element, addressed by a key and an index."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import TypeAlias

from initframe.errors import Problem, StreamError, shown
from initframe.stream.lanes import Pair, Wide

Key: TypeAlias = tuple[int, int, int, int]
Block: TypeAlias = tuple[Wide, Wide, Wide, Wide]

MASK = 0xFFFFFFFF
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
_WORDS = struct.Struct("<4I")


def key(name: str, seed: int, purpose: str = "") -> Key:
    r"""Hash a tensor's canonical name and a seed to four words, the address of its stream.

    ``blake2b(name [+ "\0" + purpose], key=seed, person="initframe.v1")``, 16 bytes, little-endian.

    Args:
        name: the canonical name of the tensor.
        seed: an integer in [0, 2**64).
        purpose: what the numbers are for; values have the empty purpose (docs/stream.md has a table).

    Returns:
        Four 32-bit words: the Philox key (two), then the upper half of the counter (two).

    Raises:
        StreamError: the seed is outside of [0, 2**64), or the name has half of a character.

    >>> [f"{word:08x}" for word in key("features.0.weight", seed=0)]
    ['88f992a8', 'c4065ad5', '2dce6b58', '8c04e81d']
    """
    return keys_of(seed)(name, purpose)


def keys_of(seed: int) -> Callable[..., Key]:
    """Return `key` for one seed: a function of name and purpose. The beginning of their hashes is computed once.

    Args:
        seed: an integer in [0, 2**64).

    Raises:
        StreamError: the seed is outside of [0, 2**64).

    >>> keys_of(7)("w") == key("w", seed=7)
    True
    """
    if not 0 <= seed < 1 << 64:
        raise StreamError(Problem("seed", f"{seed} is outside of [0, 2**64)."))
    begin = hashlib.blake2b(digest_size=16, key=seed.to_bytes(8, "little"), person=b"initframe.v1")

    def key_of(name: str, purpose: str = "") -> Key:
        hashed = begin.copy()
        text = f"{name}\0{purpose}" if purpose else name
        try:
            hashed.update(text.encode())
        except UnicodeEncodeError:
            fact = f"the name {shown(name)} has half of a character."
            raise StreamError(Problem("name", fact, fix="Give a name that can be written as UTF-8.")) from None
        k0, k1, s0, s1 = _WORDS.unpack(hashed.digest())
        return k0, k1, s0, s1

    return key_of


def wide_product(word: Wide, factor: int) -> Pair:
    """Multiply two words in 64 bits; return the upper half of the product, and the lower one below garbage."""
    product = (word & MASK) * factor
    return product >> 32, product


def philox(counter: Block, key: tuple[Wide, Wide], multiply: Callable[[Wide, int], Pair] = wide_product) -> Block:
    """Scramble counters of four words into four random words (Salmon et al., "Parallel random numbers", SC 2011).

    This is written once for every backend. Lanes may be 64 bits wide: their lower halves are the words, their upper
    halves are garbage that no later step reads. So only factors are masked, and ``>>`` may shift in zeros or signs.

    Args:
        counter: the index of an element divided by four (two words), then the stream (two words).
        key: the two words of the key.
        multiply: returns the upper and the lower word of the product of a word and a factor.

    Returns:
        Words 0 to 3 of each counter, in the lower halves.
    """
    c0, c1, c2, c3 = counter
    for r in range(ROUNDS):
        (high0, low0), (high1, low1) = multiply(c0, MULTIPLIERS[0]), multiply(c2, MULTIPLIERS[1])
        k0, k1 = (k + (r * step & MASK) for k, step in zip(key, WEYL, strict=True))
        c0, c1, c2, c3 = high1 ^ (c1 ^ k0), low1, high0 ^ (c3 ^ k1), low0
    return c0, c1, c2, c3
