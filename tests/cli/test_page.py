"""``page=true``: a run writes its page with its other files, and replaces it with them."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL

HERE = "hydra.run.dir=run"


@pytest.mark.slow
def test_a_page_is_written_with_the_other_files(command):
    done = command(*SMALL, HERE, "page=true")
    assert done.code == 0
    assert done.out.endswith("Files in run: model.safetensors, manifest.json, plan.txt, page.html\n")
    page = Path("run/page.html").read_text(encoding="utf-8")
    tensors = json.loads(Path("run/manifest.json").read_text())["tensors"]
    assert tensors
    assert all(tensor["name"] in page.replace("<wbr>", "") for tensor in tensors)


@pytest.mark.slow
def test_an_earlier_page_goes_with_its_run(command):
    command(*SMALL, HERE, "page=true")
    assert command(*SMALL, HERE).code != 0
    assert Path("run/page.html").exists()
    assert command(*SMALL, HERE, "overwrite=true").code == 0
    assert not Path("run/page.html").exists()


def test_without_its_libraries_nothing_is_built(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = command(*SMALL, HERE, "page=true")
    assert done.code != 0
    assert "pip install 'initframe[pages]'" in done.err
    assert not Path("run/model.safetensors").exists()
