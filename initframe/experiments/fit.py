"""The training loop: one step for every loss that is read from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from initframe.experiments.claim import Run
from initframe.experiments.digits import Digits

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
DIVERGED = 1e6
"""A loss above it ends a training."""


def classify(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of a model's outputs."""
    return cross_entropy(model(images), labels)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    digits: Digits,
    *,
    seed: int = 0,
    batch: int = 64,
    loss: Loss = classify,
) -> Iterator[float]:
    """Train a model in place, one step for every item that is taken; there is no last one.

    Args:
        model: the model; it is set to training mode before each epoch.
        optimizer: of its parameters.
        digits: images and labels to train on.
        seed: of the order of the images, which is drawn anew for each epoch.
        batch: how many images a step sees; the last step of an epoch sees the rest.
        loss: a function of model, images and labels.

    Yields:
        The loss of the step that was taken.

    >>> from itertools import islice
    >>> data = Digits(torch.ones(8, 1), torch.zeros(8, dtype=torch.long))
    >>> net = nn.Linear(1, 2)
    >>> losses = list(islice(fit(net, torch.optim.SGD(net.parameters(), lr=0.1), data, batch=4), 20))
    >>> losses[0] > losses[-1]
    True
    """
    order = torch.Generator().manual_seed(seed)
    while True:
        model.train()
        for chosen in torch.split(torch.randperm(len(digits.labels), generator=order), batch):
            optimizer.zero_grad()
            value = loss(model, digits.images[chosen], digits.labels[chosen])
            torch.autograd.backward(value)
            optimizer.step()
            yield value.item()


def losses(steps: Iterator[float], count: int) -> list[float]:
    """Take a number of steps, and stop early if the loss is not finite or far above any sensible one.

    Args:
        steps: from :func:`fit`.
        count: how many.

    Returns:
        The losses; those of steps that were not taken are infinite.

    >>> losses(iter([1.0, math.nan, 0.5]), 4)
    [1.0, inf, inf, inf]
    """
    taken: list[float] = []
    for value in steps:
        if not value < DIVERGED:
            break
        taken.append(value)
        if len(taken) == count:
            break
    return taken + [math.inf] * (count - len(taken))


def _call(model: nn.Module, images: Tensor) -> Tensor:
    answers: Tensor = model(images)
    return answers


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits, answers: Callable[[nn.Module, Tensor], Tensor] = _call) -> float:
    """Return the share of digits that a model in evaluation mode classifies correctly.

    Args:
        model: the model.
        digits: images and labels to measure on.
        answers: computes the model's outputs.
    """
    model.eval()
    return float((answers(model, digits.images).argmax(1) == digits.labels).float().mean())


def learned(
    run: Run, optimizer: torch.optim.Optimizer, digits: Digits, loss: Loss = classify
) -> dict[str, float | list[float]]:
    """Train the model of a run for its steps.

    Args:
        run: of a claim, with ``steps`` among its settings.
        optimizer: of the model's parameters.
        digits: images and labels to train on.
        loss: a function of model, images and labels.

    Returns:
        ``curve``, the loss of every step, its ``first`` and ``last``: the mean over the last tenth of the steps.
    """
    steps = run.at["steps"]
    curve = losses(fit(run.model, optimizer, digits, seed=run.seed, loss=loss), steps)
    tail = curve[-max(1, steps // 10) :]
    return {"curve": curve, "first": curve[0], "last": sum(tail) / len(tail)}
