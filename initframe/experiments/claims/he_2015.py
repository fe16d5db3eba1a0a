"""He et al. 2015, figures 2 and 3: how deep a plain ReLU network can be under xavier and under kaiming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned
from initframe.experiments.networks import convnet

SHALLOW, DEEP = 22, 30
"""The paper's networks: both initializations train the first, and kaiming alone the second."""


def build(at: Settings) -> nn.Module:
    """A plain convolutional network without normalization."""
    return convnet(at["channels"], at["depth"], nn.ReLU)


def measure(run: Run) -> Mapping[str, Value]:
    """Train by gradient descent with momentum, as in the paper."""
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    return learned(run, optimizer, load_small_digits()[0])


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """A network that learned nothing has the loss ln 10 = 2.30."""
    for depth in at["sweep"]["depth"]:
        words = f"loss of {depth} layers after {at['steps']} steps"
        kaiming, xavier = (found.of("last", start=start, depth=depth) for start in ("kaiming", "xavier"))
        is_papers = depth in (SHALLOW, DEEP)
        yield Check(f"kaiming: {words}", "converges" if is_papers else "—", kaiming, high=1.5)
        if depth <= SHALLOW:
            yield Check(f"xavier: {words}", "converges, slower" if is_papers else "—", xavier, high=1.5)
        else:
            yield Check(f"xavier: {words}", "stalls (2.30 is chance)" if is_papers else "—", xavier, low=2.2)


CLAIM = Claim(build, measure, checks, (Panel("curve", "training loss", "step", lines=("depth",)),))
