"""The stream, slowly: Philox in Python's integers, the formulas over numpy, one element at a time.

The formulas are the project's own. What they are held to are known answers of an implementation that shares no line
with them: the vectors of version 1, and its edges (tails, ends that values are held at, ranges of one value).
"""

import json
from pathlib import Path

import numpy as np
import torch

from initframe.stream.distributions import kernel_constants
from initframe.stream.formulas import FORMULAS

VECTORS, EDGES = (
    json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in ("vectors.json", "edges.json")
)
DISTRIBUTIONS = [
    ("uniform", (-1.5, 2.5)),
    ("uniform", (0.25, 0.25)),
    ("uniform", (1.0, 1.001)),
    ("normal", (0.5, 0.02)),
    ("normal", (-1.0, 0.0)),
    ("truncated_normal", (0.0, 0.02, -0.06, 0.06)),
    ("truncated_normal", (0.0, 1.0, 5.0, 9.0)),
    ("truncated_normal", (0.1, 2.0, -13.0, -7.0)),
    ("bits", ()),
]


class NumpyLanes:
    """numpy rounds every operation by itself."""

    def to_float(self, word):
        return word.astype(np.float32)

    def bits(self, value):
        return value.view(np.int32)

    def from_bits(self, word):
        return word.view(np.float32)

    def sqrt(self, value):
        return np.sqrt(value)

    def select(self, mask, chosen, other):
        return np.where(mask, np.float32(chosen), np.float32(other))

    def select_rarely(self, mask, chosen, other):
        return np.where(mask, chosen, other())


def philox(counter, key):
    """Philox4x32-10 as Salmon et al. write it, four words to four words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def words(key, indices):
    """The words of the pairs that hold these elements: int32, (indices, 2)."""
    pairs = []
    for i in indices:
        block = philox([i >> 2 & 0xFFFFFFFF, i >> 34, key[2], key[3]], key[:2])
        pairs.append(block[i & 2 :][:2])
    return np.array(pairs, dtype=np.uint32).reshape(-1, 2).view(np.int32)


def values(distribution, args, key, indices):
    """The values at these indices: float32 (int32 for bits), as a tensor."""
    w = words(key, indices)
    with np.errstate(all="ignore"):
        pair = FORMULAS[distribution](
            NumpyLanes(), (w[:, 0].copy(), w[:, 1].copy()), **kernel_constants(distribution, args)
        )
    pair = np.stack(np.broadcast_arrays(*pair), 1)
    return torch.from_numpy(pair[np.arange(len(w)), np.array(indices, dtype=np.uint64) & 1])


def digest(tensor, indices):
    """The sum of mixed indices and bits, in Python's integers."""

    def mix(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    size = tensor.element_size()
    elements = [int.from_bytes(raw[j : j + size], "little") for j in range(0, len(raw), size)]
    return sum(mix(mix((i + 1) * 0x9E3779B97F4A7C15 % 2**64) ^ b) for i, b in zip(indices, elements, strict=True)) % (
        2**64
    )
