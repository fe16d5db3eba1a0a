"""What `apply` asks of a GPU, without one: its launches, that nothing waits, and the bits by Triton's interpreter."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import initframe
from initframe.applying import draw
from initframe.fills import Constant
from initframe.stream import execution
from tests.nets import Net, Tower, convnet, rules, same_bits

pytest.importorskip("triton")

WAITING = {
    "item", "tolist", "numpy", "cpu", "equal", "allclose", "is_nonzero", "nonzero", "argwhere", "masked_select",
    "unique", "__bool__", "__int__", "__float__", "__index__", "__contains__", "_local_scalar_dense",
}  # fmt: skip
"""What returns to Python, or to the host, something that a GPU has yet to compute."""


class Asked(TorchFunctionMode):
    """Note what a GPU would be waited for, called from Python."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", str(function))
        # A list is copied from memory that is not pinned. A tensor's own device is a device; the host's is a "cpu".
        copied = name == "tensor" and isinstance((kwargs or {}).get("device"), torch.device)
        if name in WAITING or copied:
            self.noted.append(name)
        return function(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    """Note what a GPU would be waited for, called by torch itself."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in WAITING:
            self.noted.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@contextmanager
def waits():
    """Note every call that waits for a GPU if the memory is one's."""
    noted = []
    with Asked(noted), Dispatched(noted):
        yield noted


@pytest.fixture
def gpu(monkeypatch):
    """Have tensors served as CUDA's are; gives the launches, which do nothing."""
    from initframe.stream import cuda

    launched = []

    def kernel(*kind):
        class Kernel:
            def __getitem__(self, grid):
                return lambda *_, **options: launched.append((*kind, *grid))

        return Kernel()

    monkeypatch.setattr(cuda, "fill_kernel", kernel)
    monkeypatch.setattr(execution, "compiled", lambda _: None)
    monkeypatch.setattr(execution, "launched", lambda _: cuda)
    return launched


def mixed():
    """A net of two dtypes, rows of every kind, and many constants."""
    net = nn.Sequential(convnet(), nn.Linear(35, 7).bfloat16(), nn.ModuleDict({"embed": nn.Embedding(9, 4)}))
    net[1].weight = nn.Parameter(torch.empty(7, 40, dtype=torch.bfloat16)[:, 2:37])
    return net


DRAWN = {"*": "zeros", "*.weight": {"where": "ndim > 1", "init": "normal"}, "2.*": {"init": "xavier_uniform"}}


def test_a_plan_takes_one_launch_for_each_distribution_and_dtype_and_its_table_is_built_once(gpu, monkeypatch):
    from initframe.stream import cuda

    model = mixed()
    plan = initframe.resolve(rules(DRAWN), model)
    for seed in range(2):
        initframe.apply(plan, seed)
    monkeypatch.setattr(cuda.Table, "__init__", None)  # a table would be built
    gpu.clear()
    initframe.apply(plan, 2)
    assert sorted(kind for *kind, _ in gpu) == [["normal", "bfloat16"], ["normal", "float32"], ["uniform", "float32"]]


@pytest.mark.parametrize("build", [mixed, convnet, Net, Tower])
def test_nothing_waits_for_a_gpu(gpu, build):
    plan = initframe.resolve(rules({"*": "ones", "*weight": {"where": "ndim > 1", "init": "normal"}}), build())
    for seed in range(4):
        with waits() as noted:
            initframe.apply(plan, seed)
        assert noted == []
    assert gpu


def test_units_and_padding_wait_for_nothing(gpu):
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=2), nn.Linear(4, 6))
    recipe = {"*": "normal", "1.weight": {"init": "xavier_normal", "units": [3, 1]}}
    plan = initframe.resolve({**rules(recipe), "unmatched": "keep"}, model)
    for seed in range(4):
        with waits() as noted:
            initframe.apply(plan, seed)
        assert noted == []


