"""docs/stream.md is the definition: what can be compared with the code is."""

import re
from pathlib import Path

from initframe.stream import DISTRIBUTIONS, formulas, philox

TEXT = (Path(__file__).parents[2] / "docs" / "stream.md").read_text(encoding="utf-8")


def test_every_coefficient_is_told():
    told = {float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", TEXT)}
    tables = formulas.NLOG, formulas.SIN, formulas.COS, formulas.ICDF_CENTRE, formulas.ICDF_TAIL
    needed = {number for table in tables for number in table} | {formulas.ICDF_TAIL_MID, formulas.LN2}
    assert needed <= told


def test_every_distribution_and_integer_constant_is_told():
    assert all(re.search(rf"^### {distribution}", TEXT, re.MULTILINE) for distribution in DISTRIBUTIONS)
    for number in (*philox.MULTIPLIERS, *philox.WEYL, formulas.SQRT_HALF):
        assert f"0x{number:08X}" in TEXT
