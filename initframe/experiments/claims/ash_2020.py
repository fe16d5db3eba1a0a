"""Ash & Adams 2020, figure 1: the generalization gap of a warm start, and shrink-and-perturb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from initframe.applying.apply import apply
from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import Digits, load_digits
from initframe.experiments.fit import accuracy, fit
from initframe.experiments.networks import mlp
from initframe.resolver.resolve import resolve


def build(at: Settings) -> nn.Module:
    """Three hidden layers without any regularization."""
    return mlp(784, at["width"], 3, nn.ReLU)


def until_fitted(run: Run, digits: Digits) -> int:
    """Train until all images are recognized, and count the epochs."""
    optimizer = torch.optim.Adam(run.model.parameters(), lr=run.at["lr"])
    steps, epoch = fit(run.model, optimizer, digits, seed=run.seed), -(-len(digits.labels) // 64)
    for number in range(1, run.at["epochs"] + 1):
        for _ in range(epoch):
            next(steps)
        if accuracy(run.model, digits) >= run.at["fitted"]:
            return number
    return int(run.at["epochs"])


def measure(run: Run) -> Mapping[str, Value]:
    """Train on half of the images, then on all: from what was learned, from it shrunk and perturbed, or from new."""
    (images, labels), test = load_digits(5000)
    count = run.at["images"]
    everything = Digits(images[:count], labels[:count])
    first = Digits(images[: count // 2], labels[: count // 2])
    found: dict[str, Value] = {}
    for name in ("fresh", "warm", "shrunk"):
        apply(run.report.plan, run.seed, module=run.model)
        if name != "fresh":
            until_fitted(run, first)
        if name == "shrunk":
            apply(resolve(run.at["perturb"], run.model), run.seed)
        found[f"{name} epochs"] = float(until_fitted(run, everything))
        found[name] = accuracy(run.model, test)
    fresh = float(found["fresh"])  # type: ignore[arg-type]
    return {**found, **{f"{name} gap": fresh - float(found[name]) for name in ("warm", "shrunk")}}  # type: ignore[arg-type]


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Compare test accuracies of networks that fit all training images."""
    count = at["sweep"]["images"][-1]
    warm, shrunk = (found.of(f"{name} gap", images=count) for name in ("warm", "shrunk"))
    words = f"{count} images: test accuracy of a fresh start minus"
    yield Check(f"{words} a warm start's", "> 0", warm, 0.0)
    yield Check(f"{words} shrink-and-perturb's", "about 0", shrunk)
    closed = tuple(a - b for a, b in zip(warm, shrunk, strict=True))
    yield Check("the gap that shrink-and-perturb closes", "> 0", closed, 0.0)
    faster = (found.of(f"{name} epochs", images=count) for name in ("shrunk", "fresh"))
    yield Check(
        "epochs to fit: shrink-and-perturb / fresh",
        "below 1",
        tuple(a / b for a, b in zip(*faster, strict=True)),
        high=1.0,
    )


CLAIM = Claim(
    build,
    measure,
    checks,
    (
        Panel(("fresh", "warm", "shrunk"), "test accuracy", "images", wide=True),
        Panel(("fresh epochs", "warm epochs", "shrunk epochs"), "epochs to fit all images", "images", wide=True),
    ),
)
