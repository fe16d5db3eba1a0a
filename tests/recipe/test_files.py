"""Files become plain data, or one clear message with the place."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from initframe.errors import RecipeError
from initframe.limits import RECIPE_BYTES, RECIPE_VALUES
from initframe.recipe.files import read_yaml
from initframe.recipe.recipe import load_recipe

BOMB = "\n".join(
    f"{b}: &{b} [{', '.join([a] * 9)}]" for a, b in zip(["1", "*a", "*b", "*c", "*d"], "abcde", strict=True)
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1, y: 2}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9))]
)

MALFORMED = {
    "rules: {a: b, a: c}": r"line 1, column 15: key 'a' is there already, in line 1",
    "rules:\n  w:\n    std: 1\n    init: a\n    std: 2\n": r"line 5, column 5: key 'std' is there already, in line 3",
    "rules:\n  *.weight: zeros": r"line 2, column 4: malformed YAML: .*needs quotes",
    "rules:\n  {layer}.w: zeros": r"line 2, column \d+: malformed YAML",
    "rules:\n\tw: zeros": r"line 2, column 1: malformed YAML",
    "rules: {w: ": r"line 1, column \d+: malformed YAML",
    "a: *nowhere": r"line 1, column 4: malformed YAML: found undefined alias 'nowhere'",
    "a: &x [*x]": r"line 1, column 4: an alias of this stands inside of it",
    "a: &x {b: *x}": r"line 1, column 4: an alias of this stands inside of it",
    "a: !!python/object/apply:os.system ['x']": r"line 1, column 4: malformed YAML: could not determine a constructor",
    "a: !own 3": r"could not determine a constructor for the tag '!own'",
    "a: !!int x": r"line 1, column 4: a value does not fit its type",
    **{f"a: !!{tag} ''": "a value does not fit its type" for tag in ("int", "float", "bool", "timestamp")},
    "a: !!timestamp x": r"line 1, column 4: a value does not fit its type",
    "a: {<<: 3}": r"line 1, column 9: '<<' merges mappings",
    "a: &x {b: 1}\nc: {<<: [*x, y]}": r"line 2, column 14: '<<' merges mappings",
    "a: 2020-99-99": r"line 1, column 4: a value does not fit its type",
    "a: !!bool maybe": r"a value does not fit its type",
    "? [a]\n: b": r"line 1, column 3: a key is not a text",
    "--- a\n--- b": r"malformed YAML: expected a single document",
    "a:\n  b: \x01": r"line 2: special characters are not allowed",
    "[" * 5000: r"line 1, column 22: more than 20 levels",
    "- " * 5000: r"line 1, column 43: more than 20 levels",
    BOMB: r"line \d+, column \d+: more than 20000 values, aliases expanded",
    MERGES: r"line \d+, column \d+: more than 20000 values, aliases expanded",
    "- 1\n" * RECIPE_VALUES: r"more than 20000 values",
}


def written(path, content):
    path = path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: repr(text[:30]))
def test_malformed_files_give_one_message_with_the_place(tmp_path, text):
    (problem,) = refused(read_yaml, written(tmp_path, text), kind=RecipeError)
    assert problem.subject.startswith(str(tmp_path / "recipe.yaml"))
    assert re.search(MALFORMED[text], str(problem))
    assert problem.fix


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"\xff\xfea\x00", "is not UTF-8 text (byte 0)"),
        (b"#" * (RECIPE_BYTES + 1), f"is larger than {RECIPE_BYTES} bytes"),
    ],
)
def test_files_that_are_no_bounded_text(tmp_path, content, fact):
    (problem,) = refused(read_yaml, written(tmp_path, content), kind=RecipeError)
    assert fact in problem.fact


def test_what_is_no_readable_file(tmp_path):
    with pytest.raises(RecipeError, match="does not exist"):
        read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(RecipeError, match="is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(RecipeError, match=r"does not exist|cannot be read"):
        read_yaml(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("text", ["", "# @package _global_\n", "---\n"])
def test_an_empty_file_holds_nothing(tmp_path, text):
    assert read_yaml(written(tmp_path, text)) is None


def test_comments_anchors_merges_and_a_byte_order_mark_are_fine(tmp_path):
    text = "\ufeff# @package _global_\nbase: &base {init: normal, std: 1e-3}\nw: {<<: *base, std: 2}\nx: *base\n"
    data = read_yaml(written(tmp_path, text))
    assert data["w"] == {"init": "normal", "std": 2}
    assert data["x"] == {"init": "normal", "std": "1e-3"}


def test_a_merge_into_a_mapping_that_is_merged_itself_is_no_repeated_key(tmp_path):
    text = "z: &z {x: 1}\nq:\n  deep: &a {<<: *z, x: 2}\nb: {<<: *a}\n"
    assert read_yaml(written(tmp_path, text))["b"] == {"x": 2}


def test_the_mappings_own_keys_win_over_merged_ones_and_the_first_merged_mapping_over_later_ones(tmp_path):
    text = "a: &a {init: normal, std: 1}\nb: &b {std: 2, mean: 3}\nc: {mean: 4, <<: [*a, *b]}\nd: {<<: [*b, *a]}\n"
    data = read_yaml(written(tmp_path, text))
    assert data["c"] == {"init": "normal", "std": 1, "mean": 4}
    assert data["d"] == {"init": "normal", "std": 2, "mean": 3}


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
DATA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@given(DATA)
def test_what_yaml_writes_is_read_back(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "data.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert read_yaml(path) == data


@given(st.text("ab:-[]{}&*!|>'\"#?,@%\n\t 01.~<", max_size=40))
def test_any_text_is_data_or_a_recipe_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        read_yaml(path)
    except RecipeError as error:
        assert error.problems[0].subject.startswith(str(path))  # noqa: PT017  (both outcomes are right)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('rules:\n\t"*.weight": normal\n', "spaces"),
        ('rules:\n  a: {init: pretrained, path: "C:\\Users\\me.pt"}\n', "backslash"),
        ("rules:\n  a: {match: *.weight, init: normal}\n", "quotes"),
        ("rules:\n  a: {init: normal, std: 0,02}\n", "0.5"),
        ("rules:\n  a: {init: normal, 1: {}}\n", "quotes"),
    ],
)
def test_usual_slips_of_yaml_are_told_their_remedy(tmp_path, text, word):
    (tmp_path / "mine.yaml").write_text(text)
    (problem,) = refused(load_recipe, tmp_path / "mine.yaml")
    assert word in problem.fix
