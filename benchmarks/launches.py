"""What applying a plan costs the host before a GPU has work, on a machine without a GPU.

    python benchmarks/launches.py [rounds]

`apply` of a plan that was applied before takes its way to a GPU: the table of draws, what Triton does in front of a
launch, constants written together. What stands in for a GPU is the CPU's memory and a driver of Triton that counts
launches and draws nothing; the loop's tensors have one element each. So the CUDA driver's part of each call is missing,
for both sides; the calls are counted: launches, and a copy of the keys. Processor time of one thread, the least of the
rounds.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from measuring import built, loop, rules
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import initframe
from initframe import stream
from initframe.stream import execution

CALLS = 100
"""Calls of one turn."""


class Driver:
    """A driver of Triton for a card that is not there: kernels are compiled, and launches counted."""

    def __init__(self) -> None:
        self.launches = 0
        self.utils = self

    def get_current_target(self) -> Any:
        return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_device_properties(self, _device: int) -> dict[str, int]:
        return {"max_shared_mem": 1 << 17}

    def load_binary(self, *_: object) -> tuple[int, int, int, int, int]:
        return 1, 1, 0, 0, 1024

    def unload_module(self, _module: int) -> None:
        pass

    def launcher_cls(self, *_: object) -> Callable[..., None]:
        def launch(*_: object) -> None:
            self.launches += 1

        return launch


class Counted(TorchDispatchMode):
    """Count the operations that would be launches: those that write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.writes += function.overloadpacket.__name__.endswith("_")
        return function(*args, **(kwargs or {}))


@contextmanager
def served(driver: Driver) -> Iterator[None]:
    """Have the CPU's memory served as a GPU's is."""
    triton = importlib.import_module("triton")
    cuda = importlib.import_module("initframe.stream.cuda")
    before = execution.compiled, execution.launched
    triton.runtime.driver.set_active(driver)
    execution.compiled, execution.launched = (lambda _: None), (lambda _: cuda)
    try:
        yield
    finally:
        execution.compiled, execution.launched = before


def small(name: str) -> nn.Module:
    """A model of torchvision's whose parameters have one element each."""
    model = built(name)
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty([1] * parameter.ndim)
    return model


def microseconds(function: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(CALLS):
            function()
        taken.append((time.process_time() - start) / CALLS * 1e6)
    return min(taken)


def row(name: str, driver: Driver, rounds: int) -> str:
    model, tiny = built(name), small(name)
    plan = initframe.resolve(rules("xavier_uniform"), model)
    ours, theirs = (lambda: initframe.apply(plan, seed=1)), (lambda: loop(tiny, nn.init.xavier_uniform_))
    for _ in range(3):
        ours()
    driver.launches = 0
    with Counted() as mine:
        ours()
    calls = driver.launches + mine.writes + 1  # the keys are copied
    with Counted() as other:
        theirs()
    names = [assignment.slot.name for assignment in plan.assignments if assignment.slot.ndim > 1]
    parts = (
        ours,
        lambda: plan.latest.holds(model),
        lambda: list(map(stream.keys_of(1), names)),
        theirs,
    )
    apply, holds, keys, by_hand = (microseconds(part, rounds) for part in parts)
    numbers = len(plan.assignments), apply, holds, keys, by_hand
    return f"| {name} | {' | '.join(f'{n:.0f}' for n in numbers)} | {by_hand / apply:.2f} | {calls} | {other.writes} |"


def main(rounds: int = 7) -> None:
    torch.set_num_threads(1)
    driver = Driver()
    print("| model | tensors | apply, µs | model unchanged? | keys | loop, µs | loop / apply | calls | loop's |")
    print("|---|---|---|---|---|---|---|---|---|")
    with served(driver):
        for name in ("alexnet", "resnet50", "vit_b_16"):
            print(row(name, driver, rounds), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
