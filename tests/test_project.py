"""The files of an open project say what pyproject.toml and .ci/run say."""

import tomllib
from pathlib import Path

import pytest
import yaml

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
