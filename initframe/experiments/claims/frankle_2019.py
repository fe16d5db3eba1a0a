"""Frankle & Carbin 2019, figure 1: a pruned network from its own start, and from another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from initframe.applying.apply import apply
from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_digits
from initframe.experiments.fit import accuracy, fit, losses
from initframe.experiments.networks import mlp
from initframe.experiments.prune import Masks, keep, largest


def build(at: Settings) -> nn.Module:
    """Two hidden layers, as the paper's LeNet has."""
    return mlp(784, at["width"], 2, nn.ReLU)


def measure(run: Run) -> Mapping[str, Value]:
    """Train and prune, round by round; then train what is left from the same numbers and from others."""
    masks: Masks = {}
    whole = train(run, run.seed, masks)
    for number in range(run.at["rounds"]):
        masks = largest(run.model, run.at["share"] ** ((number + 1) / run.at["rounds"]))
        ticket = train(run, run.seed, masks)
    fresh = train(run, run.seed + 1000, masks)
    last = {"whole network": whole, "ticket": ticket, "fresh": fresh}
    return {**last, "gap": ticket[-1] - fresh[-1], "cost": whole[-1] - ticket[-1], "early": ticket[0] - fresh[0]}


def train(run: Run, seed: int, masks: Masks) -> list[float]:
    """Start from a seed, train under masks, and measure the accuracy after each epoch."""
    digits, test = load_digits(run.at["images"])
    apply(run.report.plan, seed, module=run.model)
    hooks = keep(run.model, masks)
    steps = fit(run.model, torch.optim.Adam(run.model.parameters(), lr=run.at["lr"]), digits, seed=run.seed)
    epoch, found = -(-len(digits.labels) // 64), []
    for _ in range(run.at["epochs"]):
        losses(steps, epoch)
        found.append(accuracy(run.model, test))
    for hook in hooks:
        hook.remove()
    return found


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """The ticket reaches the whole network's accuracy, and a fresh start does not."""
    words = f"{at['share']:.1%} of the weights left"
    yield Check(
        f"{words}: accuracy of the whole network minus the ticket's", "about 0 or below", found.of("cost"), high=0.03
    )
    yield Check(f"{words}: accuracy of the ticket minus a fresh start's, at the end", "> 0", found.of("gap"), 0.0)
    yield Check(f"{words}: the same after the first epoch", "> 0: it learns faster", found.of("early"), 0.02)


CLAIM = Claim(build, measure, checks, (Panel(("whole network", "ticket", "fresh"), "test accuracy", "epoch"),))