class Siblings(nn.Module):
    """Layers of one class and one shape under one parent: any of them might be a copy of another."""

    def __init__(self):
        super().__init__()
        for name in "abcdef":
            setattr(self, name, nn.Linear(4, 4))


def test_what_may_be_copies_is_read_at_once(gpu):
    plan = initframe.resolve(rules({"*": "normal"}), Siblings())
    with waits() as noted:
        initframe.apply(plan, 0)
    assert noted.count("cpu") == 1  # what follows it compares on the host
    assert "equal" not in noted


def test_the_watch_sees_what_waits():
    x = torch.zeros(3)
    calls = (
        x.sum().item, x.tolist, lambda: bool(x.any()), lambda: int(x[0]), x.cpu, lambda: torch.equal(x, x), x.nonzero,
        lambda: torch.tensor([1], device=x.device), lambda: 1 if x[0] else 0,
    )  # fmt: skip
    for call in calls:
        with waits() as noted:
            call()
        assert noted, call


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 0.1, 1e-7, 3e-45, 6e4])
def test_constants_that_are_written_together_have_the_bits_of_those_written_alone(dtype, value):
    outs = [torch.full((n,), 7, dtype=dtype) for n in (1, 0, 5, 300)]
    draw._fill_together(value, outs)
    assert all(same_bits(out, torch.full_like(out, value)) for out in outs)


def test_constants_are_written_together_where_launches_cost():
    def kind(value, n=3, **form):
        return draw._constant_kind(Constant(value), torch.empty(n, **form))

    assert kind(1.0, device="meta") == kind(1.0, n=9, device="meta") != kind(2.0, device="meta")
    # torch would write a list of several dtypes one by one, as it does on a CPU anyway
    assert kind(0.0, device="meta") != kind(0.0, device="meta", dtype=torch.bfloat16)
    assert kind(0.0) == kind(0.0, dtype=torch.bfloat16)
    assert kind(0.0, dtype=torch.int64) is not None
    for alone in (kind(1.0), kind(-0.0), kind(-0.0, device="meta"), kind(1.0, n=draw.FEW + 1, device="meta")):
        assert alone is None


APPLIED = """
import copy
import torch
from torch import nn
import initframe
from initframe.stream import cuda, execution
from tests.applying.test_launches import APPLIED_RULES, mixed
from tests.nets import rules, same_bits

cuda.BLOCKS = 64  # the interpreter computes whole tiles
compiled = execution.compiled

def served(by_gpu):
    execution.compiled = (lambda _: None) if by_gpu else compiled
    execution.launched = (lambda _: cuda) if by_gpu else (lambda _: None)

def moved(model):
    model[1].weight = nn.Parameter(torch.empty(35, 7, dtype=torch.bfloat16).t())

def reallocated(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()

def widened(model):
    model[0].double()

model = mixed()
plan = initframe.resolve(rules(APPLIED_RULES), model)
for change in (None, None, reallocated, None, moved, widened):
    if change:
        change(model)
    if change is widened:
        plan = initframe.resolve(rules(APPLIED_RULES), model)
    for seed in (5, 2**64 - 1) if change is None else (6,):
        twin = copy.deepcopy(model)
        served(False)
        initframe.reinit(twin, rules(APPLIED_RULES), seed=seed)
        served(True)
        initframe.apply(plan, seed)
        for name, expected in twin.state_dict().items():
            assert same_bits(model.state_dict()[name], expected), (change, seed, name)
"""
APPLIED_RULES = {
    "*": "zeros",
    "*.weight": {"where": "ndim > 1", "init": "trunc_normal", "std": 0.02},
    "0.2.weight": {"init": "normal", "split": 4},
    "2.*": {"init": "xavier_uniform"},
    "0.1.weight": "ones",
}


@pytest.mark.slow
def test_the_interpreter_applies_a_plan_with_the_bits_of_a_cpu(tmp_path):
    root = os.fspath(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "TRITON_CACHE_DIR": os.fspath(tmp_path), "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", APPLIED]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
