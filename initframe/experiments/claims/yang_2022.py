"""Yang et al. 2022 (Tensor Programs V), figure 1: the best learning rate by width, and the coordinate check."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import fmean

import torch
from torch import nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import fit, learned, losses
from initframe.experiments.networks import mlp

STARTS = ("μP", "standard")


def build(at: Settings) -> nn.Module:
    """Three hidden layers."""
    return mlp(64, at["width"], 3, nn.ReLU)


def measure(run: Run) -> Mapping[str, Value]:
    """Train by Adam with the learning rates that the recipe asks for; notice how far the scores move at first."""
    digits, _ = load_small_digits()
    lr = 2.0 ** run.at["log2_lr"]
    optimizer = torch.optim.Adam(run.report.param_groups(lr=lr), lr=lr)
    before = run.model(digits.images[:100]).detach()
    losses(fit(run.model, optimizer, digits, seed=run.seed), 3)
    moved = (run.model(digits.images[:100]).detach() - before).square().mean().sqrt().item()
    return {"moved": moved, **learned(run, optimizer, digits)}


def best(found: Results, at: Settings, start: str, width: int) -> tuple[float, ...]:
    """The log₂ of the learning rate with the least last loss, one for each seed."""
    rates = at["sweep"]["log2_lr"]
    by_rate = [found.of("last", start=start, width=width, log2_lr=rate) for rate in rates]
    return tuple(float(rates[row.index(min(row))]) for row in zip(*by_rate, strict=True))


def slope(found: Results, at: Settings, start: str) -> tuple[float, ...]:
    """The exponent with which the scores' first moves grow with the width, in the mean over seeds."""
    widths = at["sweep"]["width"]
    ends = [found.of("moved", start=start, width=width, log2_lr=at["check"]) for width in (widths[0], widths[-1])]
    every = [math.log(b / a) / math.log(widths[-1] / widths[0]) for a, b in zip(*ends, strict=True)]
    return (fmean(every),)


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """The best rate's move over the widths, in powers of two, and the coordinate check."""
    narrow, wide = at["sweep"]["width"][0], at["sweep"]["width"][-1]
    for start, paper, low, high in (("μP", "0: it stays", -1.0, 1.0), ("standard", "it falls", -math.inf, -1.5)):
        ends = (best(found, at, start, width) for width in (narrow, wide))
        move = sum(b - a for a, b in zip(*ends, strict=True)) / at["seeds"]
        yield Check(
            f"{start}: log₂ of the best learning rate, width {wide} minus {narrow} (mean of seeds)",
            paper,
            (move,),
            low,
            high,
        )
    words = "scores' move in 3 steps grows as width to the power (mean of seeds)"
    yield Check(f"μP: {words}", "0", slope(found, at, "μP"), -0.25, 0.25)
    yield Check(f"standard: {words}", "above 0", slope(found, at, "standard"), 0.3)


def panel(start: str) -> Panel:
    """The last loss by learning rate, a line for each width."""
    words = f"{start}: training loss"
    return Panel("last", words, "log2_lr", lines=("width",), logarithmic=True, where=lambda at: at["start"] == start)


CLAIM = Claim(build, measure, checks, tuple(map(panel, STARTS)))
