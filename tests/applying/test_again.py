"""A plan is applied once more: the same numbers, looked up once; and everything that may have changed is seen."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from refusals import refused
from torch import nn

import initframe
from initframe.applying import again, draw
from initframe.initializers.table import initializer

RECIPE = {
    "unmatched": "keep",
    "rules": {
        "0.weight": "xavier_uniform",
        "1.weight": {"init": "orthogonal"},
        "2.weight": "trunc_normal",
        "*.bias": {"init": "constant", "val": 0.5},
        "1.bias": "zeros",
    },
}


@pytest.fixture
def known(monkeypatch):
    """Whether each application was known from earlier ones."""
    seen = []

    def watched(plan, model, find=again.known):
        seen.append(find(plan, model) is not None)
        return find(plan, model)

    monkeypatch.setattr(again, "known", watched)
    return seen


def net():
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3), nn.LayerNorm(3))


def values(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_fresh(model, seed, recipe=RECIPE):
    """The model holds what a new application to a new model gives."""
    other = net().to(next(model.parameters()).dtype)
    with torch.no_grad():
        other[3].load_state_dict(model[3].state_dict())
    initframe.reinit(other, recipe, seed=seed)
    found = values(model)
    assert all(torch.equal(found[name], value) for name, value in values(other).items())


def applied(model, times=3, recipe=RECIPE):
    plan = initframe.resolve(recipe, model)
    for seed in range(times):
        initframe.apply(plan, seed=seed)
    return plan


def test_the_third_application_only_draws(known):
    model = net()
    plan = initframe.resolve(RECIPE, model)
    reports = []
    for seed in (3, 4, 5, 6):
        reports.append(initframe.apply(plan, seed=seed))
        assert_fresh(model, seed)
    assert known == [False, False, True, True]
    for report, seed in zip(reports, (3, 4, 5, 6), strict=True):
        assert (report.seed, report.results, report.left) == (seed, reports[0].results, reports[0].left)
        assert str(report.plan) == str(plan)


def test_progress_counts_all_elements(known):
    model = net()
    plan = applied(model)
    told = []
    report = initframe.apply(plan, on_progress=told.append)
    assert known[-1]
    assert sum(told) == sum(result.slot.numel for result in report.results)


def test_progress_counts_what_a_rule_keeps(known):
    plan = applied(net(), recipe={"rules": {"*": "normal", "3.*": "keep"}})
    told = []
    report = initframe.apply(plan, on_progress=told.append)
    assert known[-1]
    assert sum(told) == sum(result.slot.numel for result in report.results) == plan.elements


def test_what_is_drawn_beside_its_memory_is_drawn_in_batches(known, monkeypatch):
    model = nn.ModuleList(nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last) for _ in range(4))
    plan = applied(model, recipe={"rules": {"*.weight": "normal", "*.bias": "zeros"}})
    expected, batches, paint = values(model), [], draw.paint
    monkeypatch.setattr(draw, "AT_ONCE", 4 * 2 * 9 + 4)
    monkeypatch.setattr(draw, "paint", lambda pieces, *rest: (batches.append(len(pieces)), paint(pieces, *rest)))
    initframe.apply(plan, seed=2)
    assert known[-1]
    assert batches == [2, 2, 2, 2]
    assert all(torch.equal(values(model)[name], value) for name, value in expected.items())


def test_a_report_has_the_plan_that_was_applied(known):
    plan = applied(net())
    other = replace(plan, title="another")
    assert initframe.apply(other).plan is other
    assert known[-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model[0], "weight", nn.Parameter(torch.zeros(7, 5))),
        lambda model: setattr(model[2].weight, "data", torch.zeros(3, 7)),
        lambda model: model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True),
        lambda model: setattr(model[0].weight, "data", torch._neg_view(model[0].weight.data)),
    ],
    ids=["another parameter", "other memory", "assigned", "the same memory, negated"],
)
def test_a_model_that_has_changed_is_surveyed_again(known, change):
    model = net()
    plan = applied(model)
    change(model)
    initframe.apply(plan, seed=9)
    assert not known[-1]
    assert_fresh(model, 9)


def test_what_no_longer_fits_is_refused(known):
    model = net()
    plan = applied(model)
    model[0] = nn.Linear(5, 8)
    assert "0.weight" in {problem.subject for problem in refused(initframe.apply, plan)}
    assert not known[-1]


def test_tensors_are_not_kept_alive():
    model = net()
    plan = applied(model)
    gone = weakref.ref(model[0].weight)
    model[0].weight = nn.Parameter(torch.zeros(7, 5))
    gc.collect()
    assert gone() is None
    initframe.apply(plan, seed=1)
    assert_fresh(model, 1)


def test_a_plan_and_its_model_do_not_wait_for_the_garbage_collector(known):
    model = net()
    gone = weakref.ref(model)
    plan = applied(model)
    initframe.apply(plan)
    assert known[-1]
    gc.collect()
    gc.disable()
    try:
        del plan, model
        assert gone() is None
    finally:
        gc.enable()


def test_memory_that_was_freed_is_refused():
    model = net()
    plan = applied(model)
    model[0].weight.untyped_storage().resize_(0)
    assert {problem.subject for problem in refused(initframe.apply, plan)} == {"0.weight"}


def test_copies_inside_are_told_each_time():
    model = nn.ModuleDict({"online": nn.Linear(3, 4), "target": nn.Linear(3, 4)})
    plan = initframe.resolve({"unmatched": "keep", "rules": {"online.*": "normal"}}, model)
    for seed in range(3):
        assert initframe.apply(plan, seed=seed).stale == ()
    model["target"].load_state_dict(model["online"].state_dict())
    assert initframe.apply(plan, seed=7).stale == ("target",)


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True])
def test_seeds_are_checked(seed):
    plan = applied(net())
    assert refused(initframe.apply, plan, seed)


def test_an_interrupt_is_told_what_may_be_written():
    plan = applied(net())

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        initframe.apply(plan, on_progress=stop)
    assert "0.weight" in caught.value.__notes__[0]
    initframe.apply(plan)  # nobody holds its memory


def channels_last():
    return nn.ModuleList(nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last) for _ in range(4))


BESIDE = {"rules": {"*.weight": "normal", "*.bias": "zeros"}}


@pytest.mark.parametrize(("build", "recipe"), [(net, RECIPE), (channels_last, BESIDE)])
@pytest.mark.parametrize("at_once", [20, 1 << 26])
def test_an_interrupt_tells_what_is_written(build, recipe, at_once, known, monkeypatch):
    """Wherever it comes, what is called written holds its new values; later interrupts leave no less."""
    monkeypatch.setattr(draw, "AT_ONCE", at_once)
    noted = []
    monkeypatch.setattr(again, "note_written", lambda _error, names, done: noted.append((names, done)))
    model, whole = build(), build()
    plan, told = applied(model, recipe=recipe), []
    initframe.apply(plan, seed=9, on_progress=told.append)
    whole.load_state_dict(model.state_dict())
    expected = values(whole)
    for turn in range(len(told)):
        initframe.apply(plan, seed=8)
        ticks = iter([None] * turn)
        with pytest.raises(StopIteration):
            initframe.apply(plan, seed=9, on_progress=lambda _, ticks=ticks: next(ticks))
        found = values(model)
        names, done = noted[-1]
        assert set(done) < set(names)
        assert all(torch.equal(found[name], expected[name]) for name in done)
    assert all(known[2:])
    counts = [len(done) for _, done in noted]
    assert counts == sorted(counts)
    assert counts[-1] > 0 or (build is channels_last and at_once > 1000)  # all in one step


@pytest.mark.parametrize("option", [{"measure": True}, {"restore": True}, {"only": "0.*"}, {"generator": "torch"}])
def test_options_take_the_whole_way(option):
    model, beside = net(), net()
    with torch.no_grad():
        beside.load_state_dict(model.state_dict())
    plan = applied(model, recipe={"unmatched": "keep", "rules": {"*.weight": {"where": "ndim > 1", "init": "normal"}}})
    beside.load_state_dict(model.state_dict())
    other = initframe.resolve(plan.recipe, beside)
    one, two = initframe.apply(plan, 5, **option), initframe.apply(other, 5, **option)
    assert [result.after for result in one.results] == [result.after for result in two.results]
    assert all(torch.equal(values(model)[name], value) for name, value in values(beside).items())


def test_plans_of_one_model_do_not_mix(known):
    model = net()
    one, two = applied(model), applied(model, recipe={"rules": {"*": "ones"}})
    initframe.apply(one, seed=2)
    assert_fresh(model, 2)
    initframe.apply(two, seed=2)
    assert all(bool((value == 1).all()) for value in values(model).values())
    assert known[-2:] == [True, True]


def test_fills_with_code_of_the_users_own_are_tried_each_time(known, table):
    @initializer("own")
    def own(slot):
        return initframe.Elementwise(lambda u: u.round(), 0.5, 0.5)

    plan = initframe.resolve({"rules": {"weight": "own", "bias": "zeros"}}, nn.Linear(4, 4))
    for _ in range(4):
        initframe.apply(plan)
    assert not any(known)


class _Moved(dict):
    """A state_dict that another thread, so to speak, moves and fills while this one looks at it."""

    meanwhile = None

    def items(self):
        if act := self.meanwhile:
            self.meanwhile = None
            act()
        return super().items()


def test_a_model_that_another_thread_moves_and_fills_meanwhile_is_not_written_where_it_was():
    state = _Moved(w=torch.zeros(64))
    plan = applied(state, recipe={"rules": {"w": "normal"}})
    before = state["w"].detach()  # keeps the memory, so that a write to it can be seen

    def act():
        state["w"].data = torch.zeros(64)
        initframe.apply(plan, seed=8)
        before.zero_()

    state.meanwhile = act
    initframe.apply(plan, seed=9)
    assert state.meanwhile is None
    assert not before.any()
    assert torch.equal(state["w"], initframe.fill_(torch.empty(64), initframe.Normal(0, 1), name="w", seed=9))
