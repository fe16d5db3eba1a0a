"""The command line inside of this process: a process of its own costs seconds, and shows no more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from initframe.cli import reinit

SMALL = ("model=torchvision", "model.name=squeezenet1_1")


@dataclass(frozen=True)
class Run:
    """What a command left behind: its exit code, what it said, its own new files, and those of Hydra."""

    code: object
    out: str
    err: str
    files: list[str]
    hydra: list[str]


def is_hydras(path: Path) -> bool:
    return ".hydra" in path.parts or path.suffix == ".log" or path.name == "multirun.yaml"


@pytest.fixture
def plugins_forgotten(tmp_path, monkeypatch) -> Iterator[None]:
    """Let no later test see what a test imports from its own folder."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, plugins_forgotten, logging_restored) -> Callable[..., Run]:
    """Run a job in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, main: Callable[[], None] = reinit.main, name: str = "reinit.py") -> Run:
        before = set(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as left:
            code = left.code
        finally:
            logging_restored()
        said = capsys.readouterr()
        new = {path.relative_to(tmp_path) for path in {*tmp_path.rglob("*")} - before if path.is_file()}
        new = {path for path in new if "__pycache__" not in path.parts}
        hydra = {path for path in new if is_hydras(path)}
        return Run(code, said.out, said.err, sorted(map(str, new - hydra)), sorted(map(str, hydra)))

    return run


@pytest.fixture
def refused(command) -> Callable[..., str]:
    """Run a job that must fail: exit code 1, nothing on stdout, no traceback, and no file but Hydra's own."""

    def run(*arguments: str, **options) -> str:
        left = command(*arguments, **options)
        assert left.code == 1
        assert left.out == ""
        assert left.files == []
        assert "Traceback" not in left.err
        assert left.err.count("error:") <= 1
        return left.err

    return run


@pytest.fixture
def user_folder(tmp_path) -> Callable[[str, str], Path]:
    """Write a file of the user's own."""

    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
