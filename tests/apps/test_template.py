"""A Hydra app of somebody else, which adds three lines: a search path, a choice, and a call."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType

import initframe

TEMPLATE = Path(__file__).parent / "template"
HEAD = {"match": "*head.weight", "init": "zeros"}


@pytest.fixture
def src(monkeypatch):
    """The app's own package, and torch's generator as it was."""
    monkeypatch.syspath_prepend(str(TEMPLATE))
    with torch.random.fork_rng():
        yield importlib.import_module("src.train"), importlib.import_module("src.net")
    for name in [name for name in sys.modules if name == "src" or name.startswith("src.")]:
        del sys.modules[name]


@pytest.fixture
def app(src, tmp_path, monkeypatch, logging_restored):
    """Run the app in an empty folder; gives the weights of each of its jobs."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            src[0].main()
        finally:
            logging_restored()
        return saved(tmp_path)

    return run


def saved(folder):
    """The weights in each job's folder, by its name."""
    return {path.parent.name: torch.load(path) for path in sorted((folder / "logs").rglob("model.pt"))}


@pytest.fixture
def expected(src):
    """What the library alone makes."""

    def make(recipe, seed=0, width=8):
        model = src[1].Module(src[1].net(width))
        initframe.reinit(model, recipe, seed=seed)
        return model.state_dict()

    return make


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


CASES = {
    (): "xavier_relu",
    ("init=kaiming_relu",): "kaiming_relu",
    ("init.rules.weights.gain=2",): ["xavier_relu", {"rules": {"weights": {"gain": 2}}}],
    ("init=[xavier_relu,mine]",): ["xavier_relu", {"rules": {"head": HEAD}}],
    ("+init.rules.head={match: '*head.weight', init: zeros}",): ["xavier_relu", {"rules": {"head": HEAD}}],
    ("init.rules.biases=null", "+init.rules.all={match: '*.bias', init: ones}"): [
        "xavier_relu",
        {"rules": {"biases": None, "all": {"match": "*.bias", "init": "ones"}}},
    ],
    ("experiment=layered",): ["xavier_relu", {"rules": {"head": HEAD}}],
}


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_choices_and_overrides(app, expected, arguments):
    assert same(app(*arguments)["run"], expected(CASES[arguments]))


def test_an_experiment(app, expected):
    changes = yaml.safe_load((TEMPLATE / "configs/experiment/example.yaml").read_text())["init"]
    assert same(app("experiment=example")["run"], expected(["kaiming_relu", changes], 12345, width=16))


@pytest.mark.slow
def test_several_runs(app, expected):
    jobs = app("-m", "seed=0,1", "init=xavier_relu,kaiming_relu")
    assert len(jobs) == 4
    for number, (seed, recipe) in enumerate(
        (seed, recipe) for seed in (0, 1) for recipe in ("xavier_relu", "kaiming_relu")
    ):
        assert same(jobs[str(number)], expected(recipe, seed))


@pytest.mark.slow
def test_optuna_over_joblib(tmp_path, expected):
    """In processes of their own: joblib starts them, and optuna warns when it is imported."""
    for plugin in ("hydra_joblib_launcher", "hydra_optuna_sweeper"):
        if not find_spec(f"hydra_plugins.{plugin}"):
            pytest.skip(f"no {plugin}")
    line = [sys.executable, str(TEMPLATE / "src/train.py"), "hparams_search=optuna", "seed=3"]
    line += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TEMPLATE), *sys.path])}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sweep, values = tmp_path / "logs/train/sweep", []
    for number, state in saved(tmp_path).items():
        [gain] = (
            text for text in yaml.safe_load((sweep / number / ".hydra/overrides.yaml").read_text()) if "gain" in text
        )
        assert same(
            state, expected(["xavier_relu", {"rules": {"weights": {"gain": float(gain.partition("=")[2])}}}], 3)
        )
        values.append(state["net.0.weight"].std().item())
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert len(values) == 2
    assert best["best_value"] == max(values)


def groups(searchpath):
    """The app's config groups, with the choices in each."""
    how = {"config_name": "train", "overrides": [f"hydra.searchpath=[{searchpath}]"]}
    with initialize_config_dir(str(TEMPLATE / "configs"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        names = loader.get_group_options("", results_filter=ObjectType.GROUP, **how)
        return {name: loader.get_group_options(name, **how) for name in names if name != "hydra"}


def test_the_presets_bring_recipes_and_nothing_else():
    own = {
        path.name: sorted(file.stem for file in path.iterdir())
        for path in (TEMPLATE / "configs").iterdir()
        if path.is_dir()
    }
    del own["hydra"]
    assert groups("pkg://initframe.presets") == {**own, "init": sorted(["mine", *initframe.list_presets()])}
    assert groups("pkg://initframe.conf").keys() >= own.keys()
