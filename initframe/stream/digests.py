"""A tensor's digest: a sum over its elements, so that the digests of shards add up."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from initframe.errors import Problem, StreamError
from initframe.stream import eager
from initframe.stream.backends import compiled
from initframe.stream.rows import check_indices
from initframe.stream.threads import spread

COPIED = 1 << 18
"""Elements that are copied at a time if memory is not in the order of the index."""


@torch.no_grad()
def digest(tensor: Tensor, start: int = 0, stride: int = 0) -> int:
    """Sum a hash of every element's index and bits, modulo 2**64.

    ``Σ mix(mix((i + 1) · 0x9E3779B97F4A7C15) ^ bits_i)`` with splitmix64's mix (Steele et al., 2014), where
    i counts elements in logical order and bits are the element's own, extended by zeros. Memory layout and
    device do not matter; dtype does.

    Args:
        tensor: any tensor whose elements have 1, 2, 4 or 8 bytes.
        start: the index of its first element in the whole tensor.
        stride: 0 if its elements follow each other in the whole tensor; else the tensor is 2-D, and element (r, c)
            has the index ``start + r * stride + c``, as in `Draw`.

    Returns:
        The sum, in [0, 2**64). Sums of the parts of a tensor, modulo 2**64, are the sum of the whole.

    Raises:
        StreamError: the elements have another size, a stride is given for a tensor that is not 2-D, or an index is not
            in [0, 2**64).

    >>> whole = torch.arange(12.0).view(3, 4)
    >>> parts = digest(whole[:, :1], 0, stride=4) + digest(whole[:, 1:], 1, stride=4)
    >>> parts % 2**64 == digest(whole)
    True
    """
    if tensor.element_size() not in (1, 2, 4, 8):
        fact = f"{tensor.dtype} has no digest: its elements have {tensor.element_size()} bytes."
        raise StreamError(Problem("", fact, "Options: elements of 1, 2, 4 or 8 bytes."))
    if stride and tensor.ndim != 2:
        raise StreamError(Problem("", f"a digest with a stride needs a 2-D tensor, not {tuple(tensor.shape)}."))
    check_indices(tensor.shape if stride else (1, tensor.numel()), start, stride)
    tensor = tensor.resolve_conj().resolve_neg()  # the memory of such a view holds other bits than it shows
    parts = iter([(_with_dense_rows(tensor), start, stride)]) if stride else _dense(tensor, start)
    if backend := compiled(tensor.device):
        sums = spread(task for part in parts for task in backend.digest_tasks(*part))
        return sum(sums) % 2**64
    return sum(eager.digest(*part) for part in parts) % 2**64


def _with_dense_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] < 2 else tensor.contiguous()


def _dense(tensor: Tensor, start: int) -> Iterator[tuple[Tensor, int, int]]:
    """Yield the elements as dense rows, their first index and stride; copy at most `COPIED` elements at a time."""
    if tensor.is_contiguous():
        yield tensor.view(1, -1), start, 0
    elif tensor.ndim > 1 and tensor[0].is_contiguous():
        yield tensor.flatten(1), start, tensor[0].numel()
    elif tensor.numel() <= COPIED:
        yield tensor.contiguous().view(1, -1), start, 0
    else:
        inner = tensor.numel() // len(tensor)
        step = max(1, COPIED // inner)
        for i in range(0, len(tensor), step):
            part = tensor[i] if step == 1 else tensor[i : i + step]
            yield from _dense(part, start + i * inner)
