"""Checkpoints without a model: what is read back is what a filled model would have saved."""

import errno
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import initframe
from initframe import Elementwise, Keep, SourceError, deferred, resolve, write_checkpoint
from initframe.applying import paint_files as filling
from initframe.applying.paint_files import Item
from tests.nets import Tower, bits, convnet, same_bits

LAWS = {
    "unmatched": "default",
    "rules": {
        "weights": {"match": "*", "where": "ndim > 1", "init": "normal", "std": 0.02},
        "qkv": {"match": "*.qkv.weight", "split": 3, "init": "orthogonal", "optional": True},
        "proj": {"match": "*.proj.weight", "init": "trunc_normal", "std": 0.02, "optional": True},
        "scale": {"match": "scale", "init": "ones", "optional": True},
    },
}


def planned(build=Tower, recipe=LAWS):
    with deferred():
        model = build()
    return resolve(recipe, model)


def filled(build=Tower, recipe=LAWS, seed=0, dtype=None):
    model = build().to(dtype)
    initframe.reinit(model, recipe, seed)
    return bits(model)


def read(files):
    """Everything in some files, by name."""
    tensors = [load_file(file) for file in files if file.suffix == ".safetensors"]
    return {name: tensor for one in tensors for name, tensor in one.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not same_bits(found[name], tensor)] == []


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("limit", ["5GB", 400, 1])
@pytest.mark.parametrize("build", [Tower, convnet])
def test_the_files_hold_what_the_model_would(build, limit, dtype, tmp_path):
    files = write_checkpoint(planned(build), tmp_path, seed=5, dtype=dtype, max_shard_size=limit)
    assert_same(read(files), filled(build, seed=5, dtype=dtype))


def test_a_model_takes_it_as_it_is(tmp_path):
    model = Tower()
    model.load_state_dict(read(write_checkpoint(planned(), tmp_path)))
    assert_same(bits(model), filled())


@pytest.mark.parametrize("chunk", [1, 100, 5000])
def test_chunks_change_nothing(chunk, monkeypatch, tmp_path):
    monkeypatch.setattr(filling, "CHUNK", chunk)
    assert_same(read(write_checkpoint(planned(), tmp_path)), filled())


@pytest.mark.parametrize("shape", [(), (1, 1, 7), (7, 1), (3, 4, 5), (2, 0, 3), (1, 3, 2, 2)])
@pytest.mark.parametrize("chunk", [1, 8, 20, 1000])
def test_chunks_are_small_and_hold_every_element_once(shape, chunk, monkeypatch):
    monkeypatch.setattr(filling, "CHUNK", chunk)
    tensor = torch.arange(math.prod(shape), dtype=torch.int16).view(shape)
    entry = Item("w", shape, torch.int16, "w", Keep(), tensor)
    pieces = [(region.pick(tensor), offset) for region, offset in filling.chunks(entry)]
    assert all(piece.nbytes <= max(chunk, 2) for piece, _ in pieces)
    assert [piece.flatten()[0] * 2 for piece, _ in pieces] == [offset for _, offset in pieces]
    assert torch.cat([torch.empty(0), *(piece.flatten() for piece, _ in pieces)]).equal(tensor.flatten().float())


def test_the_index_tells_where_everything_is(tmp_path):
    *shards, index = write_checkpoint(planned(), tmp_path, max_shard_size=1000)
    data = json.loads(index.read_text())
    assert {name: file.name for file in shards for name in load_file(file)} == data["weight_map"]
    assert data["metadata"]["total_size"] == sum(tensor.nbytes for tensor in filled().values())
    assert [file.name for file in shards][-1] == f"model-{len(shards):05}-of-{len(shards):05}.safetensors"
    largest = max(tensor.nbytes for tensor in filled().values())
    assert all(sum(tensor.nbytes for tensor in load_file(file).values()) <= max(1000, largest) for file in shards)


def test_one_file_where_everything_fits_or_is_wanted(tmp_path):
    (alone,) = write_checkpoint(planned(), tmp_path)
    (named,) = write_checkpoint(planned(), tmp_path / "weights.safetensors", max_shard_size=10)
    assert (alone.name, named.name) == ("model.safetensors", "weights.safetensors")
    assert alone.read_bytes() == named.read_bytes()


