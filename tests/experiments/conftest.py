"""Experiments inside this process, in an empty folder."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, logging_restored):
    """Run an experiment in an empty folder, in this process."""
    pytest.importorskip("digit_recognizer")
    pytest.importorskip("mlxtend")
    monkeypatch.chdir(tmp_path)

    def go(main, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["job", *arguments])
        try:
            main()
        finally:
            logging_restored()
        return capsys.readouterr().out

    return go
