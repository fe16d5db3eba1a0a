"""``units``: some rows along the output axis only."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.testing._internal.two_tensor import TwoTensor

import initframe
from initframe.errors import RecipeError, ResolveError
from tests.refusals import refused


def reinit(model, init, units, seed=0, **more):
    options = {key: more.pop(key) for key in ("optimizer", "generator") if key in more}
    rule = {"match": "*", "init": init, "units": units, **more}
    return initframe.reinit(model, {"rules": {"r": rule}}, seed=seed, **options)


def rows(model, name, dim, units):
    return getattr(model, name).detach().index_select(dim, torch.tensor(units)).clone()


@pytest.mark.parametrize("init", ["normal", "torch_default", "ones"])
@pytest.mark.parametrize(
    ("make", "dim"),
    [
        (lambda: nn.Linear(6, 5), 0),
        (lambda: nn.Conv2d(3, 5, 3), 0),
        (lambda: nn.ConvTranspose2d(3, 5, 3), 1),
        (lambda: nn.Embedding(5, 4), 0),
    ],
)
def test_units_have_the_numbers_of_the_whole_and_others_stay(make, dim, init):
    part, whole = make(), make()
    before = part.weight.detach().clone()
    reinit(part, init, [1, 3])
    initframe.reinit(whole, {"rules": {"*": init}}, seed=0)
    assert torch.equal(rows(part, "weight", dim, [1, 3]), rows(whole, "weight", dim, [1, 3]))
    assert torch.equal(rows(part, "weight", dim, [0, 2, 4]), before.index_select(dim, torch.tensor([0, 2, 4])))
    if getattr(part, "bias", None) is not None:
        assert torch.equal(part.bias[[1, 3]], whole.bias[[1, 3]])


@pytest.mark.parametrize("init", ["orthogonal", "sparse"])
def test_whole_fills_keep_the_fans_and_numbers_of_the_whole(init):
    more = {"sparsity": 0.5} if init == "sparse" else {}
    part, whole = nn.Linear(6, 5, bias=False), nn.Linear(6, 5, bias=False)
    reinit(part, init, "unit % 2 == 1", **more)
    initframe.reinit(whole, {"rules": {"*": {"init": init, **more}}}, seed=0)
    assert torch.equal(part.weight[1::2], whole.weight[1::2])
    assert not torch.isclose(part.weight[::2], whole.weight[::2]).all()


def test_a_condition_may_name_the_facts_of_the_tensor():
    model = nn.Embedding(10, 3)
    plan = initframe.resolve({"rules": {"weight": {"init": "zeros", "units": "unit >= d0 - 2"}}}, model)
    assert plan["weight"].fill.units == (8, 9)


def test_units_are_counted_after_split_in_the_whole():
    part, whole = nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)
    reinit(part, "constant", [1, 2, 5], split=2, val=[1.0, 2.0])
    assert part.weight[[1, 2, 5], 0].tolist() == [1, 1, 2]
    reinit(part, "orthogonal", [4], split=2)
    initframe.reinit(whole, {"rules": {"*": {"init": "orthogonal", "split": 2}}}, seed=0)
    assert torch.equal(part.weight[4], whole.weight[4])


def test_units_of_every_member_of_a_batch():
    model, whole = nn.Module(), nn.Module()
    for one in (model, whole):
        one.w = nn.Parameter(torch.zeros(3, 4, 5))
    reinit(model, "orthogonal", [0, 2], axes=["batch", "in", "out"])
    initframe.reinit(whole, {"rules": {"w": {"init": "orthogonal", "axes": ["batch", "in", "out"]}}}, seed=0)
    assert torch.equal(model.w[..., [0, 2]], whole.w[..., [0, 2]])
    assert not model.w[..., [1, 3, 4]].any()


def test_fills_that_start_from_values():
    model = nn.Linear(3, 4, bias=False)
    before = model.weight.detach().clone()
    reinit(model, "scale", [1], by=2.0)
    before[1] *= 2
    assert torch.equal(model.weight, before)


def test_with_torchs_generator():
    model = nn.Linear(3, 4, bias=False)
    before = model.weight.detach().clone()
    reinit(model, "normal", [1], generator="torch")
    torch.manual_seed(0)
    assert torch.equal(model.weight[1], nn.init.normal_(torch.empty(4, 3))[1])
    assert torch.equal(model.weight[[0, 2, 3]], before[[0, 2, 3]])


def test_parametrizations_that_would_change_others_are_refused():
    model = weight_norm(nn.Linear(4, 5))
    before = model.weight.detach().clone()
    reinit(model, "normal", [2])
    assert torch.allclose(model.weight[[0, 1, 3, 4]], before[[0, 1, 3, 4]], atol=1e-6)
    recipe = {"rules": {"weight": {"init": "normal", "units": [2]}}}
    (problem,) = refused(initframe.resolve, recipe, spectral_norm(nn.Linear(4, 5)), kind=ResolveError)
    assert "parametrization" in problem.fact


def trained(kind, model, **options):
    optimizer = kind(model.parameters(), lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
    return optimizer


KINDS = [(torch.optim.Adam, {"amsgrad": True}), (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.Rprop, {})]
KINDS += [(torch.optim.Adagrad, {"initial_accumulator_value": 0.5}), (torch.optim.RMSprop, {})]


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda one: getattr(one, "__name__", ""))
def test_the_optimizer_forgets_those_units_only(kind, options):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = trained(kind, model, **options)
    fresh = trained(kind, nn.Linear(4, 3), **options)
    del fresh
    before = {k: v.clone() for k, v in optimizer.state[model.weight].items() if isinstance(v, torch.Tensor)}
    report = reinit(model, "normal", [1], optimizer=optimizer)
    assert report.forgotten == 2
    expected = {"sum": 0.5, "step_size": 0.1}
    for key, value in optimizer.state[model.weight].items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.shape == model.weight.shape:
            assert torch.equal(value[[0, 2]], before[key][[0, 2]])
            assert torch.equal(value[1], torch.full((4,), expected.get(key, 0.0)))
        else:
            assert torch.equal(value, before[key])  # step counts


def holding(model, **state):
    """An optimizer that keeps a state as other libraries' do: tensors by key."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.state[model.weight] = state
    return optimizer


