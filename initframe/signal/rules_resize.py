"""Rules of operations that resize images: a new place is a weighted sum of old ones, in each direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initframe.signal.fields import SIDE, whole
from initframe.signal.grid import gaussian, independent, related_as, replace
from initframe.signal.moments import average, moments_of
from initframe.signal.states import Operation, Rule, State

FARTHEST = SIDE // 2 - 1
"""The largest offset at which an autocovariance is kept."""
SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}


def resized(op: Operation) -> State:
    """An image in another size.

    With Aᵈ[k] the mean of Σₐ w(o, a)·w(o + d, a + k) over new places o, the new autocovariance is
    C′[d] = Σₖ Aᵈ[k]·C[k], in each direction.
    """
    grid = op.grid("self")
    if grid is None or grid.classes > 1:
        return grid and replace(independent(grid), layout=grid.layout.fitted(op.shape))
    weights = [_weights(op, axis) for axis in range(len(op.shape) - 2)]
    kernels = [_pairs(one) for one in weights]
    m = grid.moments()
    mean, square, same, near, far = map(average, m[:5])
    own = math.prod(kernel[0, FARTHEST].item() for kernel in kernels)
    field = None
    if m.field is not None and len(kernels) == 2:
        field = _resampled(m.field, kernels[0], kernels[1], near)
    square = own * square + (1 - own) * near if field is None else field[0, 0].item()
    moments = moments_of(mean, square, own * same + (1 - own) * far, near, far)._replace(field=field)
    layout, profile = grid.layout.fitted(op.shape), grid.profile
    if profile is not None:
        profile = weights[0] @ profile @ weights[1].T if len(weights) == 2 and profile.ndim == 2 else None
    if all(bool((one.amax(1) == 1).all()) for one in weights):  # copies
        return replace(related_as(independent(grid), moments), layout=layout, profile=profile)
    return gaussian(moments, layout, profile=profile, **grid.kept)


def _weights(op: Operation, axis: int) -> Tensor:
    """How much of each old place is in each new one, along a direction: (new, old)."""
    old, new = op["self"].shape[axis + 2], op.shape[axis + 2]
    count = len(op.shape) - 2
    given = dict(op.given)
    given["self"] = torch.eye(old, dtype=torch.float64, device="cpu").view(
        1, old, *(old if d == axis else 1 for d in range(count))
    )
    given["output_size"] = [new if d == axis else 1 for d in range(count)]
    given |= {name: None for d, name in enumerate(SCALES[count]) if d != axis}
    arguments = [given.get(argument.name) for argument in op.func._schema.arguments]  # noqa: SLF001
    found: Tensor = op.func(*arguments)
    return found.view(old, new).T


def _pairs(weights: Tensor) -> Tensor:
    """Aᵈ[k] for d from 0, and k from the most negative one: (offsets, 2·``FARTHEST`` + 1)."""
    found = torch.zeros(FARTHEST + 1, 2 * FARTHEST + 1, dtype=torch.float64, device="cpu")
    new, old = weights.shape
    for d in range(min(FARTHEST + 1, new)):
        products = weights[: new - d].T @ weights[d:] / (new - d)
        for k in range(-min(FARTHEST, old - 1), min(FARTHEST, old - 1) + 1):
            found[d, k + FARTHEST] = products.diagonal(k).sum()
    return found


def _resampled(field: Tensor, rows: Tensor, columns: Tensor, near: float) -> Tensor:
    """The autocovariance of a resized image; farther offsets have the mean product ``near``."""
    offsets = torch.arange(-FARTHEST, FARTHEST + 1, device="cpu") % SIDE
    inside = whole(field)[offsets[:, None], offsets[None, :]] - near
    across = torch.cat([columns.flip(0, 1)[:-1], columns])  # of negative offsets, too
    out = torch.full_like(field, near)
    out[: FARTHEST + 1, offsets] = near + rows @ inside @ across.T
    return out


RULES: dict[str, Rule] = dict.fromkeys(
    (
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
        *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    ),
    resized,
)
