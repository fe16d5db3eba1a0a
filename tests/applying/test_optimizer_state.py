"""After the write: an optimizer forgets what it knew of the old weights, and stale averages are named."""

import pytest
import torch
from nets import Net, Tower, bits, changed, rules
from refusals import refused
from torch import nn
from torch.optim.swa_utils import AveragedModel

import initframe
from initframe.errors import ResolveError


def trained(model=None, kind=torch.optim.Adam, **options):
    """A model after one step, with its optimizer."""
    model = model or Net()
    optimizer = kind(model.parameters(), lr=0.1, **options)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_state_of_what_was_written_is_forgotten_and_the_rest_stays(generator):
    model, optimizer = trained()
    state = {p: dict(optimizer.state[p]) for p in model.parameters()}
    groups = [dict(group) for group in optimizer.param_groups]
    recipe = rules({"fc1.weight": "normal", "fc2.bias": "keep"})
    initframe.reinit(model, recipe, seed=0, optimizer=optimizer, generator=generator)
    assert model.fc1.weight not in optimizer.state
    for parameter in (model.fc1.bias, model.fc2.weight, model.fc2.bias):
        assert optimizer.state[parameter].keys() == state[parameter].keys()
        assert all(optimizer.state[parameter][key] is value for key, value in state[parameter].items())
    assert [dict(group) for group in optimizer.param_groups] == groups


def test_an_optimizer_goes_on_after_it_has_forgotten():
    model, optimizer = trained()
    initframe.reinit(model, rules({"*": "normal"}), seed=0, optimizer=optimizer)
    before = bits(model)
    optimizer.step()
    assert changed(model, before) == set(before)
    assert all(state["step"] == 1 for state in optimizer.state.values())


def test_without_being_asked_nothing_is_forgotten():
    model, optimizer = trained()
    initframe.reinit(model, rules({"*": "normal"}), seed=0)
    assert len(optimizer.state) == 4


def test_the_originals_of_a_parametrization_are_what_an_optimizer_knows():
    model, optimizer = trained(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    initframe.reinit(model, rules(weight="normal"), seed=0, optimizer=optimizer)
    assert set(optimizer.state) == {model.bias}


OPTIMIZERS = [
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.AdamW, {}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adagrad, {}),
    (torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
]


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_whatever_the_state_is_the_next_step_is_a_first_step(kind, options):
    model, optimizer = trained(kind=kind, **options)
    initframe.reinit(model, rules({"fc1.*": "normal"}), seed=0, optimizer=optimizer)
    assert {model.fc2.weight, model.fc2.bias} <= optimizer.state.keys()
    fresh = Net()
    initframe.reinit(fresh, rules({"fc1.*": "normal"}), seed=0)
    first = kind(fresh.parameters(), lr=0.1, **options)
    assert (model.fc1.weight in optimizer.state) == (fresh.fc1.weight in first.state)
    for one, other in zip(model.parameters(), fresh.parameters(), strict=True):
        one.grad, other.grad = torch.full_like(one, 0.3), torch.full_like(other, 0.3)
    optimizer.step()
    first.step()
    assert torch.equal(model.fc1.weight, fresh.fc1.weight)


def test_momentum_without_state_yet_is_nothing_to_forget():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    initframe.reinit(model, rules({"*": "normal"}), seed=0, optimizer=optimizer)
    assert not optimizer.state


def test_groups_keep_their_settings_and_what_was_not_written():
    model = Net()
    groups = [{"params": model.fc1.parameters(), "lr": 0.1}, {"params": model.fc2.parameters(), "weight_decay": 0.5}]
    optimizer = torch.optim.AdamW(groups, lr=0.2)
    model(torch.ones(1, 784)).sum().backward()
    optimizer.step()
    initframe.reinit(model, rules({"*.weight": "normal"}), seed=0, optimizer=optimizer)
    assert set(optimizer.state) == {model.fc1.bias, model.fc2.bias}
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.1, 0.01), (0.2, 0.5)]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


def test_an_optimizer_of_other_parameters_forgets_nothing_and_the_report_says_so():
    model, (_, optimizer) = Net(), trained()
    report = initframe.reinit(model, rules({"*": "normal"}), seed=0, optimizer=optimizer)
    assert len(optimizer.state) == 4
    assert "Optimizer: had no state of what was written." in str(report)


def test_the_report_counts_what_was_forgotten():
    model, optimizer = trained()
    report = initframe.reinit(model, rules({"fc1.*": "normal"}), seed=0, optimizer=optimizer)
    assert (report.forgotten, report.to_dict()["forgotten"]) == (2, 2)
    assert "Optimizer: forgot its state of 2 parameters." in str(report)
    assert initframe.reinit(model, rules({"fc1.*": "normal"}), seed=0).forgotten is None


def test_the_parameters_of_a_state_dict_are_known_by_their_memory():
    model, optimizer = trained()
    initframe.reinit(model.state_dict(), rules({"fc1.*": "normal"}), seed=0, optimizer=optimizer)
    assert set(optimizer.state) == {model.fc2.weight, model.fc2.bias}


def test_what_an_optimizer_wraps_forgets_too():
    model, adam = trained()
    wrapper = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper.inner = adam
    assert initframe.reinit(model, rules({"fc1.*": "normal"}), seed=0, optimizer=wrapper).forgotten == 2
    assert set(adam.state) == {model.fc2.weight, model.fc2.bias}


