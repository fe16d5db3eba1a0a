"""``init: copy``: what another tensor of the model holds after the write."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

import initframe
from initframe.errors import ResolveError
from tests.refusals import refused

COPY = {"match": "target.*", "init": "copy", "source": "online.*", "kind": "any"}


class Agent(nn.Module):
    """A network and its target."""

    def __init__(self, wrap=lambda layer: layer):
        super().__init__()
        self.online = nn.Sequential(wrap(nn.Linear(4, 8)), nn.BatchNorm1d(8), nn.Linear(8, 2))
        self.target = copy.deepcopy(self.online)


def agree(agent):
    one, other = agent.online.state_dict(), agent.target.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.items())


def rules(copied=COPY, **more):
    return {"rules": {name: rule for name, rule in more.items() if rule} | {"copies": copied}}


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize(
    "law",
    [
        {"match": "online.*.weight", "init": "normal"},
        {"match": "online.0.weight", "init": "orthogonal"},
        {"match": "online.*.weight", "init": "scale", "by": 3.0},
        {"match": "online.*.weight", "init": "normal", "units": [0]},
        None,
    ],
    ids=str,
)
def test_a_copy_is_its_source_after_the_write(law, generator):
    agent = Agent()
    with torch.no_grad():
        for tensor in agent.online.state_dict().values():
            tensor.add_(1)
    report = initframe.reinit(agent, rules(law=law), seed=3, generator=generator)
    assert agree(agent)
    assert report.stale == ()


@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm], ids=["weight_norm", "spectral_norm"])
def test_parametrized_copies_compute_the_same(wrap):
    agent = Agent(wrap)
    initframe.reinit(agent, rules({**COPY, "kind": "parameter"}, law={"match": "online.*", "init": "normal"}), seed=0)
    assert torch.equal(agent.online[0].weight, agent.target[0].weight)


def test_a_copy_in_another_dtype_is_drawn_in_its_own():
    agent = Agent()
    agent.target.double()
    law = {"match": "online.0.weight", "init": "normal"}
    recipe = rules({"match": "target.0.weight", "init": "copy", "source": "online.0.weight"}, law=law)
    initframe.reinit(agent, recipe, seed=0)
    wanted = torch.empty(8, 4, dtype=torch.float64)
    initframe.fill_(wanted, initframe.Normal(0, 1), name="online.0.weight", seed=0)
    assert torch.equal(agent.target[0].weight, wanted)


def test_on_disk_as_in_memory(tmp_path):
    from safetensors.torch import load_file

    agent = Agent()
    law = {"match": "online.*.weight", "where": "ndim > 1", "init": "scale", "by": 2.0}
    plan = initframe.resolve(rules(law=law), agent)
    (path,) = initframe.write_checkpoint(plan, tmp_path, seed=0)
    initframe.apply(plan, seed=0)
    held = load_file(path)
    assert all(torch.equal(held[name], value) for name, value in agent.state_dict().items())


def test_a_model_without_memory_has_its_copies():
    with initframe.deferred():
        agent = Agent()
    law = {"match": "online.*", "init": "torch_default"}
    initframe.materialize(agent, rules({**COPY, "kind": "parameter"}, law=law), seed=0)
    assert agree(agent)


def chained(**sources):
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in "abc"})
    return {name: {"match": f"{name}.*", "init": "copy", "source": f"{s}.*"} for name, s in sources.items()}, model


def test_chains_are_followed_and_circles_are_errors():
    recipe, model = chained(c="b", b="a")
    initframe.reinit(model, {"rules": recipe}, seed=0)
    assert torch.equal(model["a"].weight, model["c"].weight)
    recipe, model = chained(a="b", b="c", c="a")
    assert all("circle" in str(problem) for problem in refused(initframe.resolve, {"rules": recipe}, model))
    recipe, model = chained(a="a")
    assert refused(initframe.resolve, {"rules": recipe}, model, kind=ResolveError)


@pytest.mark.parametrize(
    ("source", "words"),
    [("onlin.*", "not in the model"), ("online.*.*", "has more *"), ("online.0.bias", "shape"), (3, "a text")],
)
def test_sources_that_cannot_be_copied(source, words):
    recipe = rules({"match": "target.*", "init": "copy", "source": source})
    assert any(words in str(problem) for problem in refused(initframe.resolve, recipe, Agent()))


@pytest.mark.parametrize("init", ["copy", "row_norms"])
def test_what_follows_another_tensor_takes_no_factor(init):
    recipe = {"rules": {"bias": {"init": init, "source": "weight", "factor": 2}}}
    (problem,) = refused(initframe.resolve, recipe, nn.Linear(4, 2), kind=ResolveError)
    assert problem.subject.endswith(": factor")


def test_what_is_tied_to_its_source_is_left_to_other_rules():
    agent = Agent()
    agent.target[0].weight = agent.online[0].weight
    law = {"match": "online.*", "init": "normal"}
    plan = initframe.resolve(rules({**COPY, "kind": "parameter"}, law=law), agent)
    assert plan["target.0.weight"].rule.name == "law"


# --- copies that no rule makes ----------------------------------------------------------------------------------------


def test_a_deep_copy_that_gets_other_numbers_is_told():
    agent = Agent()
    report = initframe.reinit(agent, {"rules": {"*.weight": {"init": "normal"}}}, seed=0)
    assert report.stale == ("target",)
    assert "target" in str(report)
    assert initframe.reinit(Agent(), {"rules": {"*": "zeros"}}, seed=0).stale == ()
    assert initframe.reinit(Agent(), {"rules": {"target.*": "normal"}}, seed=0).stale == ()


def test_layers_of_a_stack_and_equal_norms_are_no_copies():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2)
    assert initframe.reinit(stack, {"rules": {"*": "normal"}}, seed=0).stale == ()


def averaged(model):
    ema = AveragedModel(model)
    return ema, ema.module.state_dict


def cloned(model):
    other = copy.deepcopy(model)
    return other, other.state_dict


def mapped(model):
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return held, lambda: held


def shadowed(model):
    class Shadow:
        shadow_params = ()

    ema = Shadow()
    ema.shadow_params = [p.detach().clone() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    return ema, lambda: dict(zip(names, ema.shadow_params, strict=True))


@pytest.mark.parametrize("make", [averaged, cloned, mapped, shadowed])
def test_averages_outside_follow_what_is_written(make):
    model = Agent().online
    ema, held = make(model)
    initframe.reinit(model, {"rules": {"*": "normal"}}, seed=0, averages=[ema])
    assert all(torch.equal(held()[name], tensor.detach()) for name, tensor in model.named_parameters())


def test_what_is_not_written_keeps_its_average():
    model = Agent().online
    ema = AveragedModel(model)
    with torch.no_grad():
        ema.module[0].weight.add_(1)
    before = ema.module[0].weight.clone()
    initframe.reinit(model, {"rules": {"2.*": "ones"}}, seed=0, averages=[ema])
    assert torch.equal(ema.module[0].weight, before)
    assert torch.equal(ema.module[2].weight, torch.ones(2, 8))


@pytest.mark.parametrize("strangers", [[nn.Linear(3, 3)], [object()], nn.Linear(2, 2), [{"2.weight": torch.ones(1)}]])
def test_strange_averages_are_refused_before_anything_is_written(strangers):
    model = Agent().online
    before = copy.deepcopy(model.state_dict())
    assert refused(initframe.reinit, model, {"rules": {"2.*": "normal"}}, seed=0, averages=strangers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
