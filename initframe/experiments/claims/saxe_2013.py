"""Saxe, McClelland & Ganguli 2013: learning time of deep linear networks by depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import Digits, load_small_digits
from initframe.experiments.fit import DIVERGED, fit


def build(at: Settings) -> nn.Module:
    """Square linear layers without biases, and a readout."""
    width = at["width"]
    return nn.Sequential(
        *(nn.Linear(width, width, bias=False) for _ in range(at["depth"])), nn.Linear(width, 10, bias=False)
    )


def whitened(width: int) -> Digits:
    """Inputs that have the digits' products with the labels, and no correlations: one for each principal direction."""
    digits, _ = load_small_digits()
    directions = torch.linalg.svd(digits.images.flatten(1), full_matrices=False).U[:, :width]
    return Digits(torch.eye(width), directions.T @ (one_hot(digits.labels, 10) - 0.1) / width**0.5)


def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared error, as in the paper."""
    half: Tensor = (model(inputs) - targets).square().sum() / 2
    return half


def measure(run: Run) -> Mapping[str, Value]:
    """Count the steps of gradient descent to the target error, at the best learning rate of a grid."""
    data = whitened(run.at["width"])
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    times = []
    for rate in run.at["rates"]:
        run.model.load_state_dict(start)
        optimizer = torch.optim.SGD(run.model.parameters(), lr=rate / run.at["depth"])
        steps = islice(fit(run.model, optimizer, data, batch=run.at["width"], loss=loss), run.at["steps"])
        times.append(_first_below(steps, run.at["target"] * data.labels.square().sum().item() / 2, run.at["steps"]))
    return {"time": float(min(times))}


def _first_below(steps: Iterator[float], target: float, most: int) -> int:
    """The number of the first step whose loss is below a target; the most there are, if none is."""
    for number, value in enumerate(steps):
        if value < target:
            return number
        if not value < DIVERGED:
            break
    return most


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Compare the deepest network's learning time with the shallowest one's."""
    shallow, deep = at["sweep"]["depth"][0], at["sweep"]["depth"][-1]
    grows = {
        start: tuple(
            b / a
            for a, b in zip(
                found.of("time", start=start, depth=shallow), found.of("time", start=start, depth=deep), strict=True
            )
        )
        for start in ("orthogonal", "scaled normal")
    }
    words = f"learning time of {deep} layers / of {shallow}"
    yield Check(f"orthogonal: {words}", "1: it does not depend on depth", grows["orthogonal"], 0.5, 2.0)
    yield Check(f"scaled normal: {words}", "it grows with depth", grows["scaled normal"], 3.0)


CLAIM = Claim(
    build, measure, checks, (Panel("time", "steps to the target error", "depth", logarithmic=True, wide=True),)
)
