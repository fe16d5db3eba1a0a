"""The wheel as a stranger gets it: installed beside its dependencies, used from another directory."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

APP = """
import hydra
import torch
import initframe

@hydra.main(version_base="1.3", config_path="conf", config_name="app")
def main(config):
    model = torch.nn.Linear(3, 3)
    initframe.reinit(model, config.init, seed=config.seed)
    print(model.bias.tolist(), initframe.load_recipe("orthogonal_relu").name, initframe.__file__)

main()
"""
CONFIG = """
defaults:
  - init: xavier_relu
  - _self_
seed: 3
hydra:
  searchpath: ["pkg://initframe.PACKAGE"]
  output_subdir: null
  run: {dir: .}
"""


def built(kind: str, source: Path, folder: Path) -> Path:
    """Build an sdist or a wheel."""
    line = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder]
    subprocess.run(line, cwd=source, env=clean(), capture_output=True, check=True)
    return next(folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built as an index would: from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(built("sdist", ROOT, folder)) as archive:
        archive.extractall(folder, filter="data")
    return built("wheel", next(path for path in folder.iterdir() if path.is_dir()), folder)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment: the wheel in its own place, what it depends on seen where it is already."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", wheel], check=True, env=clean())
    there = next((home / "lib").glob("python*/site-packages"))
    (there / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    return home


def clean() -> dict[str, str]:
    """The environment without what would lead back to the sources."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "PIP_"))}


def test_the_wheel_holds_the_configs_and_nothing_from_outside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    shipped = {name.removeprefix("initframe/") for name in names if name.startswith("initframe/conf/")}
    assert shipped == {
        str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*") if path.suffix in (".yaml", ".py", ".json")
    }
    recipes = {name.removeprefix("initframe/conf/init/") for name in names if name.startswith("initframe/conf/init/")}
    presets = {name.removeprefix("initframe/presets/init/") for name in names if "presets/init/" in name}
    assert presets == recipes
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"initframe"}


def test_the_console_command_from_another_directory(installed, tmp_path):
    arguments = ["model=torchvision", "model.name=squeezenet1_1", "init=[kaiming_relu,head_small]", "hydra.run.dir=run"]
    command = installed / "bin" / "initframe-reinit"
    done = subprocess.run([command, *arguments], cwd=tmp_path, env=clean(), capture_output=True, text=True, check=True)
    assert "SqueezeNet × kaiming_relu+head_small, seed 0" in done.stdout
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".hydra",  # this and the log are Hydra's own
        "manifest.json",
        "model.safetensors",
        "plan.txt",
        "reinit.log",
    ]


@pytest.mark.parametrize("package", ["presets", "conf"])
def test_a_foreign_hydra_app(installed, tmp_path, package):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "app.yaml").write_text(CONFIG.replace("PACKAGE", package))
    (tmp_path / "app.py").write_text(APP)
    line = [installed / "bin" / "python", "app.py", "init=normal_001"]
    done = subprocess.run(line, cwd=tmp_path, env=clean(), capture_output=True, text=True, check=True)
    bias, preset, place = done.stdout.rsplit(maxsplit=2)
    assert bias == "[0.0, 0.0, 0.0]"
    assert preset == "orthogonal_relu"
    assert Path(place).is_relative_to(installed)


def test_the_wheel_is_the_same_from_the_repository(wheel, tmp_path):
    direct = built("wheel", ROOT, tmp_path)
    assert sorted(zipfile.ZipFile(direct).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("command", ["initframe-reinit", "initframe-train"])
def test_the_console_commands_exist(installed, command):
    assert (installed / "bin" / command).is_file()
