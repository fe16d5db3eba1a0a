"""Tied tensors: which rule wins, which exclude counts, and what a kept name means."""

import copy

import pytest
import torch
from nets import Tower, bits, changed, rules, same_bits
from refusals import refused
from torch import nn

import initframe
from initframe.construction.deferred import deferred, materialize


class Autoencoder(nn.Module):
    """An encoder and a decoder on the same memory."""

    def __init__(self, view=lambda w: w.t(), inputs=6, width=4):
        super().__init__()
        self.encoder = nn.Linear(inputs, width)
        self.decoder = nn.Linear(width, inputs)
        self.decoder.weight = nn.Parameter(view(self.encoder.weight))


def test_exclude_sees_the_names_that_match_does_not():
    recipe = {"embed.weight": "ones", "head.weight": {"init": "zeros", "exclude": "embed.*", "optional": True}}
    assert initframe.resolve(rules(recipe), Tower())["head.weight"].rule.name == "embed.weight"
    recipe = {"embed.weight": {"init": "ones", "exclude": "head.*", "optional": True}, "head.weight": "zeros"}
    assert initframe.resolve(rules(recipe), Tower())["embed.weight"].rule.name == "head.weight"


def test_an_exclude_that_takes_a_tied_tensor_away_is_no_misspelling():
    recipe = rules({"embed.weight": "ones", "h": {"match": "h*.weight", "init": "zeros", "exclude": "embed.*"}})
    (problem,) = refused(initframe.resolve, recipe, Tower())
    assert "leaves nothing" in problem.fact
    recipe["rules"]["h"]["match"] = ["h*.weight", "encoder.*.weight"]
    assert initframe.resolve(recipe, Tower())["embed.weight"].rule.name == "embed.weight"


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("kept", "filled"), [("embed.weight", "head.weight"), ("head.weight", "embed.weight")])
def test_keep_on_another_name_of_a_tie_is_no_conflict_and_does_not_win(order, kept, filled):
    recipe = dict([(kept, "keep"), (filled, "ones")][::order])
    model = Tower()
    plan = initframe.resolve(rules(recipe), model)
    assert plan[kept].rule.name == filled
    assert plan[kept].shadowed == (kept,)
    initframe.apply(plan)
    assert (model.head.weight[0] == 1).all()


def test_keep_on_a_name_that_the_other_rule_names_wins_as_the_last_rule():
    plan = initframe.resolve(rules({"*.weight": "ones", "head.weight": "keep"}), Tower())
    assert plan["embed.weight"].rule.name == "head.weight"
    plan = initframe.resolve(rules({"head.weight": "keep", "scale": "ones"}, unmatched="default"), Tower())
    assert plan["embed.weight"].rule.name == "head.weight"


@pytest.mark.parametrize("view", [lambda w: w.t(), lambda w: w.t().unsqueeze(0).squeeze(0)])
@pytest.mark.parametrize("inputs", [6, 4])
def test_a_transposed_tie_is_filled_once_under_its_first_name(view, inputs):
    model = Autoencoder(view, inputs)
    initframe.reinit(model, rules({"*.weight": "xavier_normal", "*.bias": "zeros"}), seed=3)
    alone = nn.ModuleDict({"encoder": nn.Linear(inputs, 4)})
    initframe.reinit(alone, rules({"encoder.weight": "xavier_normal"}), seed=3)
    assert same_bits(model.encoder.weight, alone["encoder"].weight)
    assert same_bits(model.decoder.weight, alone["encoder"].weight.t())


def test_a_rule_that_names_the_view_fills_it_through_the_tie():
    model = Autoencoder()
    initframe.reinit(model, rules({"decoder.weight": {"init": "constant", "val": 2}, "encoder.weight": "keep"}))
    assert (model.encoder.weight == 2).all()


def test_a_view_is_a_view_again_after_materialize():
    with deferred():
        model = Autoencoder()
    materialize(model, rules({"*.weight": "xavier_normal", "*.bias": "zeros"}), seed=3)
    direct = Autoencoder()
    initframe.reinit(direct, rules({"*.weight": "xavier_normal", "*.bias": "zeros"}), seed=3)
    assert model.decoder.weight.data_ptr() == model.encoder.weight.data_ptr()
    assert changed(model, bits(direct)) == set()


@pytest.mark.parametrize("inputs", [6, 4])
def test_a_view_that_is_a_tensor_of_its_own_elsewhere_is_refused(inputs):
    plan = initframe.resolve(rules({"*.weight": "xavier_normal"}), Autoencoder(inputs=inputs))
    apart = Autoencoder(lambda w: w.detach().t().clone(), inputs)
    before = bits(apart)
    assert any(p.subject == "decoder.weight" for p in refused(initframe.apply, plan, module=apart))
    assert changed(apart, before) == set()


def test_torchs_generator_draws_no_view():
    model = Autoencoder()
    (problem,) = refused(initframe.reinit, model, rules({"*.weight": "normal"}), seed=0, generator="torch")
    assert problem.subject == "encoder.weight"


def overlapping():
    """Two tensors that share two elements."""
    model, flat = nn.Module(), torch.arange(10.0)
    model.one, model.other = nn.Parameter(flat[:6]), nn.Parameter(flat[4:])
    return model


def test_a_partial_overlap_is_filled_if_the_other_side_is_kept():
    for keep, fill, kept in (("one", "other", slice(0, 4)), ("other", "one", slice(2, 6))):
        model = overlapping()
        before = getattr(model, keep).detach().clone()
        report = initframe.reinit(model, rules({keep: "keep", fill: "zeros"}))
        assert not getattr(model, fill).any()
        assert same_bits(getattr(model, keep)[kept], before[kept])
        assert any(keep in note for note in report.plan[fill].slot.notes)


@pytest.mark.parametrize("recipe", [{"*": "zeros"}, {"one": "zeros"}, {"*": "keep", "one": "ones", "other": "zeros"}])
def test_a_partial_overlap_is_refused_if_no_side_is_kept(recipe):
    model = overlapping()
    before = copy.deepcopy(bits(model))
    problems = refused(initframe.reinit, model, rules(recipe))
    assert any("keep" in problem.fix for problem in problems)
    assert changed(model, before) == set()


def test_of_three_that_overlap_two_must_be_kept():
    model = overlapping()
    model.third = nn.Parameter(model.one.data[5:])
    refused(initframe.reinit, model, rules({"one": "keep", "other": "zeros", "third": "ones"}))
    initframe.reinit(model, rules({"one": "keep", "other": "keep", "third": "zeros"}))
    assert model.one.tolist() == [0, 1, 2, 3, 4, 0]
