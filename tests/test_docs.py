"""What the pages show is run: YAML is read, Python executed, commands given to the jobs as bash would give them."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
import runpy
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from torchvision import models

import initframe
import initframe.experiments.gap  # registers its law in the real table, not in the copy of one test
from initframe.cli import reinit, trace, verify
from initframe.experiments import compare, train
from initframe.initializers import table as initializer_table
from initframe.initializers.table import parameters
from initframe.recipe.presets import presets
from initframe.resolver.schema import MODELINE

ROOT = Path(__file__).parents[1]
SLOW = (
    "docs/construction.md",
    "docs/recipes.md",
    "docs/command_line.md",
    "docs/hydra_apps.md",
    "README.md",
)  # they train or run much
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "tests/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))

COMMANDS = {
    "python scripts/reinit.py": reinit.main,
    "initframe-reinit": reinit.main,
    "python scripts/trace.py": trace.main,
    "initframe-trace": trace.main,
    "python scripts/verify.py": verify.main,
    "initframe-verify": verify.main,
    "python scripts/train.py": train.main,
    "initframe-train": train.main,
    "python scripts/compare.py": compare.main,
    "initframe-compare": compare.main,
}
ELSEWHERE = (
    "python3 -m venv",  # .ci/run
    "source .venv/bin/activate",  # .ci/run
    ".venv/bin/",  # .ci/run
    'eval "$(initframe-reinit -sc',  # tests/cli/test_help.py
    "python -m tests.",  # the long counts of what the tests sample
    "python benchmarks/",  # their numbers mean nothing on a busy machine
    "accelerate launch",  # tests/integrations/test_two_processes.py
    "python scripts/train.py experiment=all",  # tests/experiments/test_claims.py
    "torchrun",  # tests/distributed and tests/cli/test_torchrun.py
)


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\{?[\w-]*\}?)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(text.count("\n", 0, found.start()) + 1, found[1], found[2])


def named_file(block: Block) -> str | None:
    """The file that a block is, if its first line says so."""
    found = re.match(r"(?:# @package \w+\n)?# ([\w/]+\.(?:yaml|py))\n", block.text)
    return found[1] if found else None


def is_recipe(name: str) -> bool:
    """Whether a file is a recipe, and no other config of an app."""
    return not name.startswith("configs/") or name.startswith("configs/init/")


def expanded(line: str) -> list[str]:
    """A command's arguments after bash has seen them."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def run_yaml(block: Block) -> None:
    if name := named_file(block):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(block.text, encoding="utf-8")
        data = yaml.safe_load(block.text)
        if is_recipe(name):
            initframe.load_recipe({key: data[key] for key in data if key != "defaults"})
    else:
        Path("block.yaml").write_text(block.text, encoding="utf-8")
        initframe.load_recipe("block.yaml")


def run_python(block: Block) -> None:
    if name := named_file(block):
        Path(name).write_text(block.text, encoding="utf-8")
    elif not block.text.startswith("# theirs: "):  # tests/test_migration.py
        exec(compile(block.text, f"line {block.line}", "exec"), {"__name__": "__main__"})


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process: smaller where it trains, dry where nobody needs its files."""
    if line.startswith(ELSEWHERE):
        return
    if line.startswith("python train.py"):  # an app that the page has written
        monkeypatch.setattr(sys, "argv", expanded(line.removeprefix("python")))
        runpy.run_path(str(Path("train.py").resolve()), run_name="__main__")
        return
    command = next((command for command in COMMANDS if line.startswith(command)), None)
    assert command, f"no test knows how to run: {line}"
    arguments = expanded(line.removeprefix(command))
    if COMMANDS[command] is train.main:
        arguments += ["images=100", "epochs=1"]
    elif COMMANDS[command] is reinit.main and not re.search("hydra.run.dir|--help|--schema", line):
        arguments += ["dry_run=true"]
    monkeypatch.setattr(sys, "argv", [command.split()[-1], *arguments])
    with contextlib.suppress(SystemExit) if "--help" in line else contextlib.nullcontext():
        COMMANDS[command]()


@pytest.fixture
def away(monkeypatch, table):
    """A folder that is gone afterwards, no network, and plugins that are not remembered."""
    fetched = {name.replace("_", ""): name for name in models.list_models(module=models)}

    def fetch(url: str, **_: object) -> object:
        return models.get_model(fetched[url.rpartition("/")[2].partition("-")[0].replace("_", "")]).state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        yield
        monkeypatch.undo()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(folder):
            del sys.modules[name]


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] * (p in SLOW)) for p in PAGES])
def test_every_block_of_a_page_runs(page, away, monkeypatch, logging_restored):
    for block in blocks(page):
        if block.language == "yaml":
            run_yaml(block)
        elif block.language == "python":
            run_python(block)
        elif block.language == "sh":
            for line in block.text.replace("\\\n", "").splitlines():
                if line and not line.startswith("#"):
                    run_line(line, monkeypatch)
                    logging_restored()
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            assert block.language in ("text", "json", "") or block.language.startswith("{")  # sphinx's own


@pytest.mark.parametrize("page", PAGES)
def test_every_link_into_the_repository_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_page_shows_the_preset_that_it_names(page):
    shown = next(block.text for block in blocks(page) if block.language == "yaml")
    assert shown == presets()["xavier_relu"].read_text(encoding="utf-8")


# --- the page of initializers ----------------------------------------------------------------------------------------

HEAD = """# Initializers

