"""What is shown is harmless: names of strangers bring no escape codes, line breaks or marks of direction."""

import logging
import warnings

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from torch import nn

import initframe
from initframe.applying.load_checkpoint import load_checkpoint
from initframe.initializers import initializer

EVIL = "a\x1b[31mred\nerror: no\u202eb\x85"
SIGNS = {*"\x1b\u202e\x85"}


class Odd(nn.Module):
    """A model whose names are hostile."""

    def __init__(self):
        super().__init__()
        self.add_module(EVIL, nn.Linear(3, 3))
        self.add_module("copy", nn.Linear(3, 3))
        self.register_buffer(f"{EVIL} buffer", torch.zeros(3))

    def forward(self, x):
        return self.copy(getattr(self, EVIL)(x))


Odd.__name__ = Odd.__qualname__ = f"Odd{EVIL}"
RULES = {
    f"{EVIL} rule": {"match": "*.weight", "init": "normal", "std": "x", "companions": {"lr": 2}},
    "two": {"match": f"{EVIL}.bias", "init": "zeros"},
}
RECIPE = {"rules": RULES, "vars": {"x": 1}, "requires": f"{EVIL} words"}


def applied():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        report = initframe.reinit(Odd(), RECIPE, seed=0, measure=True)
    return report, "".join(str(warning.message) for warning in told)


def failed():
    """The notes of an error that comes when some tensors are written."""
    with pytest.raises(ZeroDivisionError) as caught:
        initframe.reinit(Odd(), {"rules": RULES, "vars": {"x": 1}, "companions": "heeded"}, on_progress=lambda _: 1 / 0)
    return "".join(caught.value.__notes__)


TEXTS = {
    "plan": lambda: str(initframe.resolve(RECIPE, Odd())),
    "plan's name": lambda: repr(initframe.resolve(RECIPE, Odd())),
    "explanation": lambda: initframe.resolve(RECIPE, Odd()).explain(f"{EVIL}.weight"),
    "report": lambda: str(applied()[0]),
    "report's name": lambda: repr(applied()[0]),
    "warning": lambda: applied()[1],
    "notes": failed,
    "yaml": lambda: initframe.load_recipe(RECIPE).to_yaml(),
    "traced": lambda: str(initframe.trace(Odd)),
    "described": lambda: initframe.describe(initframe.trace(Odd)).to_yaml(),
    "identified": lambda: str(initframe.identify(Odd())),
    "difference": lambda: str(initframe.diff(initframe.resolve(RECIPE, Odd()), initframe.trace(Odd))),
    "measured": lambda: str(initframe.propagate(Odd(), torch.ones(2, 3))),
    "predicted": lambda: str(initframe.predict(initframe.resolve(RECIPE, Odd()), torch.ones(2, 3))),
    "compared": lambda: str(initframe.compare(Odd, {EVIL: RECIPE}, torch.ones(2, 3))),
}


@pytest.mark.parametrize("what", TEXTS)
def test_hostile_names_are_escaped(what):
    text = TEXTS[what]()
    assert not SIGNS & {*text}
    assert "\nerror: no" not in text
    assert "red" in text.replace("\n", "").replace(" ", "")


def test_names_of_a_file_are_escaped(tmp_path, caplog):
    save_file({f"{EVIL}.{name}": torch.zeros(1) for name in "abc"}, tmp_path / "file")
    problems = refused(load_checkpoint, nn.Linear(1, 1), tmp_path / "file")
    assert not SIGNS & {*"".join(map(str, problems))}
    state = {f"model.{name}": torch.zeros(value.shape) for name, value in nn.Linear(1, 1).state_dict().items()}
    save_file({**state, EVIL: torch.zeros(1)}, tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        load_checkpoint(nn.Linear(1, 1), tmp_path / "file")
    assert "red" in caplog.text
    assert not SIGNS & {*caplog.text}


def test_what_an_initializer_says_is_escaped(table):
    @initializer("angry")
    def angry(slot):
        raise ValueError(EVIL * 100_000)

    (problem,) = refused(initframe.resolve, {"rules": {"weight": "angry"}}, nn.Linear(2, 2))
    assert str(problem).isprintable()
    assert len(str(problem)) < 5_000
