"""Deferred construction: no memory before, the same numbers after, ties and tables as they were."""

import resource

import pytest
import torch
from refusals import refused
from torch import nn

import initframe
from initframe import ResolveError, apply, deferred, materialize, param_init_fn, resolve, survey
from initframe.construction.deferred import resolve_deferred
from tests.nets import Tower, bits, convnet, same_bits

EVERYTHING = {
    "unmatched": "default",
    "rules": {"*.weight": {"where": "ndim > 1", "init": "trunc_normal", "std": 0.02}, "scale": "ones"},
}


class Rotary(nn.Module):
    """A table in a buffer, computed from real numbers, and a parameter that starts from one."""

    def __init__(self, width=8):
        super().__init__()
        self.register_buffer("angles", 1.0 / 10_000 ** (torch.arange(0, width, 2) / width), persistent=False)
        self.decay = nn.Parameter(torch.linspace(0, 1, width))
        self.linear = nn.Linear(width, width)
        with torch.no_grad():
            self.linear.weight.fill_(float(self.angles[1]))


def built(build):
    with deferred():
        return build()


def both(build, recipe, **options):
    """A model that was built and filled, and one that was deferred and materialized."""
    direct, later = build(), built(build)
    initframe.reinit(direct, recipe, seed=3, **options)
    materialize(later, recipe, seed=3, **options)
    return direct, later


@pytest.mark.parametrize("build", [Tower, convnet, lambda: nn.LSTM(4, 6, 2), lambda: nn.MultiheadAttention(8, 2)])
@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_materialized_is_what_apply_makes(build, generator):
    recipe = EVERYTHING if build is Tower else {"unmatched": "default", "rules": {"*bias*": "zeros"}}
    direct, later = both(build, recipe, generator=generator)
    assert bits(direct).keys() == bits(later).keys()
    assert all(same_bits(bits(direct)[name], tensor) for name, tensor in bits(later).items())


def test_parameters_have_no_memory_and_buffers_have():
    model = built(Tower)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())


def test_the_switch_is_off_again_even_after_an_error():
    with pytest.raises(RuntimeError, match="constructor"), deferred():
        raise RuntimeError("constructor")
    assert not nn.Linear(2, 2).weight.is_meta


def test_tables_are_right():
    model = built(Rotary)
    recipe = {"unmatched": "default", "rules": {"decay": "ones"}}
    materialize(model, recipe)
    assert torch.equal(model.angles, Rotary().angles)
    assert set(bits(model)) == {"decay", "linear.weight", "linear.bias"}


def test_a_parameter_of_two_modules_is_one_before_and_after():
    shared = nn.Parameter(torch.ones(3, 3))

    def build():
        first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        first.weight, second.weight = shared, shared
        return nn.Sequential(first, second)

    model = built(build)
    assert model[0].weight is model[1].weight
    materialize(model, {"rules": {"0.weight": "eye"}})
    assert model[0].weight is model[1].weight
    assert len(list(model.parameters())) == 1


def on_the_same_memory():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    return model


def test_parameters_on_the_same_memory_stay_on_it():
    model = built(on_the_same_memory)
    materialize(model, {"rules": {"0.weight": "eye"}})
    assert model[0].weight is not model[1].weight
    assert model[0].weight.data_ptr() == model[1].weight.data_ptr()


class Sharing(nn.Module):
    """Parameters on one memory, made before any of them is registered: wholly, in part, and side by side."""

    def __init__(self):
        super().__init__()
        flat = torch.zeros(13)[:12]
        self.one = nn.Parameter(flat[:6].view(2, 3))
        self.same = nn.Parameter(flat[:6].view(2, 3))
        self.beside = nn.Parameter(flat[6:])
        self.strided = nn.Parameter(torch.zeros(3, 2).T)
        self.rounded = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
        self.empty = nn.Parameter(torch.zeros(0, 3))


def test_memory_that_is_shared_stays_shared():
    later, direct = built(Sharing), Sharing()
    assert [slot.aliases for slot in survey(later).slots] == [slot.aliases for slot in survey(direct).slots]
    assert survey(later).slots == survey(direct).slots
    assert all(p.stride() == q.stride() for p, q in zip(later.parameters(), direct.parameters(), strict=True))
    materialize(later, {"rules": {"*": {"init": "normal", "std": 1}}})
    assert later.one.data_ptr() == later.same.data_ptr()
    initframe.reinit(direct, {"rules": {"*": {"init": "normal", "std": 1}}})
    assert all(same_bits(bits(direct)[name], tensor) for name, tensor in bits(later).items())


