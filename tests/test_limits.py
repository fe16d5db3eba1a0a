"""Every bound of initframe.limits: what is within passes, what is beyond is refused with the number."""

import ast
import inspect
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from torch import nn

import initframe
from initframe import limits
from initframe.applying.load_checkpoint import load_checkpoint
from initframe.errors import InitframeError, Problem, nearest
from initframe.files import archive
from initframe.files.archive import open_archive
from initframe.files.reading import open_file
from initframe.recipe.expressions import parse
from initframe.recipe.patterns import compile_pattern

DOCS = Path(__file__).parents[1] / "docs" / "trust.md"
NAMES = [node.targets[0].id for node in ast.parse(inspect.getsource(limits)).body if isinstance(node, ast.Assign)]


def recipe(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return lambda: initframe.load_recipe(path)


def nested(levels):
    return "{x: " * (levels - 1) + "1" + "}" * (levels - 1)


def chain(length):
    variables = {f"v{i}": f"v{i + 1}" for i in range(length - 1)} | {f"v{length - 1}": 1}
    rules = {"bias": {"init": "constant", "val": "v0"}}
    return lambda: initframe.resolve({"vars": variables, "rules": rules}, nn.Linear(2, 2))


def stored(folder, state, **changed):
    """A checkpoint of torch, with parts that are changed."""
    file = io.BytesIO()
    torch.save(state, file)
    path = folder / "file.pt"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            part = info.filename.partition("/")[2]
            new.writestr(zipfile.ZipInfo(info.filename), changed.get(part.partition(".")[2] or part, old.read(info)))
    return lambda: open_file(path)


def shared(entries):
    """A training state in which one mapping stands many times."""
    one = dict.fromkeys(map(str, range(1_000)), 0)
    return {f"s{i}": one for i in range(entries // 1_000 + 1)}


def many(folder, count):
    path = folder / "file.safetensors"
    table = {f"n{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return lambda: open_file(path)


def sparse(folder, shape, init, **arguments):
    """A rule that reads a tensor of which the file has no block."""
    path = folder / "file.safetensors"
    size = 4 * torch.Size(shape).numel()
    text = json.dumps({"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(1, 5, shape[-1]) if init != "weight_selection" else torch.zeros(4))
    return lambda: initframe.resolve({"rules": {"weight": {"init": init, "path": str(path), **arguments}}}, model)


BEYOND = {
    "RECIPE_BYTES": lambda folder, n: recipe(folder, "rules: {}\n".ljust(n, "#")),
    "RECIPE_VALUES": lambda folder, n: recipe(folder, "rules: {}\nrequires: [" + "x, " * (n - 4) + "]"),
    "RECIPE_DEPTH": lambda folder, n: recipe(folder, f"rules: {nested(n - 1)}"),
    "NUMBER_CHARACTERS": lambda folder, n: recipe(folder, f"vars: {{a: {'0.' + '1' * (n - 2)}}}\nrules: {{}}"),
    "EXPRESSION_CHARACTERS": lambda _, n: lambda: parse("1".rjust(n - 1, "0").replace("0", "a") + "b"),
    "EXPRESSION_PARTS": lambda _, n: lambda: parse(f"min({'x,' * (n // 2)} x)"),
    "EXPRESSION_DEPTH": lambda _, n: lambda: parse("-" * n + "x"),
    "CHAINED_NUMBERS": lambda _, n: chain(n),
    "PATTERN_CHARACTERS": lambda _, n: lambda: compile_pattern("a" * n),
    "TENSORS": many,
    "ENTRIES": lambda folder, n: stored(folder, shared(n)),
    "INDEX_BYTES": lambda folder, n: stored(folder, {}, pkl=b"\x80\x02}".ljust(n - 1, b"0") + b"."),
    "PICKLE_STEPS": lambda folder, n: stored(folder, {}, pkl=b"\x80\x02" + b"]" * (n + 10_000) + b"."),
    "ELEMENTS": lambda folder, n: sparse(folder, [n], "weight_selection"),
    "RESAMPLED": lambda folder, n: sparse(folder, [1, 1 + 8192**2, 1], "resample_pos_embed"),
}
SAID = {
    "EXPRESSION_DEPTH": "deeply",
    "CHAINED_NUMBERS": "in a row",
    "PICKLE_STEPS": "more steps",
    "INDEX_BYTES": "limit",
}


MANY = ("TENSORS", "PICKLE_STEPS")
"""Limits that only large files reach: their tests take more than a second."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in MANY)) for n in BEYOND])
def test_what_is_beyond_is_refused_with_the_number(name, tmp_path):
    limit = getattr(limits, name)
    problems = refused(BEYOND[name](tmp_path, limit + 1))
    assert SAID.get(name, str(limit)) in problems[0].fact


WITHIN = ("RECIPE_BYTES", "NUMBER_CHARACTERS", "EXPRESSION_CHARACTERS", "CHAINED_NUMBERS", "PATTERN_CHARACTERS")


@pytest.mark.parametrize("name", WITHIN)
def test_what_is_within_passes(name, tmp_path):
    BEYOND[name](tmp_path, min(getattr(limits, name), 60 if name == "CHAINED_NUMBERS" else 2**20))()


def test_a_tensor_that_repeats_its_elements(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(limits.EXPANDED_BYTES // 4)}, tmp_path / "within.pt")
    assert open_file(tmp_path / "within.pt").entries["weight"].size == limits.EXPANDED_BYTES
    torch.save({"weight": torch.zeros(1).expand(limits.EXPANDED_BYTES // 4 + 1)}, tmp_path / "beyond.pt")
    (problem,) = refused(open_file, tmp_path / "beyond.pt")
    assert "claims more memory" in problem.fact


def test_pickles_of_real_tensors_have_steps_to_spare(tmp_path):
    torch.save({f"layer.{i}.weight": torch.zeros(1) for i in range(3_000)}, tmp_path / "file.pt")
    assert len(open_file(tmp_path / "file.pt").entries) == 3_000


def test_messages_are_bounded():
    one = Problem("s" * 10**6, "f" * 10**6, "o" * 10**6, "x" * 10**6)
    assert len(str(one)) < 4 * limits.SHOWN_CHARACTERS + 50
    error = InitframeError(*[one] * 1_000)
    assert len(str(error)) < limits.MESSAGE_CHARACTERS + 100
    assert re.search(r"and \d+ more$", str(error))
    assert len(error.problems) == 1_000
    short = str(InitframeError(*[Problem("a", "b.")] * 1_000))
    assert short.count("\n") == limits.SHOWN_PROBLEMS + 1


def test_near_names_are_bounded(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        initframe.errors.difflib, "get_close_matches", lambda word, known, **_: asked.append(known) or []
    )
    assert nearest("x" * (limits.COMPARED_CHARACTERS + 1), ["x"]) == []
    save_file({f"block_{i}_weight": torch.zeros(1) for i in range(300)}, tmp_path / "file")
    model = nn.Module()
    for i in range(100):
        model.register_parameter(f"blokc_{i}_weight", nn.Parameter(torch.zeros(1)))
    problems = refused(load_checkpoint, model, tmp_path / "file")
    assert len(problems) == 1 + 300 + 100
    assert len(asked) == limits.COMPARED_NAMES
    assert max(map(len, asked)) <= limits.COMPARED_OPTIONS
    asked.clear()
    refused(initframe.resolve, {"rules": {f"no{i}.weight": "zeros" for i in range(100)}}, model)
    assert len(asked) <= 2 * limits.COMPARED_NAMES


def test_a_file_that_is_written_again_leaves_no_map_behind(tmp_path):
    model, path = nn.Linear(3, 3), tmp_path / "file.safetensors"
    for i in range(20):
        save_file({**nn.Linear(3, 3).state_dict(), "more": torch.zeros(i)}, path)
        initframe.reinit(model, {"rules": {"*": {"init": "pretrained", "path": str(path)}}})
    assert Path("/proc/self/maps").read_text().count(str(path)) <= 1
    for i in range(limits.OPEN_CHECKPOINTS + 3):
        save_file(model.state_dict(), tmp_path / f"{i}.safetensors")
        assert open_archive(str(tmp_path / f"{i}.safetensors")).entries
    assert len(archive._OPEN) == limits.OPEN_CHECKPOINTS


def test_integers_end_where_torchs_do():
    (problem,) = refused(
        initframe.resolve, {"rules": {"weight": {"init": "zeros", "split": limits.INTEGER}}}, nn.Linear(2, 2)
    )
    assert "divide" in problem.fact


@pytest.mark.skipif(not DOCS.is_file(), reason="no repository")
@pytest.mark.parametrize("name", NAMES)
def test_every_limit_is_documented(name):
    row = re.search(rf"^\| `{name}` \| ([0-9,]+|2\*\*63) \| .+ \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert row
    assert eval(row[1].replace(",", "")) == getattr(limits, name)
