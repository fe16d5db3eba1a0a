"""The main job, line by line as the README has it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import nn
from torchvision.models import alexnet, squeezenet1_1

import initframe
from initframe.cli import console, reinit
from initframe.cli.console import say
from initframe.recipe.presets import conf_directory
from tests.cli.conftest import SMALL

SCRIPTS = Path(__file__).parents[2] / "scripts"
HERE = "hydra.run.dir=run"


def rules(path: str = "run") -> dict:
    return json.loads(Path(path, "manifest.json").read_text())["recipe"]["rules"]


def tensors(path: str = "run") -> dict[str, torch.Tensor]:
    return load_file(Path(path, "model.safetensors"))


@pytest.mark.slow
def test_the_readmes_command_in_a_process_of_its_own(tmp_path):
    line = [sys.executable, str(SCRIPTS / "reinit.py"), "model=alexnet", "init=xavier_relu", HERE]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "AlexNet × xavier_relu, seed 0: 16 tensors, 61,100,840 elements" in done.stdout
    assert "planned → measured" in done.stdout  # built without memory: nothing was before
    assert done.stdout.endswith("Files in run: model.safetensors, manifest.json, plan.txt\n")
    assert "100%" in done.stderr
    model = alexnet()
    initframe.reinit(model, "xavier_relu", seed=0)
    written = load_file(tmp_path / "run/model.safetensors")
    assert written.keys() == model.state_dict().keys()
    assert all(torch.equal(written[name], value) for name, value in model.state_dict().items())


def test_companions_are_a_sentence_of_the_command_line(command):
    asking = "+init.requires=[no warm-up]"
    left = command(*SMALL, HERE, asking)
    assert left.code == 0
    assert "Companion: no warm-up\nRecipe xavier_relu, changed asks for more than values: manifest.json" in left.out
    assert "Warning" not in left.err
    heeded = command(*SMALL, "hydra.run.dir=again", asking, "+init.companions=heeded")
    assert "asks for more" not in heeded.out


def test_the_files_of_a_run(command):
    left = command(*SMALL, HERE)
    assert left.code == 0
    assert left.files == ["run/manifest.json", "run/model.safetensors", "run/plan.txt"]
    assert left.hydra == [*(f"run/.hydra/{name}.yaml" for name in ("config", "hydra", "overrides")), "run/reinit.log"]
    assert left.out.splitlines()[-1] in Path("run/reinit.log").read_text()
    record = json.loads(Path("run/manifest.json").read_text())
    assert record["job"]["model"]["name"] == "squeezenet1_1"
    assert record["job"]["overrides"] == [*SMALL]
    assert record["seed"] == 0
    digests = {entry["name"]: entry["digest"] for entry in record["tensors"]}
    report = initframe.reinit(tensors(), "xavier_relu", seed=0, measure=True)
    assert digests == {result.name: result.digest for result in report.results}
    text = Path("run/plan.txt").read_text()
    assert "features.0.weight" in text
    assert "planned → measured" in text


def test_a_run_goes_by_default_below_outputs(command):
    files = command(*SMALL).files
    assert files[-1].startswith("outputs/reinit/")
    assert files[-1].endswith("plan.txt")


@pytest.mark.slow
def test_the_seed_is_all_that_changes_the_numbers(command):
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        command(*SMALL, f"seed={seed}", f"hydra.run.dir={folder}")
    a, b, c = map(tensors, "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["features.0.weight"], c["features.0.weight"])


def test_untouched_tensors_come_from_the_seed_too(command):
    for folder in "ab":
        command(*SMALL, "~init.rules.weights", "seed=5", f"hydra.run.dir={folder}")
    assert torch.equal(tensors("a")["features.0.weight"], tensors("b")["features.0.weight"])


def test_a_dry_run_writes_nothing(command):
    left = command(*SMALL, "dry_run=true")
    assert left.code == 0
    assert left.files == []
    assert "SqueezeNet × xavier_relu: 52 tensors" in left.out
    assert "nothing was written" in left.out


@pytest.mark.parametrize("init", ["xavier_relu", "zeros_bias", "normal_001", "shrink_perturb"])
def test_a_dry_run_needs_no_memory_and_shows_the_same_plan(command, monkeypatch, init):
    plans, planned = [], reinit.planned
    monkeypatch.setattr(reinit, "planned", lambda *job: plans.append(planned(*job)) or plans[-1])
    left = command(*SMALL, f"init={init}", "dry_run=true")
    assert all(parameter.is_meta for parameter in plans[0].model.parameters())
    assert left.out.startswith(str(initframe.resolve(init, squeezenet1_1())))


def test_what_torch_has_not_is_told_by_a_dry_run_too(refused):
    rule = '+init.rules.z={match: "features.0.weight", init: delta_orthogonal}'
    for more in ((), ("dry_run=true",)):
        assert "torch.nn.init has no delta_orthogonal" in refused(*SMALL, "generator=torch", rule, *more)


def test_a_dry_run_leaves_a_folder_that_was_there(command, user_folder):
    user_folder("run/notes.txt", "mine")
    assert command(*SMALL, "dry_run=true", HERE).files == []
    assert Path("run/notes.txt").read_text() == "mine"


def contents(folder: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
def test_an_earlier_run_is_replaced_only_when_told(command):
    command(*SMALL, HERE)
    before = contents("run")
    for more in ([], ["dry_run=true"], ["init=normal_001"]):
        left = command(*SMALL, HERE, *more)
        assert left.code == 1
        assert "run: it has files of an earlier run" in left.err
        assert contents("run") == before  # Hydra's too
    assert command(*SMALL, HERE, "init=normal_001", "overwrite=true").code == 0
    assert rules()["weights"]["init"] == "normal"
    assert {path.name for path in Path("run").iterdir() if path.is_file()} == {*reinit.FILES, "reinit.log"}


@pytest.mark.slow
def test_an_earlier_sweep_is_replaced_only_when_told(command):
    sweep = (*SMALL, "hydra.sweep.dir=sweep", "-m")
    command(*sweep, "seed=3")
    before = contents("sweep")
    assert command(*sweep, "seed=4").code == 1
    assert contents("sweep") == before
    assert command(*sweep, "seed=4", "overwrite=true").code == 0
    assert json.loads(Path("sweep/0/manifest.json").read_text())["seed"] == 4


INPUTS = {
    "a checkpoint": ["model.checkpoint=run/model.safetensors"],
    "its folder": ["model.checkpoint=run"],
    "by another name": ["model.checkpoint=linked.safetensors"],
    "of a rule": ["+init.rules.last={match: '*bias', init: pretrained, path: run/model.safetensors}"],
    "of a plugin's rule": ["+init.rules.last={match: '*bias', init: mine, table: ./run/../run/model.safetensors}"],
}


@pytest.mark.parametrize("kind", INPUTS)
def test_what_a_run_reads_is_never_written_over(command, tmp_path, kind):
    command(*SMALL, HERE)
    (tmp_path / "linked.safetensors").symlink_to("run/model.safetensors")
    before = contents("run")
    for place in (HERE, f"hydra.run.dir={tmp_path}/run"):
        left = command(*SMALL, *INPUTS[kind], place, "overwrite=true")
        assert left.code == 1
        assert "is read, and this run would write over it" in left.err
        assert contents("run") == before


@pytest.mark.slow
def test_a_relative_path_means_the_same_in_another_working_directory(command, user_folder, table):
    user_folder("laws_here.py", LAW.format(name="law_here"))
    command(*SMALL, HERE)
    rule = "{match: features.0.bias, init: pretrained, path: run/model.safetensors}"
    user_folder("mine.yaml", f"rules:\n  '*.weight': law_here\n  bias: {rule}\n")
    more = ("init=mine.yaml", "plugins=[laws_here]", "model.checkpoint=run/model.safetensors")
    for folder, chdir in (("a", "true"), ("b", "false")):
        left = command(*SMALL, *more, f"hydra.run.dir={folder}", f"hydra.job.chdir={chdir}")
        assert left.code == 0, left.err
    assert all(torch.equal(value, tensors("b")[name]) for name, value in tensors("a").items())


def test_a_run_again_from_its_own_config(command):
    save = "+hydra.callbacks.save._target_=hydra.experimental.callbacks.PickleJobInfoCallback"
    command(*SMALL, HERE, save, "seed=5")
    before = Path("run/model.safetensors").read_bytes()
    Path("run/model.safetensors").write_text("lost")
    with pytest.warns(UserWarning, match="rerun"):
        assert command("--experimental-rerun=run/.hydra/config.pickle").code == 0
    assert Path("run/model.safetensors").read_bytes() == before


LAUNCHERS = {"joblib": ["hydra.launcher.n_jobs=2"], "submitit_local": ["hydra.launcher.timeout_min=10"]}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_hydras_launchers(tmp_path, launcher):
    if not find_spec(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"):
        pytest.skip(f"no hydra-{launcher}-launcher")
    line = [sys.executable, str(SCRIPTS / "reinit.py"), *SMALL, "-m", "seed=0,1", f"hydra/launcher={launcher}"]
    line += [*LAUNCHERS[launcher], "hydra.sweep.dir=sweep"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for number in "01":
        assert json.loads((tmp_path / "sweep" / number / "manifest.json").read_text())["seed"] == int(number)
    failed = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "it has files of an earlier run" in failed.stderr


@pytest.mark.slow
def test_hydras_sweepers_get_a_number(tmp_path):
    """In a process of its own: optuna warns when it is imported."""
    if not find_spec("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("no hydra-optuna-sweeper")
    sweeper = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep"]
    line = [sys.executable, str(SCRIPTS / "reinit.py"), *SMALL, "-m", *sweeper, "seed=range(0,5)", "dry_run=true"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "best_value: 0.0" in (tmp_path / "sweep/optimization_results.yaml").read_text()


def plan_of(command, *arguments: str) -> str:
    left = command("dry_run=true", *arguments)
    assert left.code == 0, left.err
    return left.out


@pytest.mark.slow
def test_overrides(command):
    plain = plan_of(command)
    assert "uniform(±0.03847)" in plain  # √2·√(6/(11·11·3 + 11·11·64)), features.0.weight
    doubled = plan_of(command, "init.rules.weights.gain=2")
    assert "uniform(±0.0544" in doubled
    assert "AlexNet × xavier_relu, changed:" in doubled
    assert "uniform(±0.01924)" in plan_of(command, 'init.rules.weights.gain="1 / sqrt(2)"')
    head = plan_of(command, "+init.rules.head={match: classifier.6.weight, init: zeros}")
    assert "Shadowed: 'head' over 'weights' on 1 tensor" in head
    without = plan_of(command, "~init.rules.biases")
    assert "Untouched (8): features." in without
    assert "Untouched (8): features." in plan_of(command, "init.rules.biases=null")
    laid_over = plan_of(command, "init=[xavier_relu,head_small]")
    assert "AlexNet × xavier_relu+head_small:" in laid_over
    assert "normal(0, 0.001)" in laid_over


def test_rules_of_one_name_become_one_and_others_lie_over_each_other(command, user_folder):
    for name in ("weights", "one_layer"):
        user_folder(f"{name}.yaml", f"rules:\n  {name}: {{match: classifier.1.weight, init: xavier_normal}}\n")
    merged = plan_of(command, *SMALL, "init=[xavier_relu,weights.yaml]")
    assert "Untouched (25)" in merged
    over = plan_of(command, *SMALL, "init=[xavier_relu,one_layer.yaml]")
    assert "'one_layer' over 'weights' on 1 tensor" in over
    assert "Untouched" not in over


def test_any_model_of_torchvision(command):
    assert "ShuffleNetV2 ×" in plan_of(command, "model=torchvision", "model.name=shufflenet_v2_x0_5")


def test_arguments_of_a_model(command):
    assert "10×512×1×1" in plan_of(command, *SMALL, "+model.arguments.num_classes=10")


def test_options_may_stand_anywhere(command, user_folder):
    user_folder("mine/init/quiet.yaml", 'rules:\n  "*bias": zeros\n')
    assert "× quiet:" in plan_of(command, *SMALL, "--config-dir", "mine", "init=quiet")


@pytest.mark.slow
def test_a_multirun(command):
    left = command(*SMALL, "-m", "seed=0,1,2", "hydra.sweep.dir=sweep")
    assert left.code == 0
    assert {*left.files} == {f"sweep/{job}/{name}" for job in range(3) for name in reinit.FILES}
    assert "sweep/multirun.yaml" in left.hydra
    assert len({tensors(f"sweep/{job}")["features.0.weight"].sum().item() for job in range(3)}) == 3


def test_a_dry_multirun_writes_nothing(command):
    left = command(*SMALL, "-m", "seed=0,1", "dry_run=true")
    assert left.code == 0
    assert left.out.count("nothing was written") == 2
    assert left.files == []


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_runs_that_start_together_go_apart(kind):
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        configs = [compose("reinit", return_hydra_config=True) for _ in range(3)]
    assert len({str(config.hydra[kind].dir) for config in configs}) == 3


def test_torchs_own_generator(command):
    command(*SMALL, "generator=torch", "seed=3", "init=xavier_uniform", HERE)
    torch.manual_seed(3)
    by_hand = squeezenet1_1().state_dict()
    torch.manual_seed(3)
    for value in by_hand.values():
        nn.init.xavier_uniform_(value) if value.ndim > 1 else nn.init.zeros_(value)
    assert all(torch.equal(value, by_hand[name]) for name, value in tensors().items())


LAW = """
import initframe

