"""The table: one function per name, and only functions that a recipe can call."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import pytest

from initframe.errors import RecipeError
from initframe.fills import Constant, Fill
from initframe.initializers import get, initializer, list_initializers, parameters
from initframe.initializers import table as module

TORCH_NN_INIT = ["uniform", "normal", "trunc_normal", "constant", "ones", "zeros", "eye", "dirac", "xavier_uniform"]
TORCH_NN_INIT += ["xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal", "sparse"]
OTHERS = [
    "variance_scaling",
    "lecun_uniform",
    "lecun_normal",
    "torch_default",
    "shift",
    "scale",
    "shrink_perturb",
    "keep",
]


@pytest.mark.parametrize("name", TORCH_NN_INIT + OTHERS)
def test_every_promised_initializer_is_there_and_documented(name):
    assert name in list_initializers()
    assert get(name).__doc__
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters(get(name)).values())


@pytest.mark.parametrize("name", TORCH_NN_INIT)
def test_keywords_are_those_of_torch(name):
    import torch

    theirs = inspect.signature(getattr(torch.nn.init, f"{name}_")).parameters
    ours = parameters(get(name))
    assert set(theirs) - {"tensor", "generator"} <= set(ours)
    for key in set(theirs) & set(ours):
        assert ours[key].default == theirs[key].default


def test_a_function_of_ones_own_is_found_by_name(table):
    @initializer("my_law")
    def my_law(slot, *, p: float = 0.5) -> Fill:
        return Constant(p)

    assert get("my_law") is my_law
    assert "my_law" in list_initializers()
    assert parameters(my_law)["p"].annotation is float


def test_a_cell_that_runs_twice_replaces_its_function(table):
    def define():
        @initializer("my_law")
        def my_law(slot) -> Fill:
            return Constant(1)

        return my_law

    first, second = define(), define()
    assert first is not second
    assert get("my_law") is second


def test_a_name_that_is_taken_is_refused(table):
    with pytest.raises(RecipeError, match=r"'zeros'.* in initframe\.initializers\.basic"):

        @initializer("zeros")
        def my_zeros(slot) -> Fill:
            return Constant(0)

    assert get("zeros").__module__ == "initframe.initializers.basic"


@pytest.mark.parametrize("name", ["", None, 3, lambda slot: Constant(0)])
def test_a_name_is_a_text(name, table):
    with pytest.raises(RecipeError, match="registered under a name"):
        initializer(name)


@pytest.mark.parametrize(
    ("function", "fact"),
    [
        (lambda: None, "takes no slot"),
        (lambda *, slot: None, "takes no slot"),
        (lambda **kwargs: None, "takes no slot"),
        (lambda slot, gain: None, "takes gain by position"),
        (lambda slot, gain, bias=0, *, std=1: None, "takes gain, bias by position"),
        (lambda slot, *gains: None, "takes gains by position"),
        (lambda slot, **gains: None, r"takes \*\*gains, any argument at all"),
        (lambda slot, *, kind="a": None, "argument 'kind' means something else in a rule"),
        (lambda slot, *, target=1.0: None, "argument 'target' means something else"),
    ],
)
def test_what_a_recipe_could_not_call_is_refused(function, fact, table):
    with pytest.raises(RecipeError, match=f"'my_law'.* {fact}"):
        initializer("my_law")(function)
    assert "my_law" not in list_initializers()


def test_an_unknown_name_is_told_the_closest():
    with pytest.raises(RecipeError, match=r"unknown initializer 'xavier_unifrom'. Closest: xavier_uniform, .*plugins="):
        get("xavier_unifrom")


def test_annotations_that_cannot_be_read_are_refused(table):
    def my_law(slot, *, p: NoSuchType = 0) -> Fill:  # noqa: F821
        return Constant(p)

    with pytest.raises(RecipeError, match=r"'my_law'.*NoSuchType"):
        initializer("my_law")(my_law)


class Point:
    """An installed entry point."""

    value: ClassVar[str] = "pkg.laws:installed"

    def __init__(self, loaded: Any):
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def installed_law(slot, *, p: float = 1.0) -> Fill:
    return Constant(p)


def test_installed_entry_points_are_found(table, monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda: {"installed": Point(installed_law)})
    assert "installed" in list_initializers()
    assert get("installed") is installed_law


def test_an_entry_point_that_does_not_import_is_an_error_of_the_recipe(table, monkeypatch):
    monkeypatch.setattr(module, "_installed", lambda: {"installed": Point(ImportError("no module named pkg"))})
    with pytest.raises(RecipeError, match=r"'installed'.* pkg.laws:installed, which fails to import"):
        get("installed")