def test_tensors_of_any_shape(tmp_path):
    state = {
        "scalar": torch.zeros(()),
        "empty": torch.zeros(0, 3),
        "column": torch.zeros(5, 1),
        "row": torch.zeros(1, 5),
    }
    plan = resolve({"rules": {"*": {"init": "normal", "std": 1}}}, state)
    assert_same(read(write_checkpoint(plan, tmp_path)), filled_state(state))


def filled_state(state):
    initframe.reinit(state, {"rules": {"*": {"init": "normal", "std": 1}}})
    return state


def test_what_no_rule_touches_is_copied(tmp_path):
    model = convnet()
    before = bits(model)
    found = read(write_checkpoint(resolve({"rules": {"0.bias": "ones"}}, model), tmp_path))
    assert_same(found, before | {"0.bias": torch.ones(8)})


def test_fills_that_start_from_values_do(tmp_path):
    model, rules = convnet(), {"rules": {"*.weight": {"init": "shrink_perturb", "shrink": 0.5, "std": 0.1}}}
    found = read(write_checkpoint(resolve(rules, model), tmp_path))
    initframe.reinit(model, rules)
    assert_same(found, bits(model))


def test_what_has_neither_values_nor_rule_is_named(tmp_path):
    problems = refused(write_checkpoint, planned(convnet, {"rules": {"*.weight": "ones"}}), tmp_path)
    assert [problem.subject for problem in problems] == [
        "0.bias",
        "1.bias",
        "2.bias",
        "3.bias",
        "4.bias",
        "5.bias",
    ]
    assert list(tmp_path.iterdir()) == []


def test_computed_weights_are_refused_where_they_are_filled(tmp_path):
    model = nn.Sequential(weight_norm(nn.Linear(3, 3)))
    (problem,) = refused(write_checkpoint, resolve({"rules": {"*.weight": "ones"}}, model), tmp_path)
    assert (problem.subject, "Materialize" in problem.fix) == ("0.weight", True)
    found = read(write_checkpoint(resolve({"rules": {"*.bias": "ones"}}, model), tmp_path))
    assert_same(found, bits(model) | {"0.bias": torch.ones(3)})


def test_a_dtype_that_cannot_hold_a_fill_is_refused(tmp_path):
    plan = resolve({"rules": {"*": {"init": "constant", "val": 1e6}}}, nn.Linear(2, 2))
    problems = refused(write_checkpoint, plan, tmp_path, dtype=torch.float16)
    assert [(problem.subject.split(": ")[0], "float16" in problem.fact) for problem in problems] == [
        ("weight", True),
        ("bias", True),
    ]


@pytest.mark.parametrize("law", [lambda u: u.mean(), lambda u: u.no_such_function()])
def test_a_law_that_is_none_is_refused(law, tmp_path):
    plan = planned()
    wrong = replace(plan.assignments[1], fill=Elementwise(law, 0.5, 0.0))
    broken = replace(plan, assignments=(plan.assignments[0], wrong, *plan.assignments[2:]))
    (problem,) = refused(write_checkpoint, broken, tmp_path)
    assert problem.subject.startswith(f"{wrong.slot.name}: elementwise")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_more_what_it_was_is_refused(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    plan = resolve({"rules": {"*": "zeros"}}, model)
    model[0], model[1] = nn.Linear(7, 7, bias=False), nn.Identity()
    problems = refused(write_checkpoint, plan, tmp_path)
    assert [problem.subject for problem in problems] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert all(problem.fix == "Resolve again." for problem in problems)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_plan_is_refused(tmp_path):
    for stranger in ({"rules": {}}, "xavier_relu", initframe.reinit(nn.Linear(2, 2), {"rules": {"*": "zeros"}})):
        (problem,) = refused(write_checkpoint, stranger, tmp_path)
        assert problem.subject == "write_checkpoint"


def test_a_tensor_that_is_no_row_of_numbers_is_refused(tmp_path):
    state = {"w": torch.zeros(2), "sparse": torch.zeros(2, 2).to_sparse()}
    (problem,) = refused(write_checkpoint, resolve({"rules": {"w": "ones"}}, state), tmp_path)
    assert (problem.subject, "sparse_coo" in problem.fact) == ("sparse", True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1},
        {"seed": True},
        {"dtype": torch.int8},
        {"dtype": torch.float8_e4m3fn},
        {"dtype": "bfloat16"},
        {"path": None},
        {"max_shard_size": "5 parsecs"},
        {"max_shard_size": 0},
        {"max_shard_size": True},
        {"max_shard_size": "1" * 400},
        {"max_shard_size": None},
    ],
)
def test_arguments_are_checked(arguments, tmp_path):
    (problem,) = refused(write_checkpoint, planned(), **{"path": tmp_path} | arguments)
    ((name, value),) = arguments.items()
    assert problem.subject == name
    assert repr(value)[:50] in problem.fact
    assert problem.options
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError("x"), ConnectionRefusedError(111, "refused"), BrokenPipeError(32, "pipe")])
def test_what_a_listener_raises_is_its_own(error, tmp_path):
    with pytest.raises(type(error)) as caught:
        write_checkpoint(planned(), tmp_path / "new", on_progress=mock.Mock(side_effect=error))
    assert caught.value is error
    assert not any(tmp_path.glob("new/*"))


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("1.5 MiB", 1572864), (12, 12), ("300", 300)])
def test_sizes_are_read_as_people_write_them(text, size):
    assert filling._bytes(text) == size


