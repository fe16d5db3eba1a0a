"""He et al. 2015, figures 2 and 3: how deep a plain ReLU network can be under xavier and under kaiming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned
from initframe.experiments.networks import convnet

PAPERS = 22
"""The depth at which the paper's network still trains under xavier."""


def build(at: Settings) -> nn.Module:
    """A plain convolutional network without normalization."""
    return convnet(at["channels"], at["depth"], nn.ReLU)


def measure(run: Run) -> Mapping[str, Value]:
    """Train by gradient descent with momentum, as in the paper."""
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    return learned(run.model, optimizer, load_small_digits()[0], run.at["steps"], run.seed)


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """A network that learned nothing has the loss ln 10 = 2.30."""
    for depth in at["sweep"]["depth"]:
        words = f"loss of {depth} layers after {at['steps']} steps"
        yield Check(f"kaiming: {words}", "converges", found.of("last", start="kaiming", depth=depth), high=1.5)
        xavier = found.of("last", start="xavier", depth=depth)
        if depth <= PAPERS:
            yield Check(f"xavier: {words}", "converges, slower", xavier, high=1.5)
        else:
            yield Check(f"xavier: {words}", "stalls (2.30 is chance)", xavier, low=2.2)


CLAIM = Claim(build, measure, checks, (Panel("curve", "training loss", "step", lines=("depth",)),))
