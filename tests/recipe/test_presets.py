"""Whatever is in conf/init is a recipe that loads by its name."""

import pytest
import yaml

from initframe.recipe import presets as module
from initframe.recipe.presets import conf_directory, presets
from initframe.recipe.recipe import load_recipe


@pytest.mark.parametrize("name", presets())
def test_presets_load_by_name_and_survive_their_own_plain_data(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.rules or recipe.unmatched == "constructor"
    assert load_recipe(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", presets())
def test_rule_names_can_be_overridden_on_a_command_line(name):
    rules = yaml.safe_load(presets()[name].read_text())["rules"]
    assert all(key.isidentifier() for key in rules)


def test_configurations_inside_of_the_package_come_first(tmp_path, monkeypatch):
    package = tmp_path / "initframe"
    (tmp_path / "conf" / "init").mkdir(parents=True)
    (tmp_path / "conf" / "init" / "outer.yaml").touch()
    monkeypatch.setattr(module, "_PACKAGE", package)
    assert conf_directory() == tmp_path / "conf"
    assert list(presets()) == ["outer"]
    (package / "conf" / "init").mkdir(parents=True)
    (package / "conf" / "init" / "b.yaml").touch()
    (package / "conf" / "init" / "a.yaml").touch()
    (package / "conf" / "init" / "a.txt").touch()
    assert list(presets()) == ["a", "b"]


def test_without_configurations_there_are_no_presets(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "initframe")
    assert presets() == {}
