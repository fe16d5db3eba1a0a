"""Whatever a user gets wrong: one clear message, exit code 1, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL

pytestmark = pytest.mark.slow

ONE_LINE = {
    # the recipe
    "init.rules.weights.init=xavier_unifrom": ["unknown initializer 'xavier_unifrom'", "Closest: xavier_uniform"],
    "+init.rules.weights.gian=2": ["unknown argument 'gian'", "Closest: gain"],
    "init.rules.weights.gain='sqrt(-1)'": ["sqrt(-1"],
    "init.rules.weights.gain='().__class__'": ["rule 'weights'"],
    "init.rules.weights.gain=-1": ["must not be negative"],
    "init.rules.weights.match=featres.*.weight": ["matches no tensor", "features.0.weight, features.3.weight"],
    "init=xavier_rel": ["'init/xavier_rel'", "xavier_relu"],
    "init=[xavier_relu,head_smal]": ["'init/head_smal'"],
    "init=recipes/mine.yaml": ["there is no file recipes/mine.yaml"],
    "init=": ["'init/'", "xavier_relu"],
    "model=": ["'model/'", "resnet18"],
    "experiment=": ["'experiment/'"],
    "+init=xavier_relu": ["init appears more than once"],
    "init=null": ["init: null is no choice", "~init"],
    "init=[xavier_relu,null]": ["init: null is no choice"],
    "model=null": ["model: null is no choice"],
    "experiment=null": ["experiment: null is no choice", "~experiment"],
    "hydra/launcher=null": ["hydra/launcher: null is no choice"],
    "+init.rules.wieghts=null": ["rule 'wieghts': null deletes a rule", "Closest: weights"],
    "~init": ["init: it is missing"],
    "init.rules.weight.gain=2": ["Could not override 'init.rules.weight.gain'"],
    "~init.rules.bias": ["init.rules.bias"],
    # code and the outside world, wherever they stand
    "+init.rules.weights._target_=os.system": ["'_target_' is refused"],
    "+init.rules.weights.gain2={_target_: os.system}": ["'_target_' is refused"],
    "+init._target_=os.system": ["'_target_' is refused"],
    "+model._target_=os.system": ["model._target_: it is refused"],
    "+model.arguments.norm_layer={_target_: os.system}": ["model.arguments.norm_layer._target_: it is refused"],
    "init.rules.weights.gain=${oc.env:INITFRAME_SECRET}": ["reads nothing from outside"],
    "init.rules=${oc.env:INITFRAME_SECRET}": ["error: "],
    "+init.rules.weights.gain2=${seed}": ["reads nothing from outside"],
    "model.name=${oc.env:INITFRAME_SECRET}": ["reads nothing from outside"],
    "+model.arguments.version=${oc.env:INITFRAME_SECRET}": ["reads nothing from outside"],
    # the model
    "model=alexnett": ["'model/alexnett'", "alexnet"],
    "model=[alexnet,resnet18]": ["model: it is one choice, got alexnet, resnet18", "-m model=alexnet,resnet18"],
    "model=torchvision": ["model.name: it is missing"],
    "model.name=squeezenet1_2": ["torchvision has no model 'squeezenet1_2'", "squeezenet1_1"],
    "model.source=torchvisoin": ["unknown model.source", "Closest: torchvision"],
    "+model.weihgts=DEFAULT": ["unknown key model.weihgts", "Closest: weights"],
    "+model.arguments.num_clases=3": ["num_clases"],
    "model.weights=NO_SUCH": ["no weights 'NO_SUCH'", "DEFAULT"],
    "model.checkpoint=": ["model.checkpoint: got ''"],
    "model.checkpoint=nope.safetensors": ["nope.safetensors: it does not exist"],
    # the job
    "modl=alexnet": ["Could not override 'modl'"],
    "experimnt=digits": ["Could not override 'experimnt'"],
    "experiment=nothing_like_it": ["'experiment/nothing_like_it'"],
    "+sed=3": ["sed: ", "Closest: seed"],
    "freeze=[]": ["Could not override 'freeze'"],
    "+starts.x=zeros_bias": ["starts: it is no setting of this command"],
    "seed": ["'seed'"],
    "init.rules.head={match:": ["no viable alternative"],
    "init.rules.weights.gain=sqrt(2)": ["init.rules.weights.gain=sqrt(2)"],
    "model.checkpoint=~/größe.pt": ["model.checkpoint=~/größe.pt"],
    "model.checkpoint=epoch=3.ckpt": ["mismatched input"],
    "init.rules.features.*.weight.gain=1": ["init.rules.features.*.weight.gain=1"],
    "seed=-1": ["seed: it is -1. Give an integer from 0 to 2**64 - 1"],
    "seed=18446744073709551616": ["seed: ", "Give an integer"],
    "seed=1.5": ["seed: ", "Give an integer"],
    "seed=true": ["seed: ", "Give an integer"],
    "seed=abc": ["seed: ", "Give an integer"],
    "seed=null": ["seed: ", "Give an integer"],
    "seed=${nothing}": ["seed: ", "'nothing' not found"],
    "generator=numpy": ["generator: it is 'numpy'. Give stream or torch"],
    "dry_run=maybe": ["dry_run: ", "Give true or false"],
    "plugins=my_module": ["plugins: ", "Give a list of names"],
    "plugins=[no_such_module]": ["plugin 'no_such_module': it cannot be imported", "No module named"],
}


@pytest.mark.parametrize("argument", ONE_LINE)
def test_one_wrong_argument(refused, monkeypatch, argument):
    monkeypatch.setenv("INITFRAME_SECRET", "s3cr3t")
    small = () if argument.startswith(("model=", "init.rules.weights.match")) else SMALL
    message = refused(*small, argument)
    assert "s3cr3t" not in message
    for part in ONE_LINE[argument]:
        assert part in message


def test_null_among_several_choices(refused):
    assert "init: null is no choice" in refused("-m", *SMALL, "init=xavier_relu,null")


OVER = "rules: {baises: null}\n"


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        (OVER, "init=[xavier_relu,mine/over.yaml]"),
        (f"defaults: [xavier_relu]\n{OVER}", "init=mine/over.yaml"),
        (
            f"# @package _global_\ndefaults: [override /init: kaiming_relu]\ninit: {{{OVER.strip()}}}\n",
            "experiment=over",
        ),
    ],
)
def test_a_rule_that_is_deleted_before_it_exists(refused, user_folder, text, argument):
    user_folder("mine/over.yaml" if argument.startswith("init") else "mine/experiment/over.yaml", text)
    message = refused("--config-dir=mine", *SMALL, argument)
    assert "rule 'baises': null deletes a rule" in message
    assert "Closest: biases" in message


@pytest.mark.parametrize("order", ["[xavier_relu, _self_]", "[zeros_bias, xavier_relu]"])
def test_a_rule_that_is_deleted_after_it_exists(command, user_folder, order):
    user_folder("over.yaml", f"defaults: {order}\nrules: {{biases: null}}\n")
    left = command(*SMALL, "init=[over.yaml]", "dry_run=true")
    assert left.code == 0
    assert "Untouched (26): features.0.bias" in left.out


@pytest.mark.parametrize("chosen", ["xavier_relu", "[zeros_bias,xavier_relu]"])
def test_a_recipe_of_ones_own_by_the_name_of_ours(refused, command, user_folder, chosen):
    user_folder("mine/init/xavier_relu.yaml", "rules: {}\n")
    message = refused(*SMALL, "--config-dir=mine", f"init={chosen}")
    assert "init=xavier_relu: there are several recipes of this name" in message
    assert "mine/init/xavier_relu.yaml" in message
    assert command(*SMALL, "--config-dir=mine", "init=zeros_bias", "dry_run=true").code == 0


def test_all_problems_of_a_recipe_come_in_one_message(refused):
    message = refused(*SMALL, "init.rules.weights.init=xavier", "init.rules.biases.init=zero", "+init.unusd=warn")
    assert "3 problems" in message
    assert "'xavier'" in message
    assert "'zero'" in message
    assert "'unusd'" in message


def test_all_wrong_settings_come_in_one_message(refused):
    message = refused("seed=x", "generator=x", "dry_run=x")
    assert "3 problems" in message


def test_xavier_on_vectors(refused):
    message = refused("model=torchvision", "model.name=shufflenet_v2_x0_5", "init.rules.weights.where=null")
    assert "2 or more dimensions" in message
    assert "where: ndim > 1" in message


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)

FILES = {
    "malformed": ("rules:\n  a: [zeros\n", ["malformed.yaml", "line", "malformed YAML"]),
    "duplicate": ("rules:\n  a: zeros\n  a: ones\n", ["duplicate.yaml, line 3", "key 'a' is there already, in line 2"]),
    "binary": (b"\xff\xfe\x00", ["binary.yaml", "not UTF-8"]),
    "bomb": (BOMB, ["bomb.yaml", "more than 20000 values"]),
    "long": ("#" * 2_000_000, ["long.yaml", "larger than"]),
    "deep": ("a: " + 5000 * "[", ["deep.yaml"]),
    "two": ("a: 1\n---\nb: 2\n", ["two.yaml", "malformed YAML"]),
    "a_list": ("- a\n- b\n", ["a recipe is a mapping"]),
    "a_number": ("3\n", ["a recipe is a mapping, and this is a int"]),
    "a_date": ('rules:\n  "*.bias": {init: constant, val: 2024-01-01}\n', ["val is of type date"]),
    "all_of_it": ("defaults: 3\nrules: {}\n", ["defaults names 3. Name recipes"]),
    "a_mapping": ("defaults: [{a: b, c: d}]\nrules: {}\n", ["defaults names {'a': 'b', 'c': 'd'}"]),
    "elsewhere": (
        "defaults: [/model/resnet18@_global_.model, _self_]\nrules: {}\n",
        ["defaults names '/model/resnet18"],
    ),
    "overriding": ("defaults: [override /model: resnet18]\nrules: {}\n", ["defaults names {'override /model"]),
    "callback": ("defaults: [zeros_bias@_global_.hydra.callbacks]\nrules: {}\n", ["defaults names 'zeros_bias@"]),
    "spy": ('defaults: ["${oc.env:INITFRAME_SECRET}", _self_]\nrules: {}\n', ["defaults names '${oc.env"]),
    "nothing": ("", ["no rules"]),
    "code": ('rules:\n  "*.weight": {_target_: os.system}\n', ["'_target_' is refused"]),
    "leak": (
        'rules:\n  "*.weight": {init: constant, val: "${oc.env:INITFRAME_SECRET}"}\n',
        ["reads nothing from outside"],
    ),
    "chain": ("defaults: [no_such_recipe]\nrules: {}\n", ["'init/no_such_recipe'"]),
    "not_finite": ('rules:\n  "*.weight": {init: constant, val: .nan}\n', ["val is nan"]),
    "words": ('rules:\n  "*.weight": {init: constant, val: on}\n', ["val"]),
}


WAYS = {
    "folder": ("--config-dir={here}/mine", "init={name}"),
    "search path": ("hydra.searchpath=[file://{here}/mine]", "init={name}"),
    "file": ("init=mine/init/{name}.yaml",),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_one_wrong_file(refused, user_folder, monkeypatch, way, name):
    monkeypatch.setenv("INITFRAME_SECRET", "s3cr3t")
    text, parts = FILES[name]
    here = user_folder(f"mine/init/{name}.yaml", text).parents[2]
    message = refused(*SMALL, *(argument.format(here=here, name=name) for argument in WAYS[way]))
    assert "s3cr3t" not in message
    for part in parts:
        assert part in message


def test_a_recipe_stays_where_it_is(refused, user_folder):
    text = "# @package _global_\nhydra: {callbacks: {mine: {_target_: os.getcwd}}}\nrules: {}\n"
    here = user_folder("mine/init/global.yaml", text).parents[2]
    assert "a recipe stays in its own part of the config" in refused(*SMALL, f"--config-dir={here}/mine", "init=global")


def test_recipes_that_lead_back_to_themselves(refused, user_folder):
    user_folder("self.yaml", "defaults: [self.yaml]\nrules: {}\n")
    assert "defaults lead back to it: self.yaml → self.yaml" in refused(*SMALL, "init=self.yaml")


def test_recipes_that_meet_again_do_not_lead_back(command, user_folder):
    """A recipe may stand in the defaults of two others; Hydra refuses to take it twice by itself."""
    user_folder("base.yaml", 'rules:\n  "*.bias": zeros\n')
    user_folder("one.yaml", "defaults: [base.yaml, _self_]\nrules: {}\n")
    user_folder("two.yaml", "defaults: [one.yaml, _self_]\nrules: {}\n")
    assert command(*SMALL, "init=two.yaml", "dry_run=true").code == 0


def test_recipes_lie_over_others_by_name_and_by_file(command, user_folder):
    user_folder("low.yaml", 'rules:\n  "*.bias": ones\n')
    user_folder(
        "high.yaml", "defaults: [xavier_relu, low.yaml, _self_]\nrules:\n  head: {match: '*.1.bias', init: zeros}\n"
    )
    left = command(*SMALL, "init=high.yaml", "dry_run=true")
    assert (left.code, left.err) == (0, "")
    assert "uniform(" in left.out
    assert "constant(1)" in left.out


@pytest.mark.parametrize("place", ["notes.txt/run", "/proc/nowhere/run"])
def test_a_place_where_nothing_can_be_written(refused, user_folder, place):
    user_folder("notes.txt", "mine")
    message = refused(*SMALL, f"hydra.run.dir={place}")
    assert "hydra.run.dir" in message


def test_a_folder_in_the_place_of_a_file(refused, user_folder):
    user_folder("run/model.safetensors/mine", "")
    assert "model.safetensors" in refused(*SMALL, "hydra.run.dir=run")


PLUGINS = {
    "def": "SyntaxError",
    "1 / 0": "ZeroDivisionError",
    "import no_such_module": "No module named 'no_such_module'",
    "import initframe\n@initframe.initializer('law')\ndef law(slot, p): ...": "takes p by position",
    "import initframe\n@initframe.initializer('zeros')\ndef zeros(slot): ...": "exists already",
}


@pytest.mark.parametrize("text", PLUGINS)
def test_a_plugin_that_fails(refused, user_folder, text):
    name = f"broken_{len(text)}"
    user_folder(f"{name}.py", text)
    assert PLUGINS[text] in refused(*SMALL, f"plugins=[{name}]")


def test_a_model_larger_than_the_machine(refused, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda _: 1000)
    message = refused(*SMALL)
    assert "this machine has 0" in message
    assert "dry_run=true" in message


def test_a_law_that_fails(refused, user_folder):
    user_folder(
        "failing_law.py", "import initframe\n@initframe.initializer('failing_law')\ndef law(slot): return 1 / 0\n"
    )
    message = refused(*SMALL, "plugins=[failing_law]", "init.rules.biases={match: '*bias', init: failing_law}")
    assert "failing_law failed with ZeroDivisionError" in message


def test_a_multirun_says_which_job_failed(command):
    left = command(*SMALL, "-m", "seed=0,-1", "dry_run=true")
    assert left.code == 1
    assert "'seed=-1'" in left.err
    assert "error: seed: " in left.err
    assert left.files == []


@pytest.mark.parametrize("place", ["multirun", "{here}/elsewhere"])
@pytest.mark.parametrize("wrong", ["init=xavier_relu,nope", "seed=0,", "model.name=nope"])
def test_a_multirun_that_fails_leaves_nothing(command, tmp_path, wrong, place):
    left = command(*SMALL, "-m", "dry_run=true", wrong, f"hydra.sweep.dir={place.format(here=tmp_path)}")
    assert left.code == 1
    assert left.files == []


def test_bugs_keep_their_traceback(command, monkeypatch):
    def bug(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("initframe.cli.reinit.planned", bug)
    left = command(*SMALL)
    assert left.code == 1
    assert "Traceback" in left.err
    assert "ZeroDivisionError" in left.err


def test_tracebacks_on_request(command, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Give an integer"):
        command(*SMALL, "seed=x")


def test_what_another_recipe_left_behind(refused):
    message = refused(*SMALL, "init.rules.weights.init=normal")
    assert "unknown argument 'gain'" in message
    assert "~init.rules.weights.gain" in message
    assert "rules of the same name become one" in refused(*SMALL, "init=[xavier_relu,kaiming_relu]")


def test_a_file_in_the_current_folder_takes_no_librarys_place(tmp_path):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "sched.py").write_text("raise SystemExit('the file in the current folder was run')")
    code = "from initframe.cli.job import import_plugins; import_plugins(['mine']); import sched; sched.scheduler()"
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=own, check=True)
