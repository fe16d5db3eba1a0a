"""Numbers as somebody would have written them."""

from __future__ import annotations

import math

import torch


def tidy(value: float) -> float:
    """Give the shortest number within four units in the last place of float64.

    >>> tidy(0.02 * 2**0.5 / 2**0.5)
    0.02
    """
    for digits in range(1, 16):
        rounded = float(f"{value:.{digits}g}")
        if abs(rounded - value) <= 4 * math.ulp(value):
            return rounded
    return value


def shortest(value: float, dtype: torch.dtype) -> float:
    """Give the shortest number that a dtype rounds to a value that it holds.

    >>> shortest(torch.tensor(0.1).item(), torch.float32)
    0.1
    """
    held = torch.tensor(value, dtype=dtype, device="cpu")
    for digits in range(1, 18):
        rounded = float(f"{value:.{digits}g}")
        if torch.tensor(rounded, dtype=dtype, device="cpu") == held:
            return rounded
    return value


def plain(value: float) -> float:
    """Give a number as it is written in a recipe: whole ones without a point.

    >>> plain(2.0), plain(0.02)
    (2, 0.02)
    """
    value = tidy(value)
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def is_short(value: float) -> bool:
    """Whether somebody may have written a number by hand: it has four digits or fewer.

    >>> is_short(0.02), is_short(0.036084)
    (True, False)
    """
    return float(f"{value:.4g}") == value
