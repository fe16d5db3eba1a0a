"""Whole recipes in a GPU's memory, where there is a GPU: what a CPU gets, bit for bit."""

import pytest
import torch
from torch import nn

import initframe
from initframe.stream import backend_of, digest
from tests.nets import Tower, bits, convnet, same_bits

if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

LAWS = {
    "uniform": {"a": -0.1, "b": 0.2},
    "normal": {"std": 0.02},
    "trunc_normal": {"std": 0.02, "a": "-2 * std", "b": "2 * std"},
    "constant": {"val": 0.5},
    "eye": {},
    "kaiming_normal": {},
    "sparse": {"sparsity": 0.3},
    "shrink_perturb": {"shrink": 0.5, "std": 0.1},
    "shift": {"by": 1},
}


def linear(dtype):
    """A layer with an odd number of elements, and values that depend on nothing."""
    layer = nn.Linear(129, 77, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, layer.weight.numel()).view_as(layer.weight))
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("law", LAWS)
def test_a_law_gives_the_bits_that_a_cpu_gets(law, dtype):
    here, there = linear(dtype), linear(dtype).cuda()
    recipe = {"rules": {"w": {"match": "weight", "init": law, **LAWS[law]}, "bias": "zeros"}}
    reports = [initframe.apply(initframe.resolve(recipe, model), seed=5, measure=True) for model in (here, there)]
    assert same_bits(here.weight, there.weight.cpu())
    assert there.weight.is_cuda
    assert digest(here.weight) == digest(there.weight)
    assert reports[0].plan.to_dict()["assignments"] == reports[1].plan.to_dict()["assignments"]


@pytest.mark.parametrize("build", [Tower, convnet, lambda: nn.LSTM(4, 6, 2), lambda: nn.MultiheadAttention(8, 2)])
def test_models_built_on_either_side_and_models_materialized_there_are_equal(build):
    matrices = {"where": "ndim > 1", "init": "normal", "std": 0.02}
    recipe = {"unmatched": "default", "rules": {"*weight*": matrices, "scale": {"init": "ones", "optional": True}}}
    here, there = build(), build().cuda()
    for model in (here, there):
        initframe.reinit(model, recipe, seed=3)
    with initframe.deferred():
        later = build()
    initframe.materialize(later, recipe, seed=3, device="cuda")
    for other in (there, later):
        assert all(parameter.is_cuda for parameter in other.parameters())
        assert all(same_bits(bits(here)[name], tensor.cpu()) for name, tensor in bits(other).items())


def test_orthogonal_agrees_within_its_promise():
    here, there = nn.Linear(300, 500), nn.Linear(300, 500).cuda()
    for model in (here, there):
        initframe.reinit(model, {"rules": {"weight": "orthogonal"}}, seed=3)
    assert float((here.weight - there.weight.cpu()).abs().max()) < 1e-6


def test_layouts_do_not_matter():
    here = nn.Conv2d(6, 10, 3)
    there = nn.Conv2d(6, 10, 3).cuda().to(memory_format=torch.channels_last)
    for model in (here, there):
        initframe.reinit(model, {"rules": {"weight": "kaiming_uniform"}}, seed=1)
    assert torch.equal(here.weight, there.weight.cpu())


def test_triton_serves_a_gpu_that_has_a_compiler():
    assert backend_of("cuda") == "triton"


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_plan_applied_again_waits_for_nothing_and_may_use_another_stream():
    here, there = Tower(), Tower().cuda()
    recipe = {"unmatched": "default", "rules": {"*weight*": {"where": "ndim > 1", "init": "normal"}, "scale": "ones"}}
    plans = [initframe.resolve(recipe, model) for model in (here, there)]
    for seed in range(5):
        initframe.apply(plans[0], seed)
        beside = torch.cuda.Stream() if seed == 4 else torch.cuda.current_stream()
        beside.wait_stream(torch.cuda.current_stream())
        torch.cuda.set_sync_debug_mode("error" if seed > 1 else "default")
        try:
            with torch.cuda.stream(beside):
                initframe.apply(plans[1], seed)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.cuda.current_stream().wait_stream(beside)
        assert all(same_bits(bits(here)[name], tensor.cpu()) for name, tensor in bits(there).items())
