"""The comparison on the command line: a table, a verdict a recipe, a page, and where its input came from."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from initframe.experiments import compare
from tests.cli.conftest import command, plugins_forgotten  # noqa: F401  # fixtures

PLUGIN = """
import torch
from torch import nn
from initframe.models import model


@model("narrow")
def narrow():
    layers = [module for _ in range(8) for module in (nn.Linear(12, 12), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(12, 10))
"""


@pytest.fixture
def run(command, tmp_path):  # noqa: F811
    (tmp_path / "mine.py").write_text(PLUGIN)
    spec = ("plugins=[mine]", "model=plugin", "model.name=narrow", "hydra.run.dir=run")
    return lambda *arguments: command(*spec, *arguments, main=compare.main, name="compare.py")


def results():
    return json.loads(Path("run/results.json").read_text())


def test_one_verdict_a_recipe_and_a_page(run):
    done = run(
        "inits=[zeros_bias,xavier_uniform,{rules: {w: {match: '*.weight', init: normal, std: 0.01}}}]", "seeds=[0,1]"
    )
    assert done.code == 0, done.err
    found = results()
    assert [one["source"] for one in found["recipes"]] == ["measured"] * 3
    assert found["seeds"] == [0, 1]
    for one in found["recipes"]:
        assert (
            f"{one['recipe']}: {one['verdict']}".split()[:4]
            == [
                word for line in done.out.splitlines() if line.startswith(f"{one['recipe']}: ") for word in line.split()
            ][:4]
        )
    page = Path("run/page.html").read_text()
    assert all(one["recipe"] in page for one in found["recipes"])
    assert "<svg" in Path("run/picture.svg").read_text()
    assert any(one["grad_rms"] for one in found["recipes"][0]["rows"])


def test_what_was_put_in_is_said(run):
    done = run("inits=[xavier_uniform]")
    words = "4 × 12 numbers from N(0, 1), as the first layer (0) has inputs"
    assert f"Input: {words}." in done.out
    assert words in Path("run/page.html").read_text()


def test_prediction_builds_without_memory_and_has_no_gradients(run):
    done = run("inits=[xavier_uniform]", "predict=true")
    assert done.code == 0, done.err
    (found,) = results()["recipes"]
    assert found["source"] == "predicted"
    assert not any(row["grad_rms"] for row in found["rows"])


@pytest.mark.parametrize(("name", "save"), [("batch.safetensors", save_file), ("batch.pt", torch.save)])
def test_a_file_is_the_input(run, name, save):
    save({"x": torch.ones(3, 12)}, name)
    done = run("inits=[xavier_uniform]", f"input={name}")
    assert f"Input: x of {name}." in done.out
    assert results()["batch"].startswith("3×12")


def test_a_file_without_tensors_is_told(run):
    save_file({}, "empty.safetensors")
    done = run("inits=[xavier_uniform]", "input=empty.safetensors")
    assert done.code not in (0, None)
    assert "empty.safetensors: it has no tensors" in done.err


def test_a_file_is_read_as_checkpoints_are(run):
    """Header and pickle are looked through before a library sees them."""
    Path("long.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    torch.save(nn.Linear(12, 3), "module.pt")
    for name in ("long.safetensors", "module.pt"):
        done = run("inits=[xavier_uniform]", f"input={name}")
        assert done.code not in (0, None)
        assert name in done.err
        assert not Path("run/results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        (["inits=[]"], "inits"),
        (["seeds=[-1]"], "seeds"),
        (["inputs=1"], "inputs"),
        (["input=nowhere.safetensors"], "nowhere.safetensors: it does not exist"),
        (["inits=[xavier_unifrom]"], "xavier_unifrom"),
    ],
)
def test_bad_settings_write_nothing(run, arguments, subject):
    done = run(*arguments)
    assert done.code not in (0, None)
    assert subject in done.err
    assert not Path("run/results.json").exists()


def test_a_recipe_of_a_folder_of_ones_own_is_a_choice(run):
    Path("mine/init").mkdir(parents=True)
    Path("mine/init/quiet.yaml").write_text("rules: {w: {match: '*.weight', init: normal, std: 0.001}}\n")
    done = run("--config-dir=mine", "inits=[quiet,xavier_uniform]", "predict=true")
    assert done.code == 0, done.err
    assert [one["recipe"] for one in results()["recipes"]] == ["quiet", "xavier_uniform"]


def test_an_input_is_not_written_over(run):
    Path("run").mkdir()
    save_file({"x": torch.ones(3, 12)}, "run/page.html")
    done = run("inits=[xavier_uniform]", "input=run/page.html", "overwrite=true")
    assert done.code != 0
    assert Path("run/page.html").stat().st_size < 1000


def test_a_prediction_needs_no_trained_weights_and_says_so(command, tmp_path):  # noqa: F811
    pytest.importorskip("digit_recognizer")
    spec = ("model=digits_cnn", "inits=[torch_default,auto]", "predict=true", "hydra.run.dir=run")
    done = command(*spec, main=compare.main, name="compare.py")
    assert done.code == 0, done.err
    assert "no-op" not in done.err
    assert "without the model's trained weights" in done.out
    last = [[row["rms"] for row in one["rows"] if row["depth"]][-1] for one in results()["recipes"]]
    assert last[1] == pytest.approx(1, rel=0.01)
    assert last[0] < 0.2