def assert_begun_again(value, dim, unit):
    """One unit holds zeros, the others the ones that they held."""
    expected = torch.ones_like(value)
    expected.select(dim, unit).zero_()
    assert torch.equal(value, expected)


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize(
    ("row", "column", "row_shape", "column_shape"),
    [
        ("row_var", "col_var", (-1, 1), (1, -1)),  # torch
        ("exp_avg_sq_row", "exp_avg_sq_col", (-1,), (-1,)),  # transformers, timm
        ("exp_avg_sq_r", "exp_avg_sq_c", (-1,), (-1,)),  # timm, after Big Vision
    ],
)
def test_second_moments_of_rows_are_forgotten_and_those_of_columns_stay(size, row, column, row_shape, column_shape):
    model = nn.Linear(4, size, bias=False)
    rows, columns = torch.ones(size).reshape(row_shape), torch.ones(4).reshape(column_shape)
    optimizer = holding(model, **{row: rows, column: columns})
    reinit(model, "normal", [1], optimizer=optimizer)
    assert_begun_again(rows, 0, 1)
    assert bool(columns.all())
    reinit(model, "normal", [2], axes=["in", "out"], optimizer=optimizer)
    assert_begun_again(columns, columns.ndim - 1, 2)
    assert_begun_again(rows, 0, 1)


def test_torchs_adafactor_begins_the_rows_again():
    model = nn.Linear(4, 4)
    optimizer = trained(torch.optim.Adafactor, model)
    before = {key: value.clone() for key, value in optimizer.state[model.weight].items()}
    reinit(model, "normal", [1], optimizer=optimizer)
    after = optimizer.state[model.weight]
    assert (after["row_var"] == 0).flatten().tolist() == [False, True, False, False]
    assert torch.equal(after["col_var"], before["col_var"])


@pytest.mark.parametrize("key", ["z", "x0", "slow_buffer", "lookahead_slow_buff"])
def test_copies_of_the_weights_in_an_optimizer_follow_them(key):
    model = nn.Linear(4, 3, bias=False)
    kept = model.weight.detach().double() + 1
    optimizer = holding(model, **{key: kept.clone()})
    reinit(model, "normal", [1], optimizer=optimizer)
    found = optimizer.state[model.weight][key]
    assert torch.equal(found[1], model.weight[1].double())
    assert torch.equal(found[[0, 2]], kept[[0, 2]])
    assert not found.requires_grad


class Coded(TwoTensor):
    """Another library's eight bits, as a tensor class of its own."""


@pytest.mark.parametrize(
    "codes", [lambda: torch.full((3, 4), 127, dtype=torch.uint8), lambda: Coded(torch.ones(3, 4), torch.ones(3, 4))]
)
def test_codes_of_an_optimizer_are_forgotten_whole(codes):
    model = nn.Linear(4, 3, bias=False)
    optimizer = holding(model, step=torch.tensor(3.0), exp_avg=codes(), absmax=torch.ones(1))
    assert reinit(model, "normal", [1], optimizer=optimizer).forgotten == 1
    assert model.weight not in optimizer.state


def test_lbfgs_has_no_units():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert initframe.reinit(model, {"rules": {"bias": {"init": "zeros", "units": [1]}}}, optimizer=optimizer).forgotten
    assert not any(optimizer.state.values())


@pytest.mark.parametrize("units", [[], [-1], [1.5], True, 3, ["a"], "unit +", {"a": 1}])
def test_units_are_a_list_or_a_condition(units):
    assert refused(initframe.load_recipe, {"rules": {"w": {"init": "zeros", "units": units}}}, kind=RecipeError)


@pytest.mark.parametrize("units", [[5], "unit > 9", "unit + 1", "units == 1"])
def test_units_that_no_tensor_has(units):
    recipe = {"rules": {"weight": {"init": "zeros", "units": units}}}
    assert refused(initframe.resolve, recipe, nn.Linear(4, 5), kind=ResolveError)


def test_units_survive_the_way_through_a_recipe():
    for units in ([3, 17], "unit % 2 == 0"):
        recipe = initframe.load_recipe({"rules": {"w": {"init": "zeros", "units": units}}})
        assert recipe.to_dict()["rules"]["w"]["units"] == units
        assert initframe.load_recipe(recipe.to_dict()) == recipe


def test_on_disk_the_others_are_those_of_the_model(tmp_path):
    from safetensors.torch import load_file

    model = nn.Linear(4, 5)
    plan = initframe.resolve({"rules": {"weight": {"init": "orthogonal", "units": [1, 2]}}}, model)
    (path,) = initframe.write_checkpoint(plan, tmp_path, seed=0)
    initframe.apply(plan, seed=0)
    assert torch.equal(load_file(path)["weight"], model.weight)
