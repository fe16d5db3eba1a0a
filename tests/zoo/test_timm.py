"""One model of each family of timm."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from zoo.soundness import assert_sound, on_meta

pytestmark = pytest.mark.slow

spec = find_spec("timm")
FAMILIES = sorted(path.stem for path in Path(spec.origin).parent.glob("models/[a-z]*.py")) if spec else []
HELPERS = {"factory", "features", "fx_features", "helpers", "hub", "layers", "registry"}
"""Files beside the families that hold no model."""


@pytest.mark.skipif(spec is None, reason="timm is not installed")
@pytest.mark.parametrize("family", FAMILIES)
def test_timm(family):
    import timm

    names = timm.list_models(module=family)
    assert bool(names) != (family in HELPERS)
    for name in names[:1]:
        assert_sound(on_meta(partial(timm.create_model, name)))


def test_the_families_are_those_that_timm_lists():
    timm = pytest.importorskip("timm")
    assert set(timm.list_modules()) <= set(FAMILIES)
