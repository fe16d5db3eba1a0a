import numpy as np
import torch

from initframe.stream.eager import LANES


def test_roots_are_rounded_to_the_nearest():
    """All significands of an even and an odd exponent: torch's own float32 root fails this on some CPUs."""
    octaves = torch.arange(0x3F800000, 0x40800000, dtype=torch.int32).view(torch.float32)
    assert np.array_equal(LANES.sqrt(octaves).numpy(), np.sqrt(octaves.numpy()))


def test_conversions_are_rounded_to_the_nearest():
    words = torch.arange(-(2**31), 2**31 - 1, 4099).to(torch.int32)
    assert np.array_equal(LANES.to_float(words).numpy(), words.numpy().astype(np.float32))
