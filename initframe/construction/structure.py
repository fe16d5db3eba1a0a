"""The marks of training: what values have that independent draws have not."""

from __future__ import annotations

import math

from torch import Tensor

FEWEST = 256
"""Elements below which rows and columns tell nothing."""
P_VALUE = 1e-7
"""Below it, rows or columns differ more than those of independent elements do; a model has thousands of tests."""


def structure(values: Tensor) -> str:
    """Say what a tensor has that independent draws have not; empty if nothing.

    Rows or columns whose means or mean squares differ too much (a chi-square test, by Wilson and Hilferty's cube root),
    or neighbours that are alike.

    Args:
        values: in double precision.

    >>> import torch
    >>> torch.manual_seed(0) and structure(torch.randn(64, 64).double())
    ''
    >>> structure(torch.arange(4096.0).view(64, 64).double())[:27]
    'the means of its 64 rows di'
    """
    if values.ndim < 2 or values.numel() < FEWEST:
        return ""
    for dim in range(min(values.ndim, 2)):
        lines = values.transpose(0, dim).flatten(1)
        count, length = lines.shape
        if count < 4 or length < 4:
            continue
        centred = lines - values.mean()
        for what, of in (("means", centred), ("squares", centred.square() - centred.square().mean())):
            spread = of.square().mean().item()
            if spread <= 0:
                continue
            heat = (of.mean(1).square().sum() * length / spread).item()  # chi-square of ``count`` degrees of freedom
            z = ((heat / count) ** (1 / 3) - (1 - 2 / (9 * count))) / math.sqrt(2 / (9 * count))
            tail = 0.5 * math.erfc(z / math.sqrt(2))
            if tail < P_VALUE:
                name = "rows" if dim == 0 else "columns"
                return f"the {what} of its {count} {name} differ more than those of independent draws (p = {tail:.0e})"
    return _neighbours(values)


def _neighbours(values: Tensor) -> str:
    """Whether elements side by side are alike, as those of trained kernels are."""
    centred = values - values.mean()
    spread = centred.square().mean().item()
    for dim in range(values.ndim):
        if values.shape[dim] < 2 or spread <= 0:
            continue
        one, other = (centred.narrow(dim, start, values.shape[dim] - 1) for start in (0, 1))
        z = (one * other).mean().item() / spread * math.sqrt(one.numel())
        tail = math.erfc(abs(z) / math.sqrt(2))
        if tail < P_VALUE:
            return f"neighbours along dimension {dim} are alike (p = {tail:.0e})"
    return ""
