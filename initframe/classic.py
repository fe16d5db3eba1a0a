"""``generator="torch"``: fills drawn with torch.nn.init, for people who must reproduce an older script bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from initframe.errors import ResolveError
from initframe.fills import (
    Blocks,
    Constant,
    Dirac,
    Elementwise,
    Fill,
    Identity,
    Keep,
    Masked,
    Normal,
    OnCurrent,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
    Whole,
)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw as after ``torch.manual_seed(seed)``, then put torch's generators back; without a seed, just draw on.

    Args:
        seed: what a script would hand to ``torch.manual_seed``, or ``None``.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def write(fill: Fill, tensor: Tensor) -> None:
    """Fill a tensor as torch.nn.init does, padding rows included: torch leaves them drawn.

    Args:
        fill: what the tensor will hold.
        tensor: changed in place.

    Raises:
        ResolveError: torch.nn.init has no such fill.
    """
    match fill:
        case Keep():
            pass
        case Constant(value):
            tensor.fill_(value)
        case Uniform(low, high):
            nn.init.uniform_(tensor, low, high)
        case Normal(mean, std):
            nn.init.normal_(tensor, mean, std)
        case TruncatedNormal(loc, scale, low, high):
            nn.init.trunc_normal_(tensor, loc, scale, low, high)
        case Elementwise(fn):
            tensor.copy_(fn(torch.rand(tensor.shape, device=tensor.device)))
        case OnCurrent():
            wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
            tensor.copy_(fill.apply(wide, lambda: torch.randn(tensor.shape, device=tensor.device)))
        case Whole():
            _write_whole(fill, tensor)
        case Blocks(fills, sizes, dim):
            for part, block in zip(fills, torch.split(tensor, list(sizes), dim), strict=True):
                write(part, block)
        case Masked(inner, index=index, value=value):
            write(inner, tensor)
            if isinstance(inner, Keep):
                tensor[index] = value
        case _:
            raise ResolveError(f"torch.nn.init has no {fill.kind}. Use generator: stream.")


def _write_whole(fill: Whole, tensor: Tensor) -> None:
    match fill:
        case Orthogonal():
            nn.init.orthogonal_(tensor, fill.gain)
        case Identity():
            nn.init.eye_(tensor)
        case Dirac():
            nn.init.dirac_(tensor, fill.groups)
        case Sparse():
            nn.init.sparse_(tensor, fill.sparsity, fill.scale)
        case _:
            raise ResolveError(f"torch.nn.init has no {fill.kind}. Use generator: stream.")
