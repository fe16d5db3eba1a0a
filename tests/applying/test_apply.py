"""Apply: what is written is the plan and nothing else, into the tensors that were there, or nothing at all."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, Tower, bits, changed, convnet, rules, same_bits
from torch import nn

import initframe
from initframe.applying import draw
from initframe.errors import InitframeError, ResolveError
from initframe.initializers import initializer

WEIGHTS = {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform"}
RECIPE = rules({"weights": WEIGHTS, "*.bias": "zeros"})


# --- the tensors that were there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_tensors_keep_their_identity(generator):
    model = Tower()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.encoder.requires_grad_(False)
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    held = [(name, t, t.data_ptr(), t.requires_grad, t.grad, t.is_leaf, t.dtype) for name, t in tensors.items()]
    initframe.reinit(model, rules({"*": "normal"}), seed=0, generator=generator)
    after = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
    for name, tensor, pointer, requires_grad, grad, is_leaf, dtype in held:
        assert after[name] is tensor
        assert (tensor.data_ptr(), tensor.requires_grad, tensor.is_leaf, tensor.dtype) == (
            pointer,
            requires_grad,
            is_leaf,
            dtype,
        )
        assert tensor.grad is grad
        assert grad is None or (grad == 1).all()
        assert tensor.grad_fn is None
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == set(map(id, model.parameters()))


def test_a_state_dict_is_written_in_place_too():
    model = Net()
    report = initframe.reinit(model.state_dict(), rules({"fc1.weight": "ones"}))
    assert (model.fc1.weight == 1).all()
    assert report.plan.title == "state_dict"


def test_the_layers_still_work():
    model = Net()
    initframe.reinit(model, RECIPE)
    out = model(torch.ones(1, 1, 28, 28))
    assert out.shape == (1, 10)
    out.sum().backward()
    assert model.fc1.weight.grad is not None


# --- nothing but the plan --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("name", [name for name, t in convnet().state_dict().items() if t.is_floating_point()])
def test_a_rule_for_one_tensor_leaves_every_other_bit(name, generator):
    model = convnet()
    before = bits(model)
    initframe.reinit(model, rules({name: {"init": "normal", "kind": "any"}}), seed=1, generator=generator)
    assert changed(model, before) == {name}


NAMES = [name for name, _ in convnet().named_parameters()]
LAWS = st.sampled_from(
    ["normal", "uniform", "zeros", {"init": "trunc_normal", "std": 0.5}, {"init": "normal", "std": 2}]
)
SUBSETS = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)


@given(st.lists(st.tuples(SUBSETS, LAWS), min_size=1, max_size=4), SUBSETS, LAWS, st.integers(0, 5))
def test_a_further_rule_changes_only_what_it_wins(written, names, law, at):
    def recipe(entries):
        return rules({f"r{i}": {"match": m, **({"init": w} if isinstance(w, str) else w)} for i, m, w in entries})

    entries = [(i, match, law) for i, (match, law) in enumerate(written)]
    more = [*entries[:at], ("new", names, law), *entries[at:]]
    model = {name: torch.zeros(3, 4) for name in NAMES}
    other = copy.deepcopy(model)
    initframe.reinit(model, recipe(entries), seed=2)
    report = initframe.reinit(other, recipe(more), seed=2)
    won = {a.slot.name for a in report.plan.assignments if a.rule.name == "rnew"}
    assert changed(other, model) <= won


@given(st.permutations([("fc1.weight", "normal"), ("fc2.weight", "xavier_normal"), ("*.bias", "uniform")]))
def test_the_order_of_disjoint_rules_does_not_matter(entries):
    expected = {name: torch.zeros(t.shape) for name, t in NET.items()}
    initframe.reinit(expected, rules(sorted(entries)), seed=4)
    found = {name: torch.zeros(t.shape) for name, t in NET.items()}
    initframe.reinit(found, rules(entries), seed=4)
    assert changed(found, expected) == set()


NET = {
    "fc1.weight": torch.zeros(5, 4),
    "fc1.bias": torch.zeros(5),
    "fc2.weight": torch.zeros(3, 5),
    "fc2.bias": torch.zeros(3),
}


@given(st.permutations(list(NET)))
def test_the_order_of_tensors_does_not_matter(names):
    one = {name: torch.zeros(NET[name].shape) for name in NET}
    other = {name: torch.zeros(NET[name].shape) for name in names}
    initframe.reinit(one, rules({"*": "normal"}), seed=4)
    initframe.reinit(other, rules({"*": "normal"}), seed=4)
    assert all(same_bits(one[name], other[name]) for name in NET)


def test_a_model_and_its_parts_agree():
    """A tensor's values are those of its name, alone or among others, by a recipe or by fill_."""
    model = Net()
    report = initframe.reinit(model, RECIPE, seed=7)
    for result in report.results:
        alone = torch.empty(result.assignment.slot.shape)
        initframe.fill_(alone, result.assignment.fill, name=result.name, seed=7)
        assert same_bits(alone, model.state_dict()[result.name])


