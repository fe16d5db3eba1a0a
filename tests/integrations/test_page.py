"""docs/integrations.md, as somebody reads it who is new: its files run as they are, with as many lines as it says."""

import re
import warnings
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).parents[2] / "docs/integrations.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SAID = {
    "lightning_start": 2,
    "trainer_start": 2,
    "new_head": 2,
    "accelerate_start": 3,
    "torchtitan_config": 2,
    "lora_start": 2,
}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a file of the page in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def execute(name):
        namespace = {"__name__": name}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(FILES[name], f"{name}.py", "exec"), namespace)
        return namespace

    return execute


@pytest.mark.parametrize("name", SAID)
def test_as_many_lines_as_the_page_says(name):
    lines = FILES[name].splitlines()
    counted = [line for line in lines if re.search(r"  # \d$", line)]
    assert [int(line[-1]) for line in counted] == list(range(1, SAID[name] + 1))
    theirs = "initframe", "Initialize(", "model_init(", "initialize_missing(", "initialized("
    assert [line for line in lines if any(word in line for word in theirs)] == counted


def test_the_table_counts_the_same():
    table = [int(number) for number in re.findall(r"^\| .* \| (\d) \|$", PAGE, re.MULTILINE)]
    assert sorted(table) == sorted(SAID.values())


def test_lightning(run):
    found = run("lightning_start")
    (callback,) = [c for c in found["trainer"].callbacks if type(c).__name__ == "Initialize"]
    assert {result.name for result in callback.report.results} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_the_config_of_lightning_cli(run):
    """tests/integrations/test_lightning.py gives LightningCLI this shape; here are the page's own arguments."""
    from initframe.integrations.lightning import Initialize

    (text,) = re.findall(r"^```text\n(trainer:\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (callback,) = yaml.safe_load(text)["trainer"]["callbacks"]
    assert callback["class_path"] == f"{Initialize.__module__}.{Initialize.__name__}"
    assert Initialize(**callback["init_args"]).attribute == "model"


def test_trainer(run):
    assert run("trainer_start")["trainer"].state.global_step == 1


def test_a_new_head(run, capsys):
    run("new_head")
    (text,) = re.findall(r"^```text\n(\['classifier.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert text in capsys.readouterr().out


def test_new_words(run):
    weight = run("new_words")["model"].get_input_embeddings().weight
    assert weight.shape == (45, 8)
    assert weight[40:].std() > 0


def test_accelerate(run):
    found = run("accelerate_start")
    held = {id(p) for group in found["optimizer"].param_groups for p in group["params"]}
    assert held == {id(p) for p in found["model"].parameters()}


def test_lora(run):
    (up,) = [p for n, p in run("lora_start")["model"].named_parameters() if ".lora_B." in n]
    assert not up.any()
