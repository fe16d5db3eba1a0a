"""One bit is noticed, wherever it is; ``python -m tests.verification.flips`` does the same with more of them."""

import random

import pytest

from tests.verification.flips import PARTS, flips, noticed, run


@pytest.mark.slow
def test_every_flipped_bit_is_noticed(tmp_path):
    run(tmp_path)
    assert not noticed(tmp_path)
    found = list(flips(tmp_path, 160, random.Random()))
    assert {part for part, _ in found} == {*PARTS}
    assert all(seen for _, seen in found)
    assert not noticed(tmp_path)


@pytest.mark.parametrize("written", ['"normal"', "1e-05", "\n  "])
def test_what_says_the_same_in_other_bytes_is_noticed(tmp_path, written):
    run(tmp_path)
    path = tmp_path / "manifest.json"
    text = path.read_text()
    assert written in text
    path.write_text(
        text.replace(written, {'"normal"': r'"norma\u006c"', "1e-05": "1E-05", "\n  ": "\n   "}[written], 1)
    )
    assert noticed(tmp_path)
