"""Claims of papers: each experiment runs at its reduced size and shows the direction of its claim."""

from __future__ import annotations

import json
import math
import re
from itertools import count, islice
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from torch import nn

import initframe
from initframe.experiments import claim, claim_job, train
from initframe.experiments.claim import Check, Claim, Outcome, Panel, carry_out, numbers_of
from initframe.experiments.claims import CLAIMS
from initframe.experiments.claims.sokar_2023 import dormant, reset
from initframe.experiments.claims.xiao_2018 import singular_values
from initframe.experiments.claims_page import page
from initframe.experiments.digits import Digits, load_small_digits
from initframe.experiments.fit import fit, losses
from initframe.experiments.networks import mlp
from initframe.experiments.outcome import render, spread, to_dict
from initframe.experiments.picture import picture
from initframe.recipe.files import read_yaml
from initframe.recipe.presets import conf_directory

# Checks that need the full size, or that fail at any size here; all others of an experiment have to hold.
NOT_SHOWN = {"frankle_2019": "whole network minus", "ash_2020": ""}


def config(name):
    return read_yaml(conf_directory() / "experiment" / f"{name}.yaml")


# --- every claim -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_a_reduced_experiment_shows_the_direction_of_its_claim(run, name):
    out = run(train.main, f"experiment={name}", "reduced=true", "hydra.run.dir=run")
    data = json.loads(Path("run/results.json").read_text())
    missed = [check["what"] for check in data["checks"] if check["holds"] == "no"]
    assert [what for what in missed if NOT_SHOWN.get(name, "-") not in what] == []
    assert data["numbers"]["reduced"] == config(name)["claim"]["reduced"]
    assert data["verdict"].split()[0] in out
    assert ElementTree.parse("run/picture.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_whose_it_is_and_what_is_run(name):
    numbers = config(name)["claim"]
    assert numbers["name"] == name
    assert re.search(r"\b(19|20)\d\d\b", numbers["paper"])
    assert all(numbers[key] == numbers[key].strip(". ") for key in ("paper", "says", "here"))
    assert numbers["seeds"] >= 3
    assert numbers["reduced"].keys() <= numbers.keys()


@pytest.mark.parametrize("name", CLAIMS)
def test_a_reduced_experiment_is_smaller(name):
    """Never more runs, and fewer steps, units or runs."""
    both = config(name)
    full, small = (numbers_of(both["claim"], reduced=reduced) for reduced in (False, True))
    assert claim.count(both["starts"], small) <= claim.count(both["starts"], full)
    assert any(small[key] != full[key] for key in both["claim"]["reduced"])


def test_every_config_of_a_claim_is_known():
    named = {path.stem: read_yaml(path) for path in (conf_directory() / "experiment").glob("*.yaml")}
    assert {name for name, one in named.items() if isinstance(one.get("claim"), dict)} == set(CLAIMS)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_claims_give_a_page(run, monkeypatch):
    few = {name: CLAIMS[name] for name in ("lin_2017", "glorot_2010")}
    monkeypatch.setattr(claim_job, "CLAIMS", few)
    run(train.main, "experiment=all", "reduced=true", "hydra.run.dir=run")
    text = Path("run/claims.md").read_text()
    for name in few:
        assert {path.name for path in Path("run", name).iterdir()} == {"picture.svg", "results.json"}
        assert f"experiment={name}" in text
        assert f"claims/{name}.svg" in text


WRONG = {
    "claim={name: he_2051}": "there is no claim 'he_2051'. Closest: he_2015",
    "claim={name: he_2015}": "claim: it lacks channels, here, lr",
    "claim=some": "Give null, all, or a mapping with a name",
    "reduced=5": "Give true or false",
}


BESIDE = {
    "claim.seeds=0": "claim.seeds: it is 0. Give a whole number, 1 or more",
    "+claim.wdith=3": "claim.wdith: it is no number of this claim. Closest: width",
    "~starts.standard": "a check needs a run with start = standard; there is none",
}


@pytest.mark.parametrize("argument", BESIDE)
def test_what_does_not_fit_an_experiment(run, capsys, argument):
    with pytest.raises(SystemExit):
        run(train.main, "experiment=glorot_2010", "reduced=true", "claim.reduced.width=64", argument)
    assert BESIDE[argument] in capsys.readouterr().err


@pytest.mark.parametrize("argument", WRONG)
def test_what_a_user_gets_wrong(run, capsys, argument):
    with pytest.raises(SystemExit):
        run(train.main, "~experiment", argument)
    assert WRONG[argument] in capsys.readouterr().err


# --- the machinery ---------------------------------------------------------------------------------------------------


def sized(at):
    return nn.Linear(at["width"], 1)


TINY = Claim(
    sized,
    lambda run: {"std": run.model.weight.std().item(), "curve": [1.0, math.inf]},
    lambda found, at: [Check("std", "1", found.of("std"), 0.5, 1.5)],
    (Panel("std", "std", "width"), Panel("curve", "loss", "step", logarithmic=True)),
)
NUMBERS = {"paper": "Someone 2000", "says": "it is so", "here": "a layer", "seeds": 2, "sweep": {"width": [50, 100]}}
NORMAL = {"vars": {"width": 1, "size": 1}, "rules": {"weight": {"init": "normal", "std": "size"}, "bias": "zeros"}}
SCALED = {"vars": {"width": 1}, "rules": {"weight": {"init": "normal", "std": "1 / width"}, "bias": "zeros"}}


def outcome():
    done = count()
    results = carry_out(TINY, {"normal": NORMAL, "scaled": SCALED}, NUMBERS, 5, lambda _: next(done))
    assert next(done) == claim.count({"normal": NORMAL, "scaled": SCALED}, NUMBERS) == 8
    return Outcome(NUMBERS, results, tuple(TINY.checks(results, NUMBERS)))


def test_every_start_runs_at_every_point_with_every_seed():
    results = outcome().results
    assert {(one.at["width"], one.at["start"], one.seed) for one in results.every} == {
        (width, start, seed) for width in (50, 100) for start in ("normal", "scaled") for seed in (5, 6)
    }


def test_the_sweep_sets_the_variables_of_a_recipe():
    results = outcome().results
    for width in (50, 100):
        for value in results.of("std", start="scaled", width=width):
            assert value * width == pytest.approx(1, rel=5 / (2 * width) ** 0.5)


def test_a_run_is_what_apply_writes():
    value = outcome().results.of("std", start="normal", width=50)[1]
    layer = sized({"width": 50})
    initframe.reinit(layer, NORMAL, seed=6)
    assert value == layer.weight.std().item()


def test_a_number_that_nobody_measured():
    [problem] = refused(outcome().results.of, "std", width=7)
    assert "width = 7" in problem.fact


@given(st.lists(st.floats(-10, 10), min_size=1), st.floats(-10, 10), st.floats(-10, 10))
def test_a_check_is_about_every_seed(values, low, high):
    check = Check("", "", tuple(values), low, high)
    assert check.holds == (low <= min(values) and max(values) <= high)


def test_what_is_not_finite_never_holds():
    assert not Check("", "", (math.nan,), -1, 1).holds
    assert not Check("", "", (math.inf,), high=1).holds
    assert spread((None, None)) == "∞"


def test_the_verdict_names_what_differs():
    found = outcome()
    assert "in part" not in Outcome(NUMBERS, found.results, ()).verdict
    one = Check("a number", "", (1.0,), 2.0, 3.0)
    alone = Outcome(NUMBERS, found.results, (one, Check("", "", (1.0,)))).verdict
    assert "a number" in alone
    assert "does not hold here" in alone
    assert "in part" in Outcome(NUMBERS, found.results, (one, Check("", "", (1.0,), 1.0))).verdict


def test_data_text_picture_and_page_agree():
    data = json.loads(json.dumps(to_dict(outcome())))
    assert data["runs"][0]["values"]["curve"] == [1.0, None]
    text = page({"someone_2000": data}, "On a desk.")
    for said in (data["verdict"], spread(data["checks"][0]["here"]), "a layer"):
        assert " ".join(said.split()) in " ".join(render(data).split())
        assert said in text
    drawn = picture(data, TINY.panels)
    ElementTree.fromstring(drawn)
    assert drawn == picture(data, TINY.panels)
    assert all(f">{label}</text>" in drawn for label in ("normal", "scaled"))


def test_training_is_a_function_of_the_seed():
    digits, _ = load_small_digits()

    def trained(seed):
        net = mlp(64, 8, 1, nn.ReLU)
        initframe.reinit(net, {"rules": {"*.weight": "xavier_normal", "*.bias": "zeros"}}, seed=0)
        return list(islice(fit(net, torch.optim.SGD(net.parameters(), lr=0.1), digits, seed=seed), 30))

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_an_epoch_sees_every_image_once():
    seen = []

    def loss(model, images, labels):
        seen.extend(labels.tolist())
        return model(images).sum()

    net = nn.Linear(1, 1)
    data = Digits(torch.ones(10, 1), torch.arange(10))
    list(islice(fit(net, torch.optim.SGD(net.parameters(), lr=0.0), data, batch=4, loss=loss), 6))
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_a_training_that_diverges_ends():
    taken = iter([1.0, 1e9, 1.0])
    assert losses(taken, 3) == [1.0, math.inf, math.inf]
    assert next(taken) == 1.0


# --- what two claims compute themselves ------------------------------------------------------------------------------


def test_singular_values_are_those_of_the_whole_operation():
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", bias=False)
    with torch.no_grad():
        matrix = conv(torch.eye(32).reshape(32, 2, 4, 4)).reshape(32, 32)
        found = singular_values(conv.weight).flatten().sort().values
    assert torch.allclose(found, torch.linalg.svdvals(matrix).sort().values, atol=1e-5)


def test_a_reset_of_dead_units_changes_no_output():
    net = mlp(64, 20, 2, nn.ReLU)
    initframe.reinit(net, {"rules": {"*.weight": "xavier_normal", "*.bias": "zeros"}}, seed=0)
    dead = {1: [2, 5], 3: [0, 19]}
    for layer, units in dead.items():
        net[layer].bias.data[units] = -1e3
    images = load_small_digits()[0].images
    assert dormant(net, images, 0.0) == dead
    before = net(images)
    for recipe in reset(dead).values():
        initframe.reinit(net, recipe, seed=1)
    assert torch.equal(net(images), before)
    assert dormant(net, images, 0.0) == {1: [], 3: []}
    assert reset({1: [], 3: []}) == {"rows": {"rules": {}}, "columns": {"rules": {}}}