def test_memory_that_is_shared_in_part_is_refused():
    def build():
        model, flat = nn.Module(), torch.zeros(10)
        model.one, model.other = nn.Parameter(flat[:6]), nn.Parameter(flat[4:])
        return model

    with pytest.raises(ResolveError, match=r"on one \[6\]: it shares part of its memory with 'other'"):
        materialize(built(build), {"rules": {"*": "zeros"}})


def test_memory_that_is_gone_is_nobodys():
    """A parameter's memory may be given to the next one when the constructor drops it."""
    model = built(lambda: nn.Sequential(*(nn.Linear(3, 3) for _ in range(50))))
    assert [slot.aliases for slot in survey(model).slots] == [()] * 100


def test_what_a_constructor_notes_on_a_parameter_is_kept():
    class Noted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2), requires_grad=False)
            self.weight.sharded = "no"

    model = built(Noted)
    assert model.weight.sharded == "no"
    materialize(model, {"rules": {"weight": "zeros"}})
    assert (model.weight.sharded, model.weight.requires_grad) == ("no", False)


def test_a_parameter_class_of_ones_own_is_kept():
    class Marked(nn.Parameter):
        pass

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = Marked(torch.ones(2))

    model = built(Layer)
    assert isinstance(model.weight, Marked)
    materialize(model, {"rules": {"weight": "zeros"}})
    assert isinstance(model.weight, Marked)
    assert model.weight.tolist() == [0.0, 0.0]


def test_lazy_parameters_stay_lazy():
    model = built(lambda: nn.LazyLinear(3))
    with pytest.raises(ResolveError, match="lazy"):
        materialize(model, {"rules": {"weight": "zeros", "bias": "zeros"}})


