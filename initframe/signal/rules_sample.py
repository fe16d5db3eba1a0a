"""Rules of images that are read at places between their pixels, as warps and deformable attention do."""

from __future__ import annotations

import torch
from torch import Tensor

from initframe.signal.fields import whole
from initframe.signal.grid import Grid, gaussian
from initframe.signal.moments import average, moments_of
from initframe.signal.positions import averaged
from initframe.signal.states import Operation, Rule, State

PLACES = 4096
"""How many places stand for all."""
BILINEAR, NEAREST = 0, 1
ZEROS = 0
WHY = "sampled places are taken as far from each other"


def sampled(op: Operation) -> State:
    """The values of images at some places: of each, the four pixels around it, by how near they are.

    With weights w of pixels a and b, E y² is the mean over places of Σ w(a)·w(b)·C(a − b), where C is the
    autocovariance; what is outside counts as zeros, or as the border.
    """
    image, mode = op.grid("input"), int(op["interpolation_mode"])
    places = _places(op)
    if image is None or places is None or mode not in (BILINEAR, NEAREST) or len(op.shape) != 4:
        return None
    m = averaged(image)
    sizes = [int(n) for n in op["input"].shape[-2:]]
    rows, columns = (
        _weights(places[:, axis], sizes[1 - axis], op, nearest=mode == NEAREST) for axis in (1, 0)
    )  # a place is (x, y)
    rows = rows * _sizes(image, places, op).sqrt()[:, None]
    square, apart = average(m.square), average(m.near)
    field = None if m.field is None else whole(m.field)
    mean_square = same = 0.0
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1)):
        pairs = (_pairs(rows, dy) * _pairs(columns, dx)).mean().item() * (1 if (dy, dx) == (0, 0) else 2)
        alike = square if (dy, dx) == (0, 0) else apart if field is None else field[dy, dx].item()
        mean_square += pairs * alike
        same += pairs * average(m.same if (dy, dx) == (0, 0) else m.far)
    share = (rows.sum(1) * columns.sum(1)).mean().item()
    if op.known("grid") is None:  # each input is read at places of its own
        same = share**2 * average(m.far)
    moments = moments_of(share * average(m.mean), mean_square, same, share**2 * apart, share**2 * average(m.far))
    return gaussian(moments, image.layout.fitted(op.shape), **{**image.kept, "why": image.why or WHY})


def _places(op: Operation) -> Tensor | None:
    """Some places, from −1 to 1 in both directions inside the image: (places, 2)."""
    known, grid = op.known("grid"), op.grid("grid")
    if known is not None:
        every = known.detach().double().reshape(-1, known.shape[-1])
        return every[:: max(len(every) // PLACES, 1)]
    return None if grid is None else _drawn(grid)


def _drawn(grid: Grid) -> Tensor:
    """Places whose coordinates have a grid's distribution, independent of each other."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    return grid.law.at(torch.randn(PLACES, 2, generator=generator, dtype=torch.float64, device="cpu"))


def _sizes(image: Grid, places: Tensor, op: Operation) -> Tensor:
    """The relative mean square of the image where each place is: borders are lower."""
    sides = list(op["input"].shape[-2:])
    if image.profile is None or list(image.profile.shape) != sides:
        return places.new_ones(len(places))
    x, y = (_pixels(places[:, i], sides[1 - i], op).round().long().clamp(0, sides[1 - i] - 1) for i in (0, 1))
    return image.profile.double()[y, x]


def _pixels(places: Tensor, size: int, op: Operation) -> Tensor:
    """Where places are, in pixels along one direction."""
    at = (places + 1) / 2 * (size - 1) if op["align_corners"] else ((places + 1) * size - 1) / 2
    return at if int(op["padding_mode"]) == ZEROS else at.clamp(0, size - 1)


def _weights(places: Tensor, size: int, op: Operation, *, nearest: bool) -> Tensor:
    """The weights of the pixel before each place and of the one after it, 0 for pixels outside: (places, 2)."""
    at = _pixels(places, size, op)
    at = at.round() if nearest else at
    before = at.floor()
    after = torch.stack([1 - (at - before), at - before], 1)
    pixels = torch.stack([before, before + 1], 1)
    return after * ((pixels >= 0) & (pixels < size))


def _pairs(weights: Tensor, apart: int) -> Tensor:
    """The sum of products of the weights of two pixels that are so far apart."""
    return weights.square().sum(1) if apart == 0 else weights[:, 0] * weights[:, 1]


RULES: dict[str, Rule] = {"grid_sampler_2d": sampled}