def test_the_same_seed_gives_the_same_model_and_another_one_another():
    models = [Net() for _ in range(3)]
    for model, seed in zip(models, [0, 0, 1], strict=True):
        initframe.reinit(model, RECIPE, seed=seed)
    assert changed(models[0], models[1].state_dict()) == set()
    assert changed(models[0], models[2].state_dict()) == {"fc1.weight", "fc2.weight"}


def test_without_a_seed_the_stream_has_seed_0():
    one, other = Net(), Net()
    assert initframe.reinit(one, RECIPE).seed == 0
    initframe.reinit(other, RECIPE, seed=0)
    assert changed(one, other.state_dict()) == set()


def test_kept_tensors_are_not_touched_at_all():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    before, versions = bits(model), [p._version for p in model.parameters()]
    for generator in ("stream", "torch"):
        initframe.reinit(model, rules({"*": "keep"}), generator=generator)
    assert changed(model, before) == set()
    assert [p._version for p in model.parameters()] == versions


def test_resolving_writes_nothing():
    model = Tower()
    tensors = [*model.parameters(), *model.buffers()]
    versions = [t._version for t in tensors]
    initframe.resolve(rules({"*": {"init": "normal", "kind": "any"}}), model)
    assert [t._version for t in tensors] == versions


# --- tied tensors ----------------------------------------------------------------------------------------------------


def test_a_tied_tensor_is_written_once_under_its_first_name():
    model = Tower()
    report = initframe.reinit(model, rules({"head.weight": "normal"}), seed=3)
    assert [result.name for result in report.results] == ["embed.weight"]
    assert model.head.weight is model.embed.weight
    alone = initframe.fill_(torch.empty(11, 8), initframe.Normal(), name="embed.weight", seed=3)
    alone[2] = 0  # the padding row
    assert same_bits(model.embed.weight, alone)