def test_lookahead_of_timm_forgets_its_slow_weights():
    model = Net()
    optimizer = pytest.importorskip("timm.optim").Lookahead(torch.optim.SGD(model.parameters(), lr=1e-9), k=1)
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    initframe.reinit(model, rules({"*": "zeros"}), seed=0, optimizer=optimizer)
    for _ in range(2):
        optimizer.step()
    assert float(model.fc1.weight.detach().abs().max()) < 1e-6


def test_what_is_refused_leaves_the_state_alone():
    model, optimizer = trained()
    with pytest.raises(ResolveError):
        initframe.reinit(model, rules({"*": "xavier_uniform"}), seed=0, optimizer=optimizer)
    assert len(optimizer.state) == 4


def test_tied_tensors_are_forgotten_once():
    model, optimizer = trained(Tower())
    initframe.reinit(model, rules({"head.weight": "normal"}), seed=0, optimizer=optimizer)
    assert model.embed.weight not in optimizer.state
    assert len(optimizer.state) == len(list(model.parameters())) - 1


@pytest.mark.parametrize("stranger", [nn.Linear(2, 2), "adam", torch.optim.lr_scheduler.LRScheduler])
def test_what_is_no_optimizer_is_refused_before_the_first_write(stranger):
    model = Net()
    before = bits(model)
    (problem,) = refused(initframe.reinit, model, rules({"*": "ones"}), optimizer=stranger, kind=ResolveError)
    assert problem.subject == "optimizer"
    assert changed(model, before) == set()


class Trainer(nn.Module):
    """A model beside its average."""

    def __init__(self):
        super().__init__()
        self.net = Net()
        self.average = AveragedModel(self.net)


def test_averages_that_hold_the_old_weights_are_named():
    model = Trainer()
    report = initframe.reinit(model, rules({"net.*": "normal"}), seed=0)
    assert report.stale == ("average",)
    assert "Stale: average is an averaged copy; it still holds weights from before." in str(report)
    assert report.to_dict()["stale"] == ["average"]


def test_averages_are_not_stale_where_they_are_equal_or_nothing_was_written():
    assert initframe.reinit(Trainer(), rules({"*": "normal"}), seed=0).stale == ("average",)
    assert initframe.reinit(Trainer(), rules({"*": "zeros"}), seed=0).stale == ()
    assert initframe.reinit(Trainer(), rules({"net.*": "keep"}), seed=0).stale == ()


class Adversaries(nn.Module):
    """Two nets of a kind, of which one has an average."""

    def __init__(self):
        super().__init__()
        self.generator, self.judge = Net(), nn.Sequential(nn.Linear(2, 2))
        self.average = AveragedModel(self.generator)


def test_an_average_is_stale_where_its_own_net_was_written_and_where_any_of_its_tensors_was_not():
    def stale(*patterns):
        return initframe.reinit(Adversaries(), rules(dict.fromkeys(patterns, "normal")), seed=0).stale

    assert stale("judge.*") == ()
    assert stale("generator.fc1.*") == ("average",)
    assert stale("*.weight", "generator.fc1.bias") == ("average",)
    assert stale("*") == ("average",)
    assert stale("average.*") == ()


@pytest.mark.parametrize("kind", ["ModelEmaV2", "ModelEmaV3"])
def test_the_averages_of_timm_are_known(kind):
    average = getattr(pytest.importorskip("timm.utils"), kind)
    model = nn.Module()
    model.net = Net()
    model.ema = average(model.net)
    before = bits(model.ema)
    report = initframe.reinit(model, rules({"net.*": "normal"}), seed=0)
    assert report.stale == ("ema",)
    assert changed(model.ema, before) == set()


# --- several optimizers, and one history of all parameters -----------------------------------------------------------


def lbfgs():
    """A model after a step of LBFGS, which keeps all of its state under its first parameter."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.eye(3)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, optimizer, closure


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias"])
def test_lbfgs_forgets_its_history_whichever_parameter_is_written(name):
    model, optimizer, closure = lbfgs()
    assert any(optimizer.state.values())
    report = initframe.reinit(model, rules({name: "normal"}), seed=0, optimizer=optimizer)
    assert not optimizer.state
    assert report.forgotten == 1
    fresh = torch.optim.LBFGS(model.parameters(), max_iter=4)
    before = bits(model)
    optimizer.step(closure)
    after = bits(model)
    model.load_state_dict(before)
    fresh.step(closure)
    assert changed(model, after) == set()


def test_lbfgs_of_other_parameters_keeps_its_history():
    model, optimizer, _ = lbfgs()
    model.append(nn.Linear(1, 1))
    kept = dict(optimizer.state[model[0].weight])
    report = initframe.reinit(model, rules({"2.*": "normal"}), seed=0, optimizer=optimizer)
    assert optimizer.state[model[0].weight] == kept
    assert report.forgotten == 0


def test_several_optimizers():
    model = Net()
    optimizers = [
        torch.optim.Adam(model.fc1.parameters()),
        torch.optim.SGD(model.fc2.parameters(), momentum=0.9, lr=0.1),
    ]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    report = initframe.reinit(model, rules({"*.weight": "normal"}), seed=0, optimizer=optimizers)
    assert report.forgotten == 2
    assert [set(optimizer.state) for optimizer in optimizers] == [{model.fc1.bias}, {model.fc2.bias}]
    assert initframe.reinit(model, rules({"*.weight": "normal"}), optimizer=[]).forgotten == 0


def test_one_of_several_is_no_optimizer():
    model = Net()
    before = bits(model)
    problems = refused(
        initframe.reinit, model, rules({"*": "normal"}), optimizer=[torch.optim.Adam(model.parameters()), "Adam", 3]
    )
    assert [problem.subject for problem in problems] == ["optimizer", "optimizer"]
    assert changed(model, before) == set()
