"""A plan applied to other modules than the one that was resolved: copies, pipeline stages, other dtypes."""

import copy

import torch
from nets import Net, Tower, bits, changed, rules, same_bits
from torch import nn

import initframe

WEIGHTS = {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform"}
RECIPE = rules({"weights": WEIGHTS, "*.bias": "zeros"})


def test_a_plan_of_a_meta_model_fills_a_copy_with_memory():
    with torch.device("meta"):
        meta = Net()
    plan = initframe.resolve(RECIPE, meta)
    real, twin = Net(), Net()
    initframe.apply(plan, seed=5, module=real)
    initframe.reinit(twin, RECIPE, seed=5)
    assert changed(real, twin.state_dict()) == set()


def test_a_stage_gets_its_part_of_the_plan():
    full = Tower()
    plan = initframe.resolve(rules({"*": "normal"}), full)
    stage = nn.ModuleDict({"decoder": copy.deepcopy(full.decoder)})
    report = initframe.apply(plan, seed=5, module=stage)
    assert {r.name for r in report.results} == {f"decoder.{name}" for name, _ in full.decoder.named_parameters()}
    initframe.apply(plan, seed=5)
    assert changed(stage, {f"decoder.{k}": v for k, v in full.decoder.state_dict().items()}) == set()


def test_a_stage_that_has_one_name_of_a_tied_tensor_gets_the_tied_values():
    full = Tower()
    plan = initframe.resolve(rules({"embed.weight": "normal"}), full)
    stage = nn.ModuleDict({"head": nn.Linear(8, 11, bias=False)})
    initframe.apply(plan, seed=5, module=stage)
    initframe.apply(plan, seed=5)
    assert same_bits(stage.head.weight, full.embed.weight)


def test_a_copy_that_lost_its_tie_gets_the_same_values_twice():
    full, cut = Tower(), Tower()
    cut.head.weight = nn.Parameter(torch.zeros(11, 8))
    plan = initframe.resolve(rules({"embed.weight": "normal"}), full)
    initframe.apply(plan, seed=5, module=cut)
    assert same_bits(cut.head.weight, cut.embed.weight)


def test_another_dtype_holds_the_same_values_rounded():
    plan = initframe.resolve(RECIPE, Net())
    real, narrow = Net(), Net().bfloat16()
    initframe.apply(plan, seed=5, module=real)
    initframe.apply(plan, seed=5, module=narrow)
    assert changed(narrow, bits(real.bfloat16())) == set()
