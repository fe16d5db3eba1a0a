"""Populations beside torch's own way: python benchmarks/populate.py.

torch's way: deepcopy the module, initialize it with torch.nn.init, once for each seed, then stack_module_state. The
second figure is what dataclasses.replace(plan, model=module) saves of applying a pickled plan many times to one module.
Ratios of CPU time in one process with one thread; below 1, the first is faster.

Two cores of an AMD EPYC that others used too, torch 2.14, two runs: populate / torch 0.24 to 0.28 (tiny), 0.23 to 0.33
(wide); with / without the plan's model 0.44 to 0.49, 0.59 to 0.62.
"""

from __future__ import annotations

import copy
import pickle
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.func import stack_module_state

import initframe

ROUNDS = 7


def mlp(inputs: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


def by_torch(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)


def stacked_by_torch(net: nn.Module, members: int) -> None:
    models = [copy.deepcopy(net) for _ in range(members)]
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        by_torch(model)
    stack_module_state(models)


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    ours(), theirs()
    return statistics.median(seconds(ours) / seconds(theirs) for _ in range(ROUNDS))


def measured(name: str, net: nn.Module, members: int) -> None:
    plan = initframe.resolve("kaiming_relu", net)
    bare = pickle.loads(pickle.dumps(plan))
    known = replace(bare, model=net)

    def repeated(call: Callable[[int], object]) -> Callable[[], object]:
        return lambda: [call(seed) for seed in range(members)]

    stacked = ratio(lambda: initframe.populate(plan, range(members)), lambda: stacked_by_torch(net, members))
    again = repeated(lambda seed: initframe.apply(known, seed))
    saved = ratio(again, repeated(lambda seed: initframe.apply(bare, seed, module=net)))
    print(f"{name}: populate / torch {stacked:.2f}; apply with / without the plan's model {saved:.2f}")


def main() -> None:
    torch.set_num_threads(1)
    measured("256 tiny members", mlp(8, 32), 256)
    measured("32 wide members", mlp(256, 512), 32)


if __name__ == "__main__":
    main()
