"""Functions of torch.nn.init that are read by name and arguments: they do nothing on meta, or draw until it fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from torch import Tensor, nn

from initframe.construction.values import Value, draw, structured
from initframe.fills import Dirac, Orthogonal, Sparse

Arguments = Mapping[str, Any]


def _trunc_normal(given: Arguments) -> Value:
    return draw("truncated_normal", given["mean"], given["std"], given["a"], given["b"])


def _orthogonal(given: Arguments) -> Value:
    return structured(Orthogonal(tuple(given["tensor"].shape), float(given["gain"])))


def _dirac(given: Arguments) -> Value:
    return structured(Dirac(tuple(given["tensor"].shape), int(given["groups"])))


def _sparse(given: Arguments) -> Value:
    return structured(Sparse(tuple(given["tensor"].shape), float(given["sparsity"]), float(given["std"])))


_BY_NAME: dict[str, Callable[[Arguments], Value]] = {
    "trunc_normal_": _trunc_normal,
    "_no_grad_trunc_normal_": _trunc_normal,
    "orthogonal_": _orthogonal,
    "dirac_": _dirac,
    "sparse_": _sparse,
}
WHOLE: dict[CodeType, Callable[[Arguments], Value]] = {
    getattr(nn.init, name).__code__: read for name, read in _BY_NAME.items() if hasattr(nn.init, name)
}
"""What each of these functions writes, by its code."""


def whole_call(frame: FrameType) -> tuple[Tensor, Value]:
    """Read a running function of :data:`WHOLE`.

    Returns:
        The tensor that it fills, and what with.
    """
    given = frame.f_locals
    return given["tensor"], WHOLE[frame.f_code](given)
