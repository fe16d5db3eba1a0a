"""The coordinate check of μP: how much an output changes in the first steps of Adam, over widths.

    python benchmarks/coordinate_check.py [--widths 64 … 2048] [--steps 3] [--seeds 3]

The slope of log mean|Δf| over log width is about 0 under μP (within ±0.1), and larger under the standard
parametrization, whose learning rate must be tuned again at every width. A readout that starts at random gives first
outputs of size 1/√width, which disturb the first steps of small widths: μP in the limit, but a slope below −0.1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

import initframe

Recipe = Callable[[nn.Module], Any]


def network(width: int) -> nn.Sequential:
    """Two hidden matrices of the width between 16 inputs and 8 outputs."""
    layers = nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(width, 8))


def standard(_: nn.Module) -> Any:
    """Kaiming, one learning rate for all."""
    return {"rules": {"*.weight": {"init": "kaiming_normal", "nonlinearity": "relu"}, "*.bias": "zeros"}}


def mup(_: nn.Module, **numbers: float) -> Any:
    """The preset, with a network of half the smallest width as the base."""
    base = {slot.name: list(slot.shape) for slot in initframe.survey(network(32)).slots}
    recipe = initframe.load_recipe("mup").to_dict()
    return recipe | {"base": base, "vars": recipe["vars"] | {"mup_gain": "relu"} | numbers, "companions": "heeded"}


def mup_at_random(model: nn.Module) -> Any:
    """The same, with a readout that starts at random, as table 3 has it."""
    return mup(model, readout=1)


def change(recipe: Recipe, width: int, seed: int, steps: int) -> float:
    """Mean |Δf| on 64 random inputs after some steps of Adam."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(64, size, generator=generator) for size in (16, 8))
    model = network(width)
    report = initframe.reinit(model, recipe(model), seed=seed)
    optimizer = torch.optim.Adam(report.param_groups(lr=1e-3, weight_decay=0.0))
    before = model(x).detach()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return (model(x).detach() - before).abs().mean().item()


def slope(widths: Sequence[int], changes: Sequence[float]) -> float:
    """Of log change over log width, by least squares."""
    logs = torch.tensor([list(widths), list(changes)], dtype=torch.float64).log()
    across, up = logs - logs.mean(1, keepdim=True)
    return float(across @ up / (across @ across))


def main() -> None:
    """Print one line per recipe."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--seeds", type=int, default=3)
    given = arguments.parse_args()
    print("mean|Δf| at widths", *given.widths, "| slope")
    for recipe in (mup, mup_at_random, standard):
        changes = [
            sum(change(recipe, width, seed, given.steps) for seed in range(given.seeds)) / given.seeds
            for width in given.widths
        ]
        shown = " ".join(f"{value:.4f}" for value in changes)
        print(f"{recipe.__name__:14} {shown} | {slope(given.widths, changes):+.3f}", flush=True)


if __name__ == "__main__":
    main()
