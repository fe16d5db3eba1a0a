"""The files of an open project say what pyproject.toml and .ci/run say."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import initframe

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))

# What is tested is the repository; an sdist has none of its files.
pytestmark = pytest.mark.skipif(not TEMPLATES, reason="no repository")


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_workflow_runs_ci_on_every_supported_python():
    job = read(".github/workflows/ci.yml")["jobs"]["ci"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert (ROOT / ".ci/run").stat().st_mode & 0o100
    prefix = "Programming Language :: Python :: 3."
    named = [f"3.{text.removeprefix(prefix)}" for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert job["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_the_workflow_installs_with_pip_and_uv():
    assert read(".github/workflows/ci.yml")["jobs"]["install"]["steps"][-1] == {"run": ".ci/install"}
    script = (ROOT / ".ci/install").read_text(encoding="utf-8")
    assert all(
        words in script for words in ("-m build", "pip install", '"$uv" venv', '"$uv" pip install', '"$uv" build')
    )


def test_a_tag_is_a_release():
    workflow = read(".github/workflows/release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads on as True
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    runs = [step["run"].split()[0] for step in build["steps"] if "run" in step]
    assert runs[:3] == [".ci/notes", ".ci/run", ".ci/install"]
    assert publish["needs"] == "build"
    assert "permissions" not in build
    assert publish["permissions"] == {"contents": "write", "id-token": "write"}


@pytest.fixture
def release(tmp_path):
    """Ask for a release's notes in a copy of the files, with a day in the changelog or without."""

    def ask(tag, day="2026-12-01", cited=initframe.__version__):
        for path in (".ci/notes", "initframe/version.py"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / path, tmp_path / path)
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        heading = f"## {initframe.__version__} - {day}\n"
        (tmp_path / "CHANGELOG.md").write_text(re.sub(r"^## .*\n", heading, text, count=1, flags=re.MULTILINE))
        (tmp_path / "CITATION.cff").write_text(f"version: {cited}\n")
        line = [sys.executable, tmp_path / ".ci/notes", tag]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    return ask


def test_a_release_has_the_text_of_the_changelog(release):
    done = release(f"v{initframe.__version__}")
    assert done.returncode == 0
    assert done.stdout.startswith("### Added\n")
    assert "\n## " not in done.stdout


@pytest.mark.parametrize(
    "asked",
    [{"tag": "v9.9.9"}, {"tag": initframe.__version__}, {"day": "unreleased"}, {"cited": "0.0.1"}],
    ids=str,
)
def test_what_is_no_release(release, asked):
    done = release(**{"tag": f"v{initframe.__version__}", **asked})
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


def test_every_file_has_the_same_version():
    first = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first[1] == initframe.__version__ == str(read("CITATION.cff")["version"])


def test_a_commit_is_checked_by_the_same_ruff():
    [pinned] = [text for text in PROJECT["optional-dependencies"]["dev"] if text.startswith("ruff")]
    hooks = read(".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert [hook["additional_dependencies"] for hook in hooks] == [[pinned], [pinned]]


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.stem != "config"], ids=lambda path: path.stem)
def test_an_issue_is_asked_for_what_is_needed(path):
    form = read(path)
    assert form.keys() >= {"name", "description", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_citation_is_of_this_project():
    citation = read("CITATION.cff")
    assert citation["title"].startswith(f"{PROJECT['name']}:")
    assert citation["license"] == PROJECT["license"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_the_lowest_and_the_newest_dependencies_are_tested():
    jobs = read(".github/workflows/dependencies.yml")["jobs"]
    assert jobs["dependencies"]["strategy"]["matrix"]["resolution"] == ["lowest", "newest"]
    assert (ROOT / ".ci/dependencies").stat().st_mode & 0o100
    floors = [text.split(";")[0] for text in PROJECT["dependencies"]]
    assert [text for text in floors if ">=" not in text] == []  # without a bound, "lowest" means nothing
    for step in jobs["fuzz"]["steps"]:
        if "-m tests." in step.get("run", ""):
            name = step["run"].split("-m ")[1].split()[0].replace(".", "/")
            assert (ROOT / f"{name}.py").is_file() or (ROOT / name / "__main__.py").is_file()
