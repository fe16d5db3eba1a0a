"""What a reset of a small model costs: python benchmarks/small.py [rounds].

`apply` of a plan that was applied before, and `reinit` with a loaded recipe, next to a loop of torch.nn.init over the
same tensors. Processor time by turns in one run; the least of the rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

import initframe

CALLS = 200
"""Calls of one turn."""


def policy() -> nn.Module:
    """A policy of reinforcement learning: 6 tensors, 4,866 elements."""
    return nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))


def digits() -> nn.Module:
    """A net for digits: 6 tensors, 109,386 elements."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


CASES: dict[str, tuple[Callable[[], nn.Module], str, Callable[[torch.Tensor], object]]] = {
    "policy, xavier_uniform": (policy, "xavier_uniform", nn.init.xavier_uniform_),
    "policy, orthogonal": (policy, "orthogonal", nn.init.orthogonal_),
    "digits, kaiming_normal": (digits, "kaiming_normal", nn.init.kaiming_normal_),
}


def microseconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(CALLS):
        function()
    return (time.process_time() - start) / CALLS * 1e6


def row(what: str, threads: int, rounds: int) -> str:
    build, init, theirs = CASES[what]
    model = build()
    recipe = initframe.load_recipe({"rules": {"*.weight": init, "*.bias": "zeros"}})
    plan = initframe.resolve(recipe, model)
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]

    def loop() -> None:
        for layer in layers:
            theirs(layer.weight)
            nn.init.zeros_(layer.bias)

    sides = (lambda: initframe.apply(plan, seed=1), lambda: initframe.reinit(model, recipe, seed=1), loop)
    torch.set_num_threads(threads)
    taken = [[microseconds(side) for side in sides] for _ in range(rounds)]
    apply, reinit, by_hand = map(min, zip(*taken, strict=True))
    cells = what, threads, *(f"{one:.0f}" for one in (by_hand, apply, reinit))
    return f"| {' | '.join(map(str, cells))} | {apply / by_hand:.2f} | {reinit / by_hand:.1f} |"


def main(rounds: int = 7) -> None:
    print("| model | threads | loop, µs | apply, µs | reinit, µs | apply / loop | reinit / loop |")
    print("|---|---|---|---|---|---|---|")
    for what in CASES:
        for threads in (1, 2):
            print(row(what, threads, rounds), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