def test_every_tensor_that_no_rule_covers_is_named():
    model = built(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    problems = refused(materialize, model, {"rules": {"0.weight": "zeros", "1.weight": "zeros"}})
    assert [problem.subject for problem in problems] == ["0.bias", "1.bias"]
    assert model[0].weight.is_meta


ZEROS = {"rules": {"*": "zeros"}}


@pytest.mark.parametrize(
    "way", [materialize, lambda model, recipe, **options: param_init_fn(resolve(recipe, model), **options)]
)
@pytest.mark.parametrize(
    ("options", "subject"),
    [
        ({"seed": -1}, "seed"),
        ({"device": "meta"}, "device 'meta'"),
        ({"device": "nonsense"}, "device 'nonsense'"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_allocated(way, options, subject):
    model = built(Tower)
    (problem,) = refused(way, model, ZEROS, kind=ResolveError, **options)
    assert problem.subject == subject
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("generator", "law", "fact"),
    [("bogus", "zeros", "unknown generator 'bogus'"), ("torch", "delta_orthogonal", "torch.nn.init has no")],
)
def test_a_generator_that_will_not_do_is_refused_before_anything_is_allocated(generator, law, fact):
    model = built(lambda: nn.Conv2d(3, 3, 3))
    with pytest.raises(ResolveError, match=fact):
        materialize(model, {"rules": {"weight": law, "bias": "zeros"}}, generator=generator)
    assert model.weight.is_meta


def test_the_default_device_may_be_meta_while_it_is_built_only():
    with torch.device("meta"):
        model = nn.Linear(2, 2)
        (problem,) = refused(materialize, model, ZEROS, kind=ResolveError)
    assert problem.subject == "torch's default device"
    materialize(model, ZEROS)


def test_an_optimizer_comes_after():
    with pytest.raises(TypeError, match="optimizer"):
        materialize(built(Tower), EVERYTHING, optimizer=torch.optim.SGD(Tower().parameters()))


def test_a_plan_of_another_shape_is_refused_before_anything_is_allocated():
    plan, stage = resolve(ZEROS, built(lambda: nn.Linear(3, 3))), built(lambda: nn.Linear(5, 3))
    (problem,) = refused(materialize, stage, plan, kind=ResolveError)
    assert (problem.subject, "[3, 5]" in problem.fact) == ("weight", True)
    assert stage.weight.is_meta


class StubbornError(Exception):
    """What a law raises half-way."""


@pytest.mark.parametrize("build", [Tower, lambda: nn.Sequential(nn.LSTM(3, 3), nn.Linear(3, 3))])
def test_whatever_fails_leaves_the_model_without_memory(build):
    """A retry by a recipe that covers less finds no tensor that looks as if it had values."""
    model = built(build)
    before = dict(model.named_parameters())

    def stop(_):
        raise StubbornError

    with pytest.raises(StubbornError):
        materialize(model, ZEROS, on_progress=stop)
    assert all(parameter is before[name] and parameter.is_meta for name, parameter in model.named_parameters())
    materialize(model, ZEROS)
    assert all(not tensor.any() for tensor in model.parameters())


def test_a_way_in_that_is_closed_leaves_the_model_without_memory():
    model = built(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    (problem,) = refused(materialize, model, ZEROS, kind=ResolveError)
    assert problem.subject == "weight"
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_rule_that_starts_from_values_covers_nothing():
    model = built(lambda: nn.Linear(2, 2))
    for init in ("keep", {"init": "scale", "by": 2}):
        (problem,) = refused(materialize, model, {"rules": {"bias": "zeros", "weight": init}}, kind=ResolveError)
        assert (problem.subject, "current values" in problem.fact) == ("weight", True)


def test_unmatched_default_names_what_has_no_law_of_its_own():
    class LayerScale(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.gamma = nn.Parameter(torch.full((4,), 1e-5))

    model = built(LayerScale)
    with pytest.raises(ResolveError, match=r"gamma.*LayerScale"):
        materialize(model, {"unmatched": "default", "rules": {"norm.bias": "zeros"}})
    materialize(model, {"unmatched": "default", "rules": {"gamma": {"init": "constant", "val": 1e-5}}})
    assert model.norm.weight.tolist() == [1.0] * 4


def test_a_buffer_without_memory_is_named():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    problems = refused(materialize, model, {"unmatched": "default", "rules": {"0.bias": "zeros"}}, kind=ResolveError)
    assert "deferred" in {problem.subject: problem for problem in problems}["1.running_mean"].fix


def test_tensors_that_are_real_are_kept():
    model = built(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    trained = nn.Linear(2, 2)
    model[0] = trained
    before, weight = bits(trained), trained.weight
    materialize(model, {"rules": {"1.*": "ones"}})
    assert model[0].weight is weight
    assert all(same_bits(before[name], tensor) for name, tensor in bits(trained).items())
    assert model[1].weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_parametrized_weights_take_their_value():
    from torch.nn.utils.parametrizations import weight_norm

    def build():
        return weight_norm(nn.Linear(5, 3))

    direct, later = both(build, {"rules": {"weight": {"init": "normal", "std": 0.5}, "bias": "zeros"}})
    assert torch.equal(direct.weight, later.weight)


PARAMETRIZED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "older weight_norm": nn.utils.weight_norm,
    "older spectral_norm": nn.utils.spectral_norm,
    "pruning": lambda layer: nn.utils.prune.ln_structured(layer, "weight", 0.5, n=2, dim=0),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize("way", PARAMETRIZED.values(), ids=PARAMETRIZED)
def test_parametrized_layers_are_filled_wholly_whether_they_can_be_deferred_or_not(way):
    def build():
        torch.manual_seed(0)  # pruning looks at the constructor's numbers
        return way(nn.Linear(6, 4))

    recipe = {"rules": {"weight": {"init": "normal", "std": 0.5}, "bias": "zeros"}}
    plan, direct = resolve_deferred(recipe, build), build()
    materialize(plan.model, plan)
    initframe.reinit(direct, recipe)
    expected = bits(direct)
    assert bits(plan.model).keys() == expected.keys()
    for name, tensor in bits(plan.model).items():
        torch.testing.assert_close(tensor, expected[name])


def test_a_mask_that_was_made_from_parameters_is_named():
    model = built(lambda: nn.utils.prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5))
    problems = refused(materialize, model, ZEROS, kind=ResolveError)
    assert "reinit" in {problem.subject: problem for problem in problems}["weight_mask"].fix


def test_half_precision_comes_with_the_model():
    direct, later = both(lambda: Tower().to(torch.bfloat16), EVERYTHING)
    assert later.head.weight.dtype == torch.bfloat16
    assert all(same_bits(bits(direct)[name], tensor) for name, tensor in bits(later).items())


def test_measured_after_and_not_before():
    report = materialize(built(Tower), EVERYTHING, measure=True)
    assert all(result.before is None and result.after is not None for result in report.results)
    assert "planned →" in str(report)


def test_a_stage_is_materialized_by_the_whole_models_plan():
    whole = Tower()
    initframe.reinit(whole, EVERYTHING, seed=1)
    plan = resolve(EVERYTHING, built(Tower))
    stage = built(Tower)
    del stage.embed, stage.encoder
    materialize(stage, plan, seed=1)
    expected = bits(whole)
    assert all(same_bits(expected[name], tensor) for name, tensor in bits(stage).items())
    assert stage.head.weight.shape == (11, 8)  # under its alias: the plan calls it embed.weight


def test_param_init_fn_fills_module_by_module():
    direct, later = Tower(), built(Tower)
    apply(resolve(EVERYTHING, direct), seed=5)
    init = param_init_fn(resolve(EVERYTHING, later), seed=5)
    for module in later.modules():
        init(module)
    assert later.head.weight is later.embed.weight
    assert all(same_bits(bits(direct)[name], tensor) for name, tensor in bits(later).items())


def test_param_init_fn_keeps_memory_shared():
    model = built(on_the_same_memory)
    init = param_init_fn(resolve(ZEROS, model), seed=5)
    for module in model.children():
        init(module)
    assert model[0].weight is not model[1].weight
    assert model[0].weight.data_ptr() == model[1].weight.data_ptr()


def test_param_init_fn_refuses_what_it_would_leave_empty():
    plan = resolve({"rules": {"weight": "zeros"}}, built(lambda: nn.Linear(2, 2)))
    assert [problem.subject for problem in refused(param_init_fn, plan)] == ["bias"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "older weight_norm", "older spectral_norm"])
def test_param_init_fn_refuses_what_a_layer_computes_from_others(name):
    model = built(lambda: nn.Sequential(PARAMETRIZED[name](nn.Linear(3, 3))))
    (problem,) = refused(param_init_fn, resolve(ZEROS, model), kind=ResolveError)
    assert (problem.subject, "initframe.materialize" in problem.fix) == ("0.weight", True)


def test_param_init_fn_fills_buffers_that_have_no_memory():
    with torch.device("meta"):
        model = nn.BatchNorm1d(3)
    plan = resolve(
        {"rules": {"*": {"init": "ones", "kind": "any"}, "num_batches_tracked": {"init": "zeros", "kind": "any"}}},
        model,
    )
    param_init_fn(plan)(model)
    assert model.running_mean.tolist() == [1.0] * 3
    assert model.num_batches_tracked.item() == 0


def test_param_init_fn_knows_its_models_modules_only():
    init = param_init_fn(resolve(ZEROS, built(Tower)))
    (problem,) = refused(init, built(lambda: nn.Linear(2, 2)), kind=ResolveError)
    assert ("Linear" in problem.subject, "Tower" in problem.fact) == (True, True)


@pytest.mark.parametrize("stranger", ["xavier_relu", {"rules": {}}, None])
def test_param_init_fn_takes_a_plan(stranger):
    (problem,) = refused(param_init_fn, stranger, kind=ResolveError)
    assert problem.subject == "param_init_fn"


@pytest.mark.parametrize(
    ("recipe", "device"), [({"rules": {"*": "zeros"}}, "meta"), ({"rules": {"weight": "zeros"}}, "cpu")]
)
def test_the_constructor_works_only_where_its_numbers_are_needed(recipe, device):
    plan = resolve_deferred(recipe, lambda: nn.Linear(2, 2))
    assert plan.model.bias.device.type == device


def test_a_constructor_that_reads_its_parameters_is_run_for_real():
    class Curious(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.first = self.weight[0, 0].item()

    plan = resolve_deferred({"rules": {"*": "zeros"}}, Curious)
    assert not plan.model.weight.is_meta


def test_what_a_constructor_raises_for_lack_of_values_says_what_to_do():
    def move():
        layer = nn.Linear(2, 2)
        layer.weight.data = torch.ones(2, 2)

    with pytest.raises(RuntimeError) as caught:
        built(move)
    assert any("initframe.deferred()" in note and "initframe.reinit" in note for note in caught.value.__notes__)


def test_what_has_nothing_to_do_with_it_is_as_it_was():
    def fail():
        raise RuntimeError("other")

    with pytest.raises(RuntimeError, match="other") as caught:
        built(fail)
    assert not hasattr(caught.value, "__notes__")


def test_building_takes_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = built(lambda: nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(24))))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 0.25 * sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("name", ["swin_v2_t", "mobilenet_v2", "shufflenet_v2_x0_5"])
def test_torchvision_builds_deferred_with_its_tables(name):
    from torchvision.models import get_model

    later, direct = built(lambda: get_model(name)), get_model(name)
    assert all(parameter.is_meta for parameter in later.parameters())
    for (one, table), (other, expected) in zip(later.named_buffers(), direct.named_buffers(), strict=True):
        assert one == other
        assert same_bits(table, expected)