@initframe.initializer("{name}")
def law(slot, *, width: float = 1.0):
    return initframe.Uniform(-width / slot.fan_in, width / slot.fan_in)
"""


def test_a_plugin_from_the_current_directory(command, user_folder, table):
    user_folder("my_laws.py", LAW.format(name="my_law"))
    law = ("init.rules.weights.init=my_law", "~init.rules.weights.gain", "+init.rules.weights.width=27")
    assert "uniform(±1)" in plan_of(command, *SMALL, "plugins=[my_laws]", *law)  # features.0.weight has fan_in 27


def test_a_terminal_that_knows_no_arrows(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    console.speakable()
    say("σ →")
    sys.stdout.flush()
    assert written.getvalue() == b"? ?\n"


def test_what_nobody_reads_any_more_is_dropped():
    reading, writing = os.pipe()
    stream = console.patient(io.TextIOWrapper(io.FileIO(writing, "w", closefd=False), encoding="utf-8"))
    print("read", file=stream, flush=True)
    assert os.read(reading, 100) == b"read" + os.linesep.encode()
    os.close(reading)
    for _ in range(2):
        print("not read " * 10_000, file=stream, flush=True)
    os.close(writing)


@pytest.mark.parametrize("name", ["quiet.yaml", "./quiet.yaml", "recipes/quiet.yaml", "{here}/quiet.yml"])
def test_a_recipe_of_ones_own_by_its_file(command, user_folder, tmp_path, name):
    name = name.format(here=tmp_path)
    user_folder(name, 'rules:\n  "*bias": zeros\n')
    assert "bias  " in plan_of(command, *SMALL, f"init={name}")
    over = plan_of(command, *SMALL, f"init=[xavier_relu,{name}]", "~init.rules.biases")
    assert "Untouched" not in over
    assert "xavier_relu+" in over


def test_the_part_of_a_training_file_is_told_and_chosen(command, tmp_path):
    weights, averages = squeezenet1_1(), squeezenet1_1()
    torch.save({"state_dict": weights.state_dict(), "state_dict_ema": averages.state_dict()}, tmp_path / "training.pt")
    net = ("model=torchvision", "model.name=squeezenet1_1", "init=zeros_bias")
    chosen = (*net, f"model.checkpoint={tmp_path / 'training.pt'}")
    for folder, more, source in (("run", (), weights), ("other", ("model.entry=state_dict_ema",), averages)):
        command(*chosen, *more, f"hydra.run.dir={folder}")
        assert torch.equal(tensors(folder)["features.0.weight"], source.state_dict()["features.0.weight"])
    logs = [next(Path(folder).glob("*.log")).read_text() for folder in ("run", "other")]
    assert "state_dict_ema" in logs[0]
    assert "state_dict_ema" not in logs[1]
