"""Tensors without memory that would share it: who else sees what is written into one of them."""

from __future__ import annotations

import math

from torch import Tensor

from initframe.signal.shapes import Form, Shadow


def aliases(tensor: Tensor) -> list[tuple[Shadow, float]]:
    """The other tensors that hold all elements of a tensor or the same ones, each with the tensor's share of them.

    Tensors that hold some of them are not told: which these are, strides alone do not say.
    """
    root = tensor.base if type(tensor) is Shadow and tensor.base is not None else tensor
    if type(root) is not Shadow or type(tensor) is not Shadow:
        return []
    views = [known for one in vars(root).get("views", ()) if (known := one()) is not None]
    first, last = _span(tensor.form)
    found = []
    for other in (root, *views):
        if other is tensor:
            continue
        begin, end = _span(other.form)
        count = math.prod(other.form.shape)
        if begin <= first and last <= end and count == end - begin + 1:  # it has no holes
            found.append((other, math.prod(tensor.form.shape) / max(count, 1)))
    return found


def _span(form: Form) -> tuple[int, int]:
    """The first and the last place of a tensor in its memory."""
    return form.offset, form.offset + sum((n - 1) * s for n, s in zip(form.shape, form.stride, strict=True))