class Learned(nn.Module):
    """A parametrization with a factor of its own."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, weight):
        return weight * self.factor

    def right_inverse(self, weight):
        return weight / self.factor


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("batch", [1 << 26, 2])
def test_what_a_tensor_is_computed_from_is_written_before_it(monkeypatch, generator, batch):
    monkeypatch.setattr(draw, "AT_ONCE", batch)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for layer in model:
        nn.utils.parametrize.register_parametrization(layer, "weight", Learned())
    initframe.reinit(model, rules({"*": "ones"}), seed=0, generator=generator)
    for layer in model:
        assert layer.parametrizations.weight[0].factor == 1
        assert torch.equal(layer.weight, torch.ones(3, 3))


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("batch", [1 << 26, 2])
def test_a_spectral_norm_is_one_whatever_else_a_rule_means(monkeypatch, generator, batch):
    monkeypatch.setattr(draw, "AT_ONCE", batch)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(40, 30)).eval()
    initframe.reinit(layer, rules({"*": {"init": "normal", "kind": "any"}}), seed=0, generator=generator)
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_seeds_at_the_ends_of_their_range(seed, generator):
    state = {"w": torch.zeros(9)}
    assert initframe.reinit(state, rules(w="normal"), seed=seed, generator=generator).seed == seed
    assert state["w"].isfinite().all()


def test_fill_gives_the_tensor_back():
    tensor = nn.Parameter(torch.zeros(2, 2))
    assert initframe.fill_(tensor, initframe.Constant(1), name="w") is tensor
    assert (tensor == 1).all()


# --- lazy, empty, integer --------------------------------------------------------------------------------------------


def test_empty_tensors_are_skipped_and_named():
    state = {"w": torch.zeros(0, 3), "b": torch.zeros(3)}
    report = initframe.reinit(state, rules({"*": "normal"}), measure=True)
    assert [r.name for r in report.results] == ["b"]
    assert report.plan.skipped == {"w": "it has no elements."}


# --- what is told ----------------------------------------------------------------------------------------------------

KINDS_OF_FILL = {
    "a": "normal",
    "b": "zeros",
    "c": "orthogonal",
    "d": "keep",
    "e": {"init": "shrink_perturb"},
    "f": {"init": "normal", "split": 2, "std": [0, 1]},
    "g": {"init": "constant", "val": 1, "index": [0]},
    "h": {"init": "sparse", "sparsity": 0.5},
    "i": "halves",
}


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("keys", [*KINDS_OF_FILL, KINDS_OF_FILL])
def test_progress_adds_up_to_every_element_once(keys, generator, table):
    @initializer("halves")
    def halves(slot):
        return initframe.Elementwise(lambda u: u.round(), 0.5, 0.5)

    state = {key: torch.zeros(6, 5) for key in keys}
    told = []
    plan = initframe.resolve(rules({key: KINDS_OF_FILL[key] for key in keys}), state)
    initframe.apply(plan, 0, generator=generator, on_progress=told.append)
    assert sum(told) == plan.elements == 30 * len(state)
    assert all(n > 0 for n in told)


@given(st.sampled_from(["normal", "uniform", "zeros", "keep"]), st.integers(0, 2**64 - 1))
def test_measures_are_those_of_the_tensors(law, seed):
    state = {"w": torch.arange(30.0).view(6, 5)}
    before = bits(state)["w"]
    (result,) = initframe.reinit(state, rules(w=law), seed=seed, measure=True).results
    for measured, tensor in ((result.before, before), (result.after, state["w"])):
        std, mean = torch.std_mean(tensor.double(), correction=0)
        assert measured.moments == pytest.approx((mean.item(), std.item()), rel=1e-6, abs=1e-6)
    assert (result.before.digest == result.after.digest) == same_bits(before, state["w"])
    assert result.digest == f"{result.after.digest:016x}"


def test_nothing_is_measured_unasked():
    (result, _) = initframe.reinit(nn.Linear(2, 2), rules({"*": "ones"})).results
    assert (result.before, result.after, result.digest) == (None, None, None)


def test_all_errors_are_of_one_kind():
    assert issubclass(ResolveError, InitframeError)
    assert issubclass(initframe.RecipeError, InitframeError)


def test_inside_of_autocast_the_next_forward_pass_has_the_new_values():
    model, batch = nn.Linear(4, 4), torch.ones(1, 4)
    plan = initframe.resolve({"rules": {"*": "normal"}}, model)
    with torch.autocast("cpu", torch.bfloat16):
        for seed in range(4):  # from the third application on, another way is taken
            model(batch)
            initframe.apply(plan, seed=seed)
            cast = nn.functional.linear(batch.bfloat16(), *(p.bfloat16() for p in model.parameters()))
            assert torch.equal(model(batch), cast)
        initframe.fill_(model.weight, initframe.Constant(0), name="weight")
        initframe.fill_(model.bias, initframe.Constant(0), name="bias")
        assert not model(batch).any()
