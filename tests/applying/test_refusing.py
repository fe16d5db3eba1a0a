"""What apply refuses, before anything is written."""

import math

import pytest
import torch
from nets import Net, Tower, bits, changed, convnet, rules
from refusals import refused
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import initframe
from initframe.errors import ResolveError
from initframe.initializers import initializer

WEIGHTS = {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform"}
RECIPE = rules({"weights": WEIGHTS, "*.bias": "zeros"})


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
        (problem,) = refused(call, kind=ResolveError)
        assert problem.subject == "model"
        assert "nn.Module" in problem.options


def test_arguments_in_the_wrong_order_are_refused():
    for call in (lambda: initframe.resolve(Net(), "xavier_relu"), lambda: initframe.reinit("xavier_relu", Net())):
        refused(call)
    (problem,) = refused(initframe.apply, nn.Linear(2, 2), kind=ResolveError)
    assert (problem.subject, "Linear" in problem.fact, "resolve" in problem.fix) == ("apply", True, True)


@pytest.mark.parametrize("law", ["normal", "zeros", "orthogonal"])
def test_a_model_of_fake_tensors_has_nothing_to_write_to(law):
    with FakeTensorMode():
        model = nn.Linear(3, 3)
    plan = initframe.resolve(rules(weight=law), model)
    (problem,) = refused(initframe.apply, plan, seed=0, kind=ResolveError)
    assert (problem.subject, "FakeTensor" in problem.fact) == ("weight", True)
    (problem,) = refused(initframe.fill_, model.weight, initframe.Normal(), name="w", kind=ResolveError)
    assert "FakeTensor" in problem.fact


def refuses(plan, **options):
    """Apply refuses and writes nothing; the problems by what their subject begins with."""
    model = options.get("module", plan.model)
    before = bits(model)
    problems = refused(initframe.apply, plan, kind=ResolveError, **options)
    if not any(t.is_meta for t in before.values()):
        assert changed(model, before) == set()
    assert len({problem.subject for problem in problems}) == len(problems)
    return {problem.subject.split(": ")[0]: problem for problem in problems}


def test_a_copy_with_a_tie_that_the_plan_has_not_is_refused():
    cut, full = Tower(), Tower()
    cut.head.weight = nn.Parameter(torch.zeros(11, 8))
    plan = initframe.resolve(rules({"*.weight": "ones"}), cut)
    problem = refuses(plan, module=full)["head.weight"]
    assert "embed.weight" in problem.fact
    assert problem.fix == "Resolve again."


def test_other_shapes_and_names_are_refused_together():
    plan = initframe.resolve(rules({"*": "ones"}), Net())
    other = Net()
    other.fc1 = nn.Linear(784, 64)
    problems = refuses(plan, module=other)
    assert problems.keys() == {"fc1.weight", "fc1.bias"}
    assert all(shape in problems["fc1.weight"].fact for shape in ("[128, 784]", "[64, 784]"))
    assert "fc1.weight" in refuses(plan, module=nn.Linear(2, 2))["plan"].fact


def test_a_tensor_that_has_gone_is_refused():
    model = Net()
    plan = initframe.resolve(RECIPE, model)
    del model.fc2
    assert refuses(plan).keys() == {"fc2.weight", "fc2.bias"}


def test_a_plan_needs_a_model():
    plan = initframe.Plan(initframe.Recipe(), "none", ())
    (problem,) = refused(initframe.apply, plan, kind=ResolveError)
    assert (problem.subject, "module=" in problem.fix) == ("plan", True)


def test_what_a_narrower_copy_cannot_hold_is_refused():
    plan = initframe.resolve(rules(weight={"init": "constant", "val": 1e5}), nn.Linear(2, 2))
    assert "float16" in refuses(plan, module=nn.Linear(2, 2).half())["weight"].fact


@pytest.mark.parametrize("rule", ["normal", "zeros", {"init": "shift", "by": 1}, "orthogonal"])
def test_meta_tensors_have_nothing_to_write_to(rule):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    plan = initframe.resolve(rules({"*.weight": rule}), model)
    for options in ({}, {"generator": "torch", "seed": 0}):
        problems = refuses(plan, **options)
        assert problems.keys() == {"0.weight", "1.weight"}
        assert all("meta" in problem.fact and "materialize" in problem.fix for problem in problems.values())


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "0", True, math.nan, [0]])
@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_a_seed_is_an_integer_in_range(seed, generator):
    plan = initframe.resolve(RECIPE, Net())
    assert refuses(plan, seed=seed, generator=generator).keys() == {"seed"}
    (problem,) = refused(initframe.fill_, torch.zeros(2), initframe.Normal(), name="w", seed=seed, kind=ResolveError)
    assert (problem.subject, repr(seed) in problem.fact) == ("seed", True)


def test_an_unknown_generator_is_refused():
    problems = refuses(initframe.resolve(RECIPE, Net()), generator="numpy")
    assert "stream, torch" in problems["generator"].options


def test_a_value_that_a_parametrization_does_not_take_is_refused_before_any_other_is_written():
    model = nn.Sequential(nn.Linear(3, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    plan = initframe.resolve(rules({"*.weight": "zeros"}), model)
    for options in ({}, {"generator": "torch", "seed": 0}):
        assert "parametrizations.weight.original0" in refuses(plan, **options)["1.weight"].fix


def test_a_law_of_ones_own_that_fails_is_refused_before_any_other_is_written(table):
    @initializer("shapeless")
    def shapeless(slot):
        return initframe.Elementwise(lambda u: u.mean(), 0.5, 0.0)

    plan = initframe.resolve(rules({"fc1.*": "ones", "fc2.*": "shapeless"}), Net())
    assert refuses(plan).keys() == {"fc2.weight", "fc2.bias"}


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
        (torch.zeros(4, 4), initframe.Orthogonal((4, 5)), "[4, 5]"),
        (torch.zeros(4, dtype=torch.float16), initframe.Constant(1e6), "ends at 6.55e"),
        (torch.zeros(4), initframe.Elementwise(lambda u: u[0], 0, 1), "shape"),
    ],
)
def test_fill_refuses_what_a_tensor_cannot_hold(tensor, fill, fact):
    (problem,) = refused(initframe.fill_, tensor, fill, name="w", kind=ResolveError)
    assert problem.subject.split(": ")[0] == "tensor 'w'"
    assert fact in problem.fact


@pytest.mark.parametrize("measure", [False, True])
def test_lazy_tensors_can_be_kept_and_nothing_else(measure):
    model = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2))
    report = initframe.reinit(model, rules({"0.*": "keep", "1.*": "ones"}), measure=measure)
    assert [r.name for r in report.results] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    problems = refused(initframe.reinit, model, rules({"*": "ones"}), kind=ResolveError)
    assert any("lazy" in str(problem) for problem in problems)


def test_integer_buffers_are_skipped_and_parameters_refused():
    model = convnet()
    report = initframe.reinit(model, rules({"*": {"init": "ones", "kind": "any"}}))
    assert "1.num_batches_tracked" in report.plan.skipped
    model.codes = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    (problem,) = refused(initframe.resolve, rules(codes="ones"), model, kind=ResolveError)
    assert "int64" in problem.fact
