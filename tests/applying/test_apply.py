"""Apply: what is written is the plan and nothing else, into the tensors that were there, or nothing at all."""

import copy
import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, Tower, bits, changed, convnet, rules, same_bits
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import initframe
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


# --- another module --------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(sys.modules["initframe.applying.write"], "BATCH", batch)
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
    monkeypatch.setattr(sys.modules["initframe.applying.write"], "BATCH", batch)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(40, 30)).eval()
    initframe.reinit(layer, rules({"*": {"init": "normal", "kind": "any"}}), seed=0, generator=generator)
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("law", ["normal", "zeros", "orthogonal"])
def test_a_model_of_fake_tensors_has_nothing_to_write_to(law):
    with FakeTensorMode():
        model = nn.Linear(3, 3)
    plan = initframe.resolve(rules(weight=law), model)
    with pytest.raises(ResolveError, match="it is a FakeTensor: there is nothing to write to"):
        initframe.apply(plan, seed=0)
    with pytest.raises(ResolveError, match="is a FakeTensor"):
        initframe.fill_(model.weight, initframe.Normal(), name="w")


@pytest.mark.parametrize(
    "model", [None, "resnet18", nn.Linear, [nn.Linear(1, 1)], torch.ones(2), 3, {1: torch.ones(2)}]
)
def test_what_is_no_model_is_refused(model):
    plan = initframe.resolve(rules({"*": "zeros"}), Net())
    calls = [
        lambda: initframe.resolve(rules({"*": "zeros"}), model),
        lambda: initframe.reinit(model, rules({"*": "zeros"})),
        *([lambda: initframe.apply(plan, module=model)] if model is not None else []),
    ]
    for call in calls:
        with pytest.raises(ResolveError, match=r"A model is an nn\.Module, or a state_dict"):
            call()


def test_arguments_in_the_wrong_order_are_refused():
    for call in (lambda: initframe.resolve(Net(), "xavier_relu"), lambda: initframe.reinit("xavier_relu", Net())):
        with pytest.raises(initframe.InitframeError):
            call()
    with pytest.raises(ResolveError, match=r"apply takes a plan, got Linear.* Make one: initframe.resolve"):
        initframe.apply(nn.Linear(2, 2))


def test_a_plan_of_a_meta_model_fills_a_copy_with_memory():
    with torch.device("meta"):
        meta = Net()
    plan = initframe.resolve(RECIPE, meta)
    real, twin = Net(), Net()
    initframe.apply(plan, seed=5, module=real)
    initframe.reinit(twin, RECIPE, seed=5)
    assert changed(real, twin.state_dict()) == set()


def test_a_stage_gets_its_part_of_the_plan():
    full = Tower()
    plan = initframe.resolve(rules({"*": "normal"}), full)
    stage = nn.ModuleDict({"decoder": copy.deepcopy(full.decoder)})
    report = initframe.apply(plan, seed=5, module=stage)
    assert {r.name for r in report.results} == {f"decoder.{name}" for name, _ in full.decoder.named_parameters()}
    initframe.apply(plan, seed=5)
    assert changed(stage, {f"decoder.{k}": v for k, v in full.decoder.state_dict().items()}) == set()


def test_a_stage_that_has_one_name_of_a_tied_tensor_gets_the_tied_values():
    full = Tower()
    plan = initframe.resolve(rules({"embed.weight": "normal"}), full)
    stage = nn.ModuleDict({"head": nn.Linear(8, 11, bias=False)})
    initframe.apply(plan, seed=5, module=stage)
    initframe.apply(plan, seed=5)
    assert same_bits(stage.head.weight, full.embed.weight)


def test_a_copy_that_lost_its_tie_gets_the_same_values_twice():
    full, cut = Tower(), Tower()
    cut.head.weight = nn.Parameter(torch.zeros(11, 8))
    plan = initframe.resolve(rules({"embed.weight": "normal"}), full)
    initframe.apply(plan, seed=5, module=cut)
    assert same_bits(cut.head.weight, cut.embed.weight)


def test_a_copy_with_a_tie_that_the_plan_has_not_is_refused():
    cut, full = Tower(), Tower()
    cut.head.weight = nn.Parameter(torch.zeros(11, 8))
    plan = initframe.resolve(rules({"*.weight": "ones"}), cut)
    refused(plan, "embed.weight and head.weight are one tensor in Tower, and two in the plan", module=full)


def test_another_dtype_holds_the_same_values_rounded():
    plan = initframe.resolve(RECIPE, Net())
    real, narrow = Net(), Net().bfloat16()
    initframe.apply(plan, seed=5, module=real)
    initframe.apply(plan, seed=5, module=narrow)
    assert changed(narrow, bits(real.bfloat16())) == set()


def refused(plan, fact, **options):
    """Apply refuses, says so, and writes nothing."""
    model = options.get("module", plan.model)
    before = bits(model)
    with pytest.raises(ResolveError, match=fact) as caught:
        initframe.apply(plan, **options)
    if not any(t.is_meta for t in before.values()):
        assert changed(model, before) == set()
    return caught.value.problems


def test_other_shapes_and_names_are_refused_together():
    plan = initframe.resolve(rules({"*": "ones"}), Net())
    other = Net()
    other.fc1 = nn.Linear(784, 64)
    problems = refused(plan, "fc1.weight has another shape", module=other)
    assert problems[0] == "fc1.weight has another shape: [128, 784] in the plan, [64, 784] in Net. Resolve again."
    assert len(problems) == 2
    refused(plan, "Linear has none of the plan's tensors, fc1.weight for one", module=nn.Linear(2, 2))


