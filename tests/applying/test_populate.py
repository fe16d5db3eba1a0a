"""Stacked populations: each member has the bits of one application, and the module keeps its own."""

import copy
import pickle

import pytest
import torch
from nets import Net, Tower, changed, convnet, rules, same_bits
from refusals import refused
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn.utils import parametrizations

import initframe
from initframe.plan.param_groups import CompanionWarning

SEEDS = [3, 0, 2**64 - 1]


def linear(wrap, attribute="weight"):
    layer = nn.Linear(4, 4)
    return nn.Sequential(wrap(layer, attribute), nn.Linear(4, 2))


def older_spectral():
    layer = nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4)))
    layer(torch.ones(1, 4))
    return layer.eval()


def older_weight():
    with pytest.warns(FutureWarning):
        return linear(nn.utils.weight_norm)


def on_one_memory():
    """Two Parameters that are one in memory, but not for named_parameters()."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(model[0].weight.detach())
    return model


class Buffered(nn.Module):
    """Buffers of several kinds, and a frozen parameter."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.fc.bias.requires_grad_(False)
        self.register_buffer("fast", torch.ones(3), persistent=False)
        self.register_buffer("table", torch.arange(6.0).view(2, 3))
        self.register_buffer("count", torch.tensor(7))


MODELS = {
    "net": Net,
    "tower": Tower,
    "convnet": convnet,
    "channels last": lambda: convnet()[:3].to(memory_format=torch.channels_last),
    "buffered": Buffered,
    "bfloat16": lambda: Net().bfloat16(),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, proj_size=2),
    "one memory": on_one_memory,
    "weight_norm": lambda: linear(parametrizations.weight_norm),
    "spectral_norm": lambda: linear(parametrizations.spectral_norm),
    "orthogonal": lambda: linear(parametrizations.orthogonal),
}
RECIPES = {
    "weights": rules({"*weight*": {"init": "normal", "std": 0.1, "where": "ndim > 1"}}),
    "orthogonal": rules(
        {"*weight*": {"init": "orthogonal", "where": "ndim > 1"}, "*bias*": {"init": "uniform", "optional": True}}
    ),
    "perturbed": rules({"*": {"init": "shrink_perturb", "shrink": 0.5, "std": 0.1}}),
    "buffers": rules({"*": {"init": "normal", "kind": "any", "where": "ndim > 1"}}),
    "units": rules({"*bias*": {"init": "normal", "units": [1], "optional": True}}),
}


def one_by_one(plan, model, seeds=SEEDS):
    """What torch.func stacks of models that are filled apart, each a copy of the model."""
    members = [copy.deepcopy(model) for _ in seeds]
    for member, seed in zip(members, seeds, strict=True):
        initframe.apply(plan, seed, module=member)
    return stack_module_state(members)


def assert_equal(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        assert list(mine) == list(theirs)
        for name, tensor in theirs.items():
            assert same_bits(mine[name], tensor), name
            assert mine[name].requires_grad == tensor.requires_grad
            assert mine[name].is_leaf
            assert type(mine[name]) is torch.Tensor


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_members_are_what_apply_makes(name, recipe):
    model = MODELS[name]()
    plan = initframe.resolve(RECIPES[recipe], model)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    found = initframe.populate(plan, SEEDS, model)
    assert changed(model, before) == set()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_equal(found, one_by_one(plan, model))


def test_copies_follow_their_source():
    model = nn.ModuleDict({"online": Net(), "target": Net()})
    recipe = rules({"online.*": {"init": "shrink_perturb", "shrink": 0.5, "std": 0.1}})
    recipe["rules"]["target.*"] = {"init": "copy", "source": "online.*"}
    plan = initframe.resolve(recipe, model)
    found = initframe.populate(plan, SEEDS, model)
    assert_equal(found, one_by_one(plan, model))
    assert same_bits(found[0]["online.fc1.weight"], found[0]["target.fc1.weight"])


@pytest.mark.parametrize("build", [older_weight, older_spectral])
def test_older_hooks(build):
    """deepcopy refuses such a model, so that each seed's is built anew, with the same values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        plan = initframe.resolve("xavier_relu", model)
        members = []
        for seed in SEEDS:
            torch.manual_seed(0)
            members.append(build())
            initframe.apply(plan, seed, module=members[-1])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert_equal(initframe.populate(plan, SEEDS, model), stack_module_state(members))
    assert changed(model, before) == set()


def test_a_module_is_not_written_to_if_its_tensors_are_its_own():
    model = Net()
    versions = [parameter._version for parameter in model.parameters()]
    initframe.populate(initframe.resolve("xavier_relu", model), SEEDS)
    assert [parameter._version for parameter in model.parameters()] == versions


def test_a_plan_without_its_model():
    model = Tower()
    plan = pickle.loads(pickle.dumps(initframe.resolve("xavier_relu", model)))
    assert_equal(initframe.populate(plan, SEEDS, model), one_by_one(plan, model))


def test_an_ensemble_under_vmap():
    model, x = Net(), torch.randn(5, 784)
    plan = initframe.resolve("kaiming_relu", model)
    params, buffers = initframe.populate(plan, range(4), model)
    base = copy.deepcopy(model).to("meta")
    outputs = torch.vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers)
    for seed in range(4):
        initframe.apply(plan, seed)
        torch.testing.assert_close(outputs[seed], model(x))
    outputs.sum().backward()
    assert all(tensor.grad is not None for tensor in params.values())


def test_a_parametrization_that_takes_no_member_leaves_the_module_as_it_was():
    class Positive(nn.Module):
        def forward(self, x):
            return x.exp()

        def right_inverse(self, x):
            if (x <= 0).any():
                raise ValueError("not positive")
            return x.log()

    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    model = nn.utils.parametrize.register_parametrization(layer, "weight", Positive())
    plan = initframe.resolve(rules({"weight": {"init": "normal"}}), model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert refused(initframe.populate, plan, range(20), model)[0].subject == "weight"
    assert changed(model, before) == set()


def test_companions_are_told_once():
    model = Net()
    recipe = rules({"*weight": {"init": "normal", "companions": {"lr": 2}}})
    with pytest.warns(CompanionWarning) as told:
        initframe.populate(initframe.resolve(recipe, model), SEEDS)
    assert len(told) == 1


@pytest.mark.parametrize("seeds", [3, "12", [], [-1], [0, 2**64], [0, 1.5], [True], None])
def test_seeds_that_are_none(seeds):
    plan = initframe.resolve("xavier_relu", Net())
    assert refused(initframe.populate, plan, seeds)[0].subject in ("seed", "seeds")


@pytest.mark.parametrize(
    ("module", "fact"),
    [
        (nn.Linear(3, 3), "has none of its tensors"),
        (Net().to("meta"), "it is on the meta device"),
        ({"fc1.weight": torch.zeros(128, 784)}, "no module"),
    ],
)
def test_modules_that_do_not_fit(module, fact):
    plan = initframe.resolve("xavier_relu", Net())
    assert any(fact in problem.fact for problem in refused(initframe.populate, plan, SEEDS, module))