def test_another_checkpoint_beside_it_is_refused(tmp_path):
    write_checkpoint(planned(), tmp_path, max_shard_size=1000)
    (problem,) = refused(write_checkpoint, planned(), tmp_path, kind=SourceError)
    assert (problem.subject, "model-00001" in problem.fact) == (str(tmp_path), True)


def test_the_same_files_are_replaced(tmp_path):
    write_checkpoint(planned(), tmp_path, seed=1, max_shard_size=1000)
    assert_same(read(write_checkpoint(planned(), tmp_path, seed=2, max_shard_size=1000)), filled(seed=2))


class InterruptedRunError(Exception):
    """What stops a run half-way."""


def test_an_interrupted_run_leaves_nothing(tmp_path):
    written = []

    def stop(elements):
        written.append(elements)
        if len(written) == 20:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        write_checkpoint(planned(), tmp_path, max_shard_size=1000, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files_before", [0, 2])
def test_a_full_disk_is_an_error_before_the_first_number(files_before, monkeypatch, tmp_path):
    reserve, reserved, written = os.posix_fallocate, [], []

    def nearly_full(*arguments):
        reserved.append(arguments)
        if len(reserved) > files_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", nearly_full)
    (problem,) = refused(
        write_checkpoint, planned(), tmp_path, max_shard_size=1000, on_progress=written.append, kind=SourceError
    )
    assert (problem.subject, "No space left" in problem.fact) == (str(tmp_path), True)
    assert (written, list(tmp_path.iterdir())) == ([], [])


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    (problem,) = refused(write_checkpoint, planned(), tmp_path / "file", kind=SourceError)
    assert problem.subject == str(tmp_path / "file")


BIG = """
import os, resource, sys, torch, initframe
with initframe.deferred():
    model = torch.nn.Sequential(*(torch.nn.Linear(4096, 4096, bias=False) for _ in range(16)))
plan = initframe.resolve({"rules": {"*": {"init": "normal", "std": 0.02}}}, model)
left = int(sys.argv[2])
def stop(elements):
    global left
    left -= elements
    if left < 0:
        os._exit(9)
initframe.fill_(torch.empty(9, dtype=torch.bfloat16), initframe.Normal(), name="x")  # compiled once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
initframe.write_checkpoint(plan, sys.argv[1], dtype=torch.bfloat16, max_shard_size="200MB", on_progress=stop)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def run_big(folder, elements):
    return subprocess.run(
        [sys.executable, "-c", BIG, folder, str(elements)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_peak_memory_is_a_chunk(tmp_path):
    done = run_big(tmp_path, 1 << 40)
    assert done.returncode == 0, done.stderr
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 1 << 29
    assert int(done.stdout) < 3 * filling.CHUNK


@pytest.mark.slow
def test_a_killed_run_leaves_no_file_that_looks_whole(tmp_path):
    assert run_big(tmp_path, 1 << 27).returncode == 9
    assert all(file.name.startswith(".") and file.suffix == ".part" for file in tmp_path.iterdir())