def test_a_tensor_that_has_gone_is_refused():
    model = Net()
    plan = initframe.resolve(RECIPE, model)
    del model.fc2
    assert len(refused(plan, "fc2.weight is no longer in Net. Resolve again")) == 2


def test_a_plan_needs_a_model():
    plan = initframe.Plan(initframe.Recipe(), "none", ())
    with pytest.raises(ResolveError, match="this plan has no model"):
        initframe.apply(plan)


def test_what_a_narrower_copy_cannot_hold_is_refused():
    plan = initframe.resolve(rules(weight={"init": "constant", "val": 1e5}), nn.Linear(2, 2))
    refused(plan, "torch.float16 ends at", module=nn.Linear(2, 2).half())


# --- refused before the first write ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["normal", "zeros", {"init": "shift", "by": 1}, "orthogonal"])
def test_meta_tensors_have_nothing_to_write_to(rule):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    plan = initframe.resolve(rules({"*.weight": rule}), model)
    current = "no values to start from" if "by" in rule else "nothing to write to"
    assert len(refused(plan, f"weight: it is on the meta device: .*{current}. Give it memory first")) == 2
    refused(plan, "on the meta device", generator="torch", seed=0)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "0", True, math.nan, [0]])
@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_a_seed_is_an_integer_in_range(seed, generator):
    plan = initframe.resolve(RECIPE, Net())
    refused(plan, r"a seed is an integer from 0 to 2\*\*64 - 1, got", seed=seed, generator=generator)
    with pytest.raises(ResolveError, match="a seed is an integer"):
        initframe.fill_(torch.zeros(2), initframe.Normal(), name="w", seed=seed)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_seeds_at_the_ends_of_their_range(seed, generator):
    state = {"w": torch.zeros(9)}
    assert initframe.reinit(state, rules(w="normal"), seed=seed, generator=generator).seed == seed
    assert state["w"].isfinite().all()


def test_an_unknown_generator_is_refused():
    refused(initframe.resolve(RECIPE, Net()), "unknown generator 'numpy'. Options: stream, torch", generator="numpy")


def test_a_value_that_a_parametrization_does_not_take_is_refused_before_any_other_is_written():
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    plan = initframe.resolve(rules({"*.weight": "zeros"}), model)
    refused(plan, r"1\.weight: it does not take the value through its parametrization")
    refused(plan, r"1\.weight: it does not take the value", generator="torch", seed=0)


def test_a_law_of_ones_own_that_fails_is_refused_before_any_other_is_written(table):
    @initializer("shapeless")
    def shapeless(slot):
        return initframe.Elementwise(lambda u: u.mean(), 0.5, 0.0)

    plan = initframe.resolve(rules({"fc1.*": "ones", "fc2.*": "shapeless"}), Net())
    assert len(refused(plan, r"fc2.weight: elementwise.* shape \[\] for \[3\]")) == 2


@pytest.mark.parametrize(
    ("tensor", "fill", "fact"),
    [
        (torch.zeros(4, dtype=torch.int64), initframe.Normal(), "holds int64 numbers"),
        (torch.zeros(4, dtype=torch.bool), initframe.Constant(1), "holds bool numbers"),
        (torch.zeros(4, dtype=torch.complex64), initframe.Normal(), "complex64"),
        (torch.zeros(4).to(torch.float8_e5m2), initframe.Constant(1), "float8_e5m2"),
        (torch.zeros(1).expand(4), initframe.Normal(), "expanded"),
        (torch.zeros(4, device="meta"), initframe.Normal(), "meta device"),
        (torch.zeros(4, 4).to_sparse(), initframe.Normal(), "sparse"),
        (torch.zeros(4), initframe.Normal(0, -1), "std is negative"),
        (torch.zeros(4, 4), initframe.Orthogonal((4, 5)), r"for the shape \[4, 5\]"),
        (torch.zeros(4, dtype=torch.float16), initframe.Constant(1e6), "float16 ends at 6.55e"),
        (torch.zeros(4), initframe.Elementwise(lambda u: u[0], 0, 1), r"shape \[\] for \[3\]"),
    ],
)
def test_fill_refuses_what_a_tensor_cannot_hold(tensor, fill, fact):
    with pytest.raises(ResolveError, match=fact):
        initframe.fill_(tensor, fill, name="w")


def test_fill_gives_the_tensor_back():
    tensor = nn.Parameter(torch.zeros(2, 2))
    assert initframe.fill_(tensor, initframe.Constant(1), name="w") is tensor
    assert (tensor == 1).all()


# --- lazy, empty, integer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [False, True])
def test_lazy_tensors_can_be_kept_and_nothing_else(measure):
    model = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2))
    report = initframe.reinit(model, rules({"0.*": "keep", "1.*": "ones"}), measure=measure)
    assert [r.name for r in report.results] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    with pytest.raises(ResolveError, match=r"0\.weight.*lazy: its shape is not known yet"):
        initframe.reinit(model, rules({"*": "ones"}))


def test_empty_tensors_are_skipped_and_named():
    state = {"w": torch.zeros(0, 3), "b": torch.zeros(3)}
    report = initframe.reinit(state, rules({"*": "normal"}), measure=True)
    assert [r.name for r in report.results] == ["b"]
    assert report.plan.skipped == {"w": "it has no elements."}


def test_integer_buffers_are_skipped_and_parameters_refused():
    model = convnet()
    report = initframe.reinit(model, rules({"*": {"init": "ones", "kind": "any"}}))
    assert "1.num_batches_tracked" in report.plan.skipped
    model.codes = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    with pytest.raises(ResolveError, match="holds int64 numbers"):
        initframe.resolve(rules(codes="ones"), model)


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
