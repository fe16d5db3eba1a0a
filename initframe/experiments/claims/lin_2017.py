"""Lin et al. 2017 (RetinaNet), section 4.1: a bias that says how rare a class is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import Digits, load_digits
from initframe.experiments.fit import learned


def build(at: Settings) -> nn.Module:
    """A small network with one output: the score of the rare class."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, at["width"]), nn.ReLU(), nn.Linear(at["width"], 1))


def rare(rate: int) -> Digits:
    """MNIST's digits, in which one in so many is a zero, and all others are none."""
    digits, _ = load_digits(5000)
    others = digits.images[digits.labels != 0]
    zeros = digits.images[digits.labels == 0][: max(1, round(len(others) / rate))]
    return Digits(torch.cat([zeros, others]), torch.cat([torch.ones(len(zeros)), torch.zeros(len(others))]))


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The mean of the images' losses, each a binary cross-entropy."""
    return binary_cross_entropy_with_logits(model(images).squeeze(1), labels)


def measure(run: Run) -> Mapping[str, Value]:
    """Train by gradient descent with momentum."""
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    data = rare(run.at["rate"])
    first = loss(run.model, data.images, data.labels).item()
    found = learned(run, optimizer, data, loss)
    early = found["curve"][: run.at["early"]]  # type: ignore[index]
    return {**found, "everything": first, "sum": sum(early), "worst": max(early)}


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Expected: ln 2 for even odds; −ln(1 − π) for a negative, and −ln π for one in so many."""
    yield Check("without: loss at step 0", "near ln 2 = 0.693", found.of("everything", start="without"), 0.5, 0.9)
    yield Check(
        "π = 0.01: loss at step 0",
        "near −ln 0.99 + 4.6 / 1000 = 0.0147",
        found.of("everything", start="π = 0.01"),
        0.005,
        0.03,
    )
    words = f"summed loss of the first {at['early']} steps"
    yield Check(f"{words}: with π / without", "far below 1", ratio(found, "sum"), high=0.5)
    yield Check("mean loss of the last tenth of the steps: with π / without", "—", ratio(found, "last"))


def ratio(found: Results, name: str) -> tuple[float, ...]:
    """A number with the prior over that without, one for each seed."""
    both = (found.of(name, start=start) for start in ("π = 0.01", "without"))
    return tuple(a / b for a, b in zip(*both, strict=True))


CLAIM = Claim(build, measure, checks, (Panel("curve", "training loss", "step", logarithmic=True),))
