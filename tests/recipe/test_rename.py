"""Names made from names by pairs of patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initframe.errors import RecipeError
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.rename import rename

NAMES = st.text("ab.", min_size=1, max_size=9)
GLOBS = st.text("ab.*?", min_size=1, max_size=7)


@given(NAMES, GLOBS)
def test_a_pattern_renamed_to_itself_is_the_name_and_matches_what_match_matches(name, glob):
    renamed = rename(name, glob, glob.replace("?", "x"))
    assert (renamed is not None) == (compile_pattern(glob).match(name) is not None)
    if renamed is not None and "?" not in glob and not name.startswith(".") and ".." not in name:  # as torch's are
        assert renamed == name


@pytest.mark.parametrize(
    ("name", "pattern", "target", "renamed"),
    [
        ("target.a.b", "target.*", "online.*", "online.a.b"),
        ("x.q.y.k.z", "*.q.*.k.*", "*.1.*.2.*", "x.1.y.2.z"),
        ("weight", "*.weight", "*.bias", "bias"),
        ("weight", "*.weight", "old.*.weight", "old.weight"),
        ("net.weight", "*.weight", "old.*.weight", "old.net.weight"),
        ("h.3.w", "h.{layer}.w", "g.{layer}.w", "g.3.w"),
        ("h.3.w", "h.*.?", "fixed", "fixed"),
        ("a1.w", "a[12].*", "b.*", "b.w"),
        ("b1.w", "a[12].*", "b.*", None),
        ("encoder.3.norm.weight", "encoder.*.norm.*", "layers.*.ln.*", "layers.3.ln.weight"),
        ("norm.weight", "*.weight", "*.gamma", "norm.gamma"),
        ("weight", "*.weight", "*.gamma", "gamma"),
        ("weight", "*.weight", "model.*.gamma", "model.gamma"),
        ("a.b.b.c", "*.b.*", "*|*", "a|b.c"),
        ("a.b", "a*b", "x*y", "x.y"),
        ("h.0.attn.weight", "h.[0-9].*", "layer_*", "layer_attn.weight"),
        ("ab.weight", "*.b.*", "*", None),
        ("fc.weight", "fc.weight", "head.weight", "head.weight"),
        ("h.12.attn.weight", "h.{layer}.*", "blocks.{layer}.*", "blocks.12.attn.weight"),
        ("a.h.3.b", "*.h.{i}.*", "*.x{i}.*.{i}", "a.x3.b.3"),
        ("h.x.b", "*.h.{i}.*", "*.{i}.*", None),
    ],
)
def test_each_star_is_what_the_star_of_its_place_matched(name, pattern, target, renamed):
    assert rename(name, pattern, target) == renamed


@pytest.mark.parametrize(("pattern", "target"), [("a.*", "*.*"), ("a.*", "b.?"), ("a.*", "b.{layer}"), ("a", "[ab]")])
def test_what_is_no_new_name(pattern, target):
    with pytest.raises(RecipeError) as caught:
        rename("a.b", pattern, target)
    assert repr(target) in caught.value.problems[0].fact


def test_many_stars_take_no_time():
    assert rename("a" * 500, "*a" * 400 + "b", "x") is None
