"""Plans compared: what differs, in both directions, and nothing else."""

import copy
import json

import pytest
from refusals import refused
from torch import nn

import initframe
from initframe import diff, resolve

NET = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
BASE = {"rules": {"*": {"init": "normal", "std": 0.02}}}


def names(found):
    return [row.name for row in found.rows]


def test_a_plan_and_its_like_do_not_differ():
    one, two = resolve(BASE, NET), resolve(BASE, copy.deepcopy(NET))
    found = diff(one, two)
    assert (names(found), found.equal) == ([], len(one.assignments))
    assert "0 tensors differ" in str(found)


def test_it_is_told_what_one_of_them_leaves_untouched_and_what_both_write_otherwise():
    one = resolve(BASE, NET)
    two = resolve({"rules": {"0.*": {"init": "normal", "std": 0.02}, "2.weight": "orthogonal"}}, NET)
    there, back = diff(one, two), diff(two, one)
    assert set(names(there)) == set(names(back)) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    assert there.equal == back.equal == 2
    fills = {row.name: row.fills for row in there.rows}
    assert fills["1.bias"] == ("normal(0, 0.02)", "untouched")
    assert {row.name: row.fills[::-1] for row in back.rows} == fills
    assert all(text in str(there) for text in ("2.weight", "orthogonal", "untouched"))


def test_equal_means_the_same_bits():
    def plan(std):
        return resolve({"rules": {"*": {"init": "normal", "std": std}}}, NET)

    assert diff(plan(0.02), plan(0.02 + 1e-12)).rows == ()
    found = diff(plan(0.02), plan(0.02 * (1 + 1e-6)))  # another float32; the short texts are equal
    assert len(found.rows) == 6
    assert all(row.fills[0] != row.fills[1] for row in found.rows)


def test_a_recipe_against_the_constructor():
    found = diff(
        initframe.trace(lambda: nn.Linear(4, 4)), resolve({"rules": {"weight": "torch_default"}}, nn.Linear(4, 4))
    )
    assert names(found) == ["bias"]


def test_other_shapes_and_other_models():
    found = diff(resolve(BASE, nn.Linear(4, 8)), resolve(BASE, nn.Linear(4, 9)))
    assert names(found) == ["weight", "bias"]
    assert found.rows[0].fills == ("normal(0, 0.02) at 8×4", "normal(0, 0.02) at 9×4")
    assert diff(resolve(BASE, nn.Linear(4, 8)), resolve(BASE, nn.Sequential(nn.Linear(4, 8)))).equal == 0


def test_a_tied_tensor_is_found_by_any_of_its_names():
    net = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    net["b"].weight = net["a"].weight
    apart = nn.ModuleDict({"b": nn.Linear(4, 4, bias=False)})
    assert diff(resolve(BASE, net), resolve(BASE, apart)).rows == ()


def test_data_text_and_frame():
    found = diff(resolve(BASE, NET), resolve({"rules": {"0.weight": "zeros"}}, NET))
    data = json.loads(json.dumps(found.to_dict()))
    assert [row["name"] for row in data["rows"]] == names(found)
    assert data["rows"][0]["other"]["fill"]["kind"] == "constant"
    assert list(found.to_frame()["name"]) == names(found)
    assert "<table" in found._repr_html_()
    assert len(repr(found)) < 200


def test_many_numbered_rows_share_one():
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(200)))
    text = str(diff(resolve(BASE, net), resolve({"rules": {"*": "zeros"}}, net)))
    assert text.count("\n") < 20


def test_what_is_no_plan_is_refused():
    for pair in ((BASE, resolve(BASE, NET)), (resolve(BASE, NET), None)):
        assert refused(diff, *pair)


def test_a_plan_is_iterated_by_name():
    plan = resolve(BASE, NET)
    assert [plan[name].slot.name for name in plan] == [a.slot.name for a in plan.assignments]
    assert "0.weight" in plan
    assert "x" not in plan
    with pytest.raises(initframe.ResolveError):
        plan["x"]
