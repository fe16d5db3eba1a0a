"""Every attack is refused: no code runs, no model changes, nothing hostile is shown."""

import warnings

import pytest
from nets import bits, changed

from initframe.errors import InitframeError
from tests.attacks.attacks import every
from tests.attacks.texts import MARK

ATTACKS = list(every())


@pytest.mark.parametrize("attack", ATTACKS, ids=[f"{i}" for i in range(len(ATTACKS))])
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
