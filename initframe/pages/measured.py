"""What a report's tensors hold: how far they stray from the plan, and a histogram of their values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from initframe.model.memory import is_composite, is_distributed, is_shapeless, local, memoryless
from initframe.model.place import Place
from initframe.model.survey import survey
from initframe.pages.expected import distribution, shares, standard_errors
from initframe.plan.report import Report, Result

BINS = 40
SAMPLE = 1 << 18
"""Values of a tensor that a histogram counts at most, evenly spaced."""


@dataclass(frozen=True)
class Deviation:
    """How far a tensor is from what was planned.

    Attributes:
        result: what happened to the tensor.
        ratio: measured std / planned std; ``None`` if the planned one is 0 or unknown.
        errors: the larger distance of mean and std from the planned ones, in standard errors; ``None`` if the fill's
            elements are not independent and identically distributed.
    """

    result: Result
    ratio: float | None
    errors: float | None


@dataclass(frozen=True)
class Histogram:
    """The values of one tensor, next to the planned ones.

    Attributes:
        name: the tensor's.
        edges: of the bins, ascending.
        found: the share of the values in each bin.
        planned: the share to expect in each bin; ``None`` if the fill has no simple distribution.
        count: how many values were counted.
        total: how many the tensor has.
    """

    name: str
    edges: tuple[float, ...]
    found: tuple[float, ...]
    planned: tuple[float, ...] | None
    count: int
    total: int


def deviation(result: Result) -> Deviation | None:
    """How far a measured tensor is from its plan; ``None`` if it was not measured.

    >>> from torch import nn
    >>> from initframe import reinit
    >>> report = reinit(nn.Linear(64, 64), {"rules": {"*": "normal"}}, seed=0, measure=True)
    >>> deviation(report["weight"]).errors < 5
    True
    """
    if result.after is None:
        return None
    fill, found = result.assignment.fill, result.after.moments
    errors = standard_errors(fill, result.assignment.slot.numel)
    ratio = found.std / fill.std if fill.std > 0 else None
    if errors is None:
        return Deviation(result, ratio, None)
    far = (abs(found.mean - fill.mean) / errors[0], abs(found.std - fill.std) / errors[1])
    return Deviation(result, ratio, max(one if math.isfinite(one) else math.inf for one in far))


@torch.no_grad()
def histograms(report: Report, names: Sequence[str]) -> list[Histogram]:
    """Histograms of the values that a report's model holds now.

    Args:
        report: with its model.
        names: of the tensors; those without values in this process are left out.
    """
    if report.model is None or not names:
        return []
    places = survey(report.model).places
    here = (name for name in names if name in places and not _is_elsewhere(places[name]))
    found = (_histogram(report[name], places[name].tensor()) for name in here)
    return [one for one in found if one is not None]


def _is_elsewhere(place: Place) -> bool:
    """Whether other processes, which do not make this page, would have to help to read a tensor."""
    return place.computed is not None and any(map(is_distributed, place.held))


def _histogram(result: Result, tensor: Tensor) -> Histogram | None:
    values = _values(tensor)
    if values is None:
        return None
    low, high = _range(values)
    bins = torch.histc(values, BINS, low, high) / len(values)
    edges = tuple(low + (high - low) * i / BINS for i in range(BINS + 1))
    parts = distribution(result.assignment.fill)
    planned = None if parts is None else tuple(shares(parts, edges))
    return Histogram(result.name, edges, tuple(bins.tolist()), planned, len(values), tensor.numel())


def _values(tensor: Tensor) -> Tensor | None:
    """Finite values of the part of a tensor that is here, evenly spaced; ``None`` if there are none."""
    if is_shapeless(tensor) or memoryless(tensor) or is_composite(tensor) or not tensor.is_floating_point():
        return None
    flat = local(tensor.detach()).reshape(-1)
    flat = flat[:: max(-(-flat.numel() // SAMPLE), 1)].to("cpu", torch.float64)
    flat = flat[flat.isfinite()]
    return flat if flat.numel() else None


def _range(values: Tensor) -> tuple[float, float]:
    """Where almost all values are, and a little more; never empty."""
    ordered = values.sort().values
    cut = len(ordered) // 2000
    low, high = ordered[cut].item(), ordered[-1 - cut].item()
    margin = (high - low) * 0.05 or abs(low) * 0.1 or 1.0
    return low - margin, high + margin
