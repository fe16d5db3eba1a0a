"""Sokar et al. 2023 (ReDo), figures 2 and 3: dormant units under changing targets, and their resets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from initframe.applying.apply import reinit
from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import Digits, load_small_digits
from initframe.experiments.fit import fit, losses
from initframe.experiments.networks import mlp

HIDDEN = (1, 3)
"""Names of the hidden layers; the layer that reads one has a name that is two more."""


def build(at: Settings) -> nn.Module:
    """Two hidden layers of rectifiers."""
    return mlp(64, at["width"], len(HIDDEN), nn.ReLU)


def dormant(model: nn.Module, images: Tensor, threshold: float) -> dict[int, list[int]]:
    """Find, for each hidden layer, the units whose mean activation is at most a share of their layer's."""
    x, found = images, {}
    with torch.no_grad():
        for number, layer in enumerate(model.children()):
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                scores = x.mean(0) / x.mean().clamp_min(1e-9)
                found[number - 1] = torch.nonzero(scores <= threshold).flatten().tolist()
    return found


def reset(units: Mapping[int, list[int]]) -> dict[str, Any]:
    """Write the recipe of a reset: new incoming weights, and zero for the outgoing ones, which are columns."""
    rules: dict[str, Any] = {}
    some = {layer: found for layer, found in units.items() if found}
    for layer, found in some.items():
        weights = {"init": "kaiming_normal", "nonlinearity": "relu"}
        rules[f"weights of {layer}"] = {"match": f"{layer}.weight", "units": found, **weights}
        rules[f"biases of {layer}"] = {"match": f"{layer}.bias", "units": found, "init": "zeros"}
    # A layer may be written by rows and by columns, and a tensor is written by one rule: two recipes, not one.
    columns = {"axes": ["in", "out"], "init": "zeros"}
    readers = {f"readers of {n}": {"match": f"{n + 2}.weight", "units": found, **columns} for n, found in some.items()}
    return {"rows": {"rules": rules}, "columns": {"rules": readers}}


def measure(run: Run) -> Mapping[str, Value]:
    """Train on labels that are shuffled anew for every task, with resets or without."""
    digits, _ = load_small_digits()
    optimizer = torch.optim.Adam(run.model.parameters(), lr=run.at["lr"])
    shares, ends = [], []
    for task in range(run.at["tasks"]):
        order = torch.randperm(len(digits.labels), generator=torch.Generator().manual_seed(1000 * run.seed + task))
        data = Digits(digits.images, digits.labels[order])
        steps = fit(run.model, optimizer, data, seed=task)
        for _ in range(run.at["steps"] // run.at["every"]):
            curve = losses(steps, run.at["every"])
            units = dormant(run.model, digits.images, run.at["threshold"])
            if run.at["start"] == "redo":
                for recipe in reset(units).values():
                    reinit(run.model, recipe, seed=run.seed + task, optimizer=optimizer)
        shares.append(sum(map(len, units.values())) / (len(HIDDEN) * run.at["width"]))
        ends.append(sum(curve) / len(curve))
    return {"dormant": shares, "loss": ends, "share": shares[-1], "first": ends[0], "last": ends[-1]}


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Compare the last task's share of dormant units, and its loss."""
    words = f"dormant units after {at['tasks']} tasks"
    yield Check(f"without resets: {words}", "their share grows", found.of("share", start="none"), 0.2)
    yield Check(f"redo: {words}", "near 0", found.of("share", start="redo"), high=0.15)
    gain = tuple(a - b for a, b in zip(found.of("last", start="none"), found.of("last", start="redo"), strict=True))
    yield Check("loss of the last task: without resets minus redo", "> 0: learning goes on", gain, 0.0)


CLAIM = Claim(
    build,
    measure,
    checks,
    (Panel("dormant", "share of dormant units", "task"), Panel("loss", "training loss at the task's end", "task")),
)