The names that a recipe can write after `init:`, with their arguments. Arguments without a default are required. This
page is made from the code: `pytest tests/test_docs.py --overwrite`.

| name | arguments | what it gives | when | source |
|---|---|---|---|---|
"""


def page_of_initializers() -> str:
    own = {n: f for n, f in initializer_table._TABLE.items() if f.__module__.startswith("initframe.initializers")}
    lines = (f"| `{name}` | {arguments(own[name])} | {' | '.join(about(own[name]))} |\n" for name in sorted(own))
    return HEAD + "".join(lines)


def arguments(function) -> str:
    return ", ".join(f"`{p.name}`{default(p)}" for p in parameters(function).values())


def default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return ""
    value = parameter.default
    shown = {None: "null", "": "''"}.get(value, value)
    return f" = {shown:.6g}" if isinstance(shown, float) else f" = {shown}"


def about(function) -> tuple[str, str, str]:
    """What an initializer gives, when to use it, and its source: its first line and the paragraph "Use it …"."""
    first, use, *_ = inspect.getdoc(function).split("\n\n")
    formula, source = re.fullmatch(r"(.*?)(?: \(([^()]*(?:\d{4}|\.py)[^()]*)\))?\.", first).groups()
    when = " ".join(use.removeprefix("Use it ").split())
    return cell(f"{formula}."), cell(when[0].upper() + when[1:]), cell(source or "")


def cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def test_the_page_of_initializers_is_what_the_code_says(request):
    page = ROOT / "docs/initializers.md"
    if request.config.getoption("--overwrite"):
        page.write_text(page_of_initializers(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == page_of_initializers(), "run pytest tests/test_docs.py --overwrite"


# --- the page of presets ---------------------------------------------------------------------------------------------

PRESETS = """# Presets

The recipes that come with initframe. `init=` and `load_recipe` take their names. Each is a YAML file in `conf/init`.
`tests/presets` compares the *proven* ones with their library's own constructor, tensor by tensor. This page is made
from the files' comments: `pytest tests/test_docs.py --overwrite`.

| name | what it is | source |
|---|---|---|
"""


def page_of_presets() -> str:
    return PRESETS + "".join(f"| `{name}` | {' | '.join(told(path))} |\n" for name, path in presets().items())


def told(path: Path) -> tuple[str, str]:
    """A preset's comment up to where it names its source, and the source."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = itertools.takewhile(lambda line: line.startswith("# "), lines)
    comment = " ".join(line[2:] for line in comments if line != MODELINE)
    text, rest = re.fullmatch(r"(.*?)((?:Proven against|From source only).*)?", comment).groups()
    return cell(text.strip()), cell(rest or "")


def test_the_page_of_presets_is_what_the_files_say(request):
    page = ROOT / "docs/presets.md"
    if request.config.getoption("--overwrite"):
        page.write_text(page_of_presets(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == page_of_presets(), "run pytest tests/test_docs.py --overwrite"
