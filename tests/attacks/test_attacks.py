"""Every attack is refused: no code runs, no model changes, nothing hostile is shown."""

import warnings

import pytest
from nets import bits, changed

from initframe.errors import InitframeError
from tests.attacks.attacks import every
from tests.attacks.texts import MARK

ATTACKS = list(every())
LARGE = {"index: many", "torch: pickle: deep_key", "torch: pickle: deep_list"}
"""Attacks that take more than a second to refuse."""


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=str(number), marks=[pytest.mark.slow] * (attack.name in LARGE))
        for number, attack in enumerate(ATTACKS)  # not by their names, which are hostile
    ],
)
def test_an_attack_is_refused(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = bits(attack.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InitframeError) as caught:
            attack.run(tmp_path)
    assert not (tmp_path / MARK).exists()
    assert changed(attack.model, before) == set()
    text = str(caught.value)
    assert text.replace("\n", "").isprintable()
    assert len(text) < 25_000
    assert "weights_only=False" not in text  # as torch advises


def test_there_are_enough():
    assert len(ATTACKS) >= 300
    assert {attack.name for attack in ATTACKS} >= LARGE
