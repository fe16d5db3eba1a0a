"""Schoenholz et al. 2017: tanh networks train as deep as a multiple of the depth scale ξ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import accuracy, learned
from initframe.experiments.networks import mlp
from initframe.signal.stability import stability


def build(at: Settings) -> nn.Module:
    """A plain tanh network."""
    return mlp(64, at["width"], at["depth"], nn.Tanh)


def measure(run: Run) -> Mapping[str, Value]:
    """Train by gradient descent, as in the paper, and predict ξ from the variances."""
    train, test = load_small_digits()
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    found = learned(run, optimizer, train)
    depth = stability("tanh", run.at["weight_var"], run.at["bias_var"]).depth
    return {**found, "accuracy": accuracy(run.model, test), "xi": min(depth, 1000.0)}


def trainable(found: Results, at: Settings, weight_var: float) -> tuple[float, ...]:
    """The largest depth of the sweep up to which all networks learned, one for each seed."""
    by_depth = [found.of("accuracy", weight_var=weight_var, depth=depth) for depth in at["sweep"]["depth"]]
    return tuple(
        max((depth for i, depth in enumerate(at["sweep"]["depth"]) if min(row[: i + 1]) > 0.5), default=0)
        for row in zip(*by_depth, strict=True)
    )


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """The depth is limited far from the edge of chaos, and not at it."""
    deepest = at["sweep"]["depth"][-1]
    for weight_var in at["sweep"]["weight_var"]:
        xi = found.of("xi", weight_var=weight_var)[0]
        is_edge = abs(weight_var - at["edge"]) < 0.1
        limit = f"about 6ξ = {6 * xi:.0f}" if xi < 1000 else "no limit (ξ = ∞)"
        bounds = {"low": deepest} if is_edge else {"high": deepest - 1.0}
        yield Check(
            f"σ_w² = {weight_var:g}: trainable depth, up to {deepest}",
            limit,
            trainable(found, at, weight_var),
            **bounds,
        )


CLAIM = Claim(build, measure, checks, (Panel("accuracy", "test accuracy", "weight_var", lines=("depth",)),))
