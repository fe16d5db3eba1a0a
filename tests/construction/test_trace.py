"""What a constructor does is read: every way to write a distribution, where it is, and nothing is left behind."""

import copy
import math
import pickle
import random
import re

import pytest
import torch
from torch import nn

import initframe
from initframe import Chain, Constant, Normal, Table, TruncatedNormal, Uniform, materialize, trace
from initframe.fills import Blocks, Dirac, Identity, Masked, Orthogonal, Sparse
from initframe.fills.equal import same
from tests.refusals import refused


def holding(write, shape=(6, 4)):
    """A constructor of one parameter, which a function makes or writes."""

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.empty(shape))
            made = write(self.w)
            if isinstance(made, torch.Tensor) and made is not self.w:
                self.w = nn.Parameter(made)

    return Holder


def fill_of(write, shape=(6, 4)):
    plan = trace(holding(write, shape))
    assert not plan.skipped, plan.skipped
    return plan["w"].fill


def truncated_by_its_inverse(w, mean, std, a, b):
    """As timm and older torch write it."""
    low, high = ((1 + math.erf((x - mean) / std / math.sqrt(2))) / 2 for x in (a, b))
    with torch.no_grad():
        w.uniform_(2 * low - 1, 2 * high - 1).erfinv_().mul_(std * math.sqrt(2)).add_(mean).clamp_(min=a, max=b)


LAWS = {
    "zeros": (nn.init.zeros_, Constant(0.0)),
    "ones": (lambda w: w.data.fill_(1), Constant(1.0)),
    "scaled factory": (lambda w: 1e-6 * torch.ones(6, 4), Constant(1e-6)),
    "scaled in place": (lambda w: nn.init.ones_(w).data.mul_(0.5), Constant(0.5)),
    "log of a number": (lambda w: torch.full((6, 4), 10.0).log(), Constant(2.3025851)),
    "uniform": (lambda w: nn.init.uniform_(w, -1, 3), Uniform(-1, 3)),
    "uniform by arithmetic": (lambda w: torch.rand(6, 4) * 2 - 1, Uniform(-1, 1)),
    "normal": (lambda w: w.data.normal_(0.5, 0.02), Normal(0.5, 0.02)),
    "normal by arithmetic": (lambda w: 0.02 * torch.randn(6, 4), Normal(0, 0.02)),
    "torch.normal": (lambda w: torch.normal(0.0, 0.1, (6, 4)), Normal(0, 0.1)),
    "kaiming": (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), Uniform(-math.sqrt(1.5), math.sqrt(1.5))),
    "rescaled by depth": (
        lambda w: nn.init.normal_(w, std=0.02).data.div_(math.sqrt(8)),
        Normal(0, 0.02 / math.sqrt(8)),
    ),
    "trunc_normal_": (lambda w: nn.init.trunc_normal_(w, std=0.02), TruncatedNormal(0, 0.02, -2, 2)),
    "trunc_normal_ before it is deferred": (
        lambda w: nn.init.trunc_normal_(torch.empty(6, 4), std=2.0),
        TruncatedNormal(0, 2.0, -2, 2),
    ),
    "truncated by its inverse": (
        lambda w: truncated_by_its_inverse(w, 0.0, 1.0, -2.0, 2.0),
        TruncatedNormal(0, 1.0, -2, 2),
    ),
    "truncated far away": (
        lambda w: truncated_by_its_inverse(w, 0.0, 0.02, -2.0, 2.0),
        TruncatedNormal(0, 0.02, -2, 2),
    ),
    "truncated, then scaled": (
        lambda w: nn.init.trunc_normal_(w).data.mul_(0.02).add_(1),
        TruncatedNormal(1, 0.02, 0.96, 1.04),
    ),
    "orthogonal": (lambda w: nn.init.orthogonal_(w, gain=2), Orthogonal((6, 4), 2.0)),
    "orthogonal through a view": (lambda w: nn.init.orthogonal_(w.data.view(6, 2, 2)) is None, Orthogonal((6, 4))),
    "eye": (nn.init.eye_, Identity((6, 4))),
    "eye as a factory": (lambda w: torch.eye(6, 4), Identity((6, 4))),
    "sparse": (lambda w: nn.init.sparse_(w, 0.5, std=0.1), Sparse((6, 4), 0.5, 0.1)),
    "a row of zeros": (
        lambda w: (nn.init.normal_(w), w.data[2].zero_())[0],
        Masked(Normal(0, 1), (6, 4), (2,), 0.0),
    ),
    "parts": (
        lambda w: [nn.init.xavier_uniform_(w[2 * i : 2 * i + 2]) for i in range(3)] and None,
        Blocks((Uniform(-1.0, 1.0),) * 3, (2, 2, 2)),
    ),
    "joined": (lambda w: torch.cat([torch.zeros(2, 4), torch.randn(4, 4)]), Blocks((Constant(0), Normal()), (2, 4))),
    "a table": (lambda w: torch.arange(24.0).view(6, 4), None),
}


@pytest.mark.parametrize(("write", "expected"), LAWS.values(), ids=LAWS)
def test_a_distribution_is_read_whatever_way_it_is_written(write, expected):
    fill = fill_of(write)
    if expected is None:
        assert isinstance(fill, Table)
        assert fill.values().tolist() == torch.arange(24.0).view(6, 4).tolist()
    else:
        assert same(fill, expected), fill


def test_dirac():
    assert fill_of(nn.init.dirac_, (4, 2, 3)) == Dirac((4, 2, 3))


def mamba_bias(w):
    dt = torch.exp(torch.rand(w.shape) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=1e-4)
    with torch.no_grad():
        w.copy_(dt + torch.log(-torch.expm1(-dt)))


def test_operations_on_one_draw_are_replayed_on_the_stream():
    fill = fill_of(mamba_bias, (4096,))
    assert isinstance(fill, Chain)
    model = trace(holding(mamba_bias, (4096,))).model
    materialize(model, seed=1)
    dt = nn.functional.softplus(model.w)
    assert 0.001 * (1 - 1e-4) <= dt.min() < 0.0011
    assert 0.09 < dt.max() <= 0.1 * (1 + 1e-4)
    real = holding(mamba_bias, (4096,))().w
    assert abs(fill.mean - real.mean()) < 5 * fill.std / 64
    assert abs(model.w.mean() - fill.mean) < 5 * fill.std / 64


UNREADABLE = {
    "two draws": (lambda w: torch.randn(6, 4) * torch.rand(6, 4), "two draws are combined"),
    "repeated": (lambda w: torch.randn(6, 1).expand(6, 4).clone(), "repeated"),
    "sorted": (lambda w: torch.rand(24).sort().values.view(6, 4), "sort is applied to a draw"),
    "integers": (lambda w: torch.randint(0, 5, (6, 4)).float(), "the stream does not have"),
    "nothing": (lambda w: None, "nothing is written"),
    "two at once": (lambda w: w.data.normal_().div_(w.data.norm()), "two draws|norm is applied to a draw"),
}


@pytest.mark.parametrize(("write", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_skipped_with_its_reason_and_place(write, reason):
    plan = trace(holding(write))
    assert re.search(reason, plan.skipped["w"])
    if "nothing" not in reason:
        assert "test_trace.py:" in plan.skipped["w"]
    [problem] = refused(materialize, plan.model)
    assert "w [6, 4]" in problem.subject
    materialize(plan.model, {"rules": {"w": "zeros"}, "unmatched": "constructor"})


def test_a_file_is_no_distribution(tmp_path):
    torch.save(torch.randn(6, 4), tmp_path / "w.pt")
    plan = trace(holding(lambda w: torch.load(tmp_path / "w.pt", weights_only=True)))
    assert "file" in plan.skipped["w"]


def test_where_it_is_written_and_how_often_in_vain():
    class Twice(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            nn.init.normal_(self.weight)
            nn.init.normal_(self.weight, std=0.1)

    a = trace(Twice)["weight"]
    assert a.origin.file == "construction/test_trace.py"  # tests/ is no package
    assert (a.origin.function.rpartition(".")[2], a.overwritten) == ("__init__", 2)
    assert a.origin.line == Twice.__init__.__code__.co_firstlineno + 3
    assert "Overwritten" in str(trace(Twice))
    assert "in vain" in trace(Twice).explain("weight")


def normal_(tensor):
    """As a library has it: torch's own, under the same name."""
    return nn.init.normal_(tensor, std=0.5)


def _trunc_normal_(tensor):
    with torch.no_grad():
        return tensor.uniform_(-1, 1)


def draw_small_(tensor):
    return nn.init.normal_(tensor, std=0.01)


class Wrapped(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.w = nn.Parameter(torch.empty(4, 4))
        draw(self.w)


@pytest.mark.parametrize("draw", [normal_, _trunc_normal_])
def test_a_function_in_the_place_of_torchs_is_not_where_a_tensor_is_written(draw):
    origin = initframe.trace(lambda: Wrapped(draw))["w"].origin
    assert origin.function == "Wrapped.__init__"
    assert origin.line == Wrapped.__init__.__code__.co_firstlineno + 3


def test_a_function_of_ones_own_is():
    assert initframe.trace(lambda: Wrapped(draw_small_))["w"].origin.function == "draw_small_"


def test_tables_and_padding_and_ties_and_copies():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4, padding_idx=1)
            self.head = nn.Linear(4, 5)
            self.head.weight = self.embed.weight
            self.layers = nn.ModuleList(copy.deepcopy(nn.Linear(4, 4)) for _ in range(1))
            self.layers.append(copy.deepcopy(self.layers[0]))

    plan = trace(Model)
    assert plan["head.weight"].slot.name == "embed.weight"
    assert plan["embed.weight"].fill == Masked(Normal(0.0, 1.0), (5, 4), (1,), 0.0, padding=True)
    assert "starts equal to layers.0 in the constructor" in plan["layers.1.bias"].slot.notes[0]


@pytest.mark.parametrize(
    "way", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.weight_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_tensors_that_are_computed_from_others(way):
    plan = trace(lambda: way(nn.Linear(4, 3)))
    assert same(plan["weight"].fill, Uniform(-0.5, 0.5))
    materialize(plan.model)


def test_generators_and_hooks_are_as_before():
    torch.manual_seed(3)
    random.seed(3)
    before = torch.get_rng_state(), random.getstate()
    trace(lambda: nn.Linear(3, 3))
    with pytest.raises(KeyboardInterrupt):
        trace(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert not nn.Linear(2, 2).weight.is_meta
    assert torch.overrides._get_current_function_mode() is None


def test_a_constructor_that_needs_values_is_run_with_memory_and_that_is_told():
    class Curious(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.first = self.weight[0, 0].item()

    plan = trace(Curious)
    assert same(plan["weight"].fill, Uniform(-0.5, 0.5))
    assert "run with memory" in plan.warnings[0]
    assert plan.model.weight.is_meta


@pytest.mark.parametrize(
    ("build", "fact"),
    [
        (nn.Linear(2, 2), "takes a function"),
        (3, "takes a function"),
        (lambda: 3, "builds a int"),
        (lambda width: nn.Linear(width, 2), "raises TypeError"),
        (lambda: 1 / 0, "raises ZeroDivisionError"),
    ],
)
def test_what_is_no_builder_is_refused(build, fact):
    [problem] = refused(trace, build)
    assert fact in problem.fact
    assert problem.fix


def test_trained_weights_are_no_initialization():
    def build():
        model = nn.Linear(2, 2)
        model.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.ones(2)})
        return model

    with pytest.warns(UserWarning, match="no-op"):
        [problem] = refused(trace, build)
    assert "load" in problem.fact


def test_lazy_modules_are_told():
    plan = trace(lambda: nn.LazyLinear(3))
    assert "lazy" in plan.skipped["weight"]


# --- the same laws again ---------------------------------------------------------------------------------------------


def built():
    with initframe.deferred():
        return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 2)))


def test_a_model_is_materialized_as_its_constructor_has_it():
    model, plan = (
        built(),
        trace(lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 2)))),
    )
    materialize(model, seed=5)
    other = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 2)))
    initframe.apply(plan, 5, module=other)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_what_is_remembered_survives_copies(way):
    one, other = built(), way(built())
    for model in (one, other):
        materialize(model, seed=5)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_a_stage_has_the_numbers_of_the_whole():
    whole, stage = built(), built()
    plan = initframe.resolve({"unmatched": "constructor", "rules": {}}, built())
    del stage[0]
    materialize(whole, seed=5)
    materialize(stage[1][0], seed=5)  # named by itself
    assert plan.recipe.unmatched == "constructor"


def test_a_rule_can_ask_for_the_constructor():
    model = built()
    plan = initframe.resolve({"rules": {"*": "zeros", "0.*": "constructor"}}, model)
    assert same(plan["0.weight"].fill, Uniform(-1 / math.sqrt(8), 1 / math.sqrt(8)))
    assert plan["2.0.weight"].fill == Constant(0.0)


def test_a_model_that_was_not_deferred_is_refused():
    for recipe in ({"unmatched": "constructor", "rules": {}}, {"rules": {"*": "constructor"}}):
        [problem] = refused(initframe.resolve, recipe, nn.Linear(2, 2))
        assert "was not recorded" in problem.fact


def test_plans_are_data():
    plan = trace(holding(mamba_bias, (8,)))
    again = pickle.loads(pickle.dumps(plan))
    assert again.assignments == plan.assignments
    assert plan.to_dict()["assignments"][0]["fill"]["steps"]
    report = materialize(plan.model, plan, seed=0, measure=True)
    assert initframe.manifest(report)


def test_tables_go_with_a_pickled_plan_and_are_named_in_its_manifest():
    def write(w):
        return torch.cat([torch.arange(8.0).view(2, 4), torch.rand(4, 4).log()])

    plan = trace(holding(write))
    again = pickle.loads(pickle.dumps(plan))
    model = holding(write)()
    initframe.apply(again, seed=3, module=model)
    assert torch.equal(model.w[:2].detach(), torch.arange(8.0).view(2, 4))
    report = materialize(plan.model, plan, seed=3)
    assert torch.equal(plan.model.w, model.w)
    fill = initframe.manifest(report)["others"][0]["fill"]
    table, chain = fill["fills"]
    assert table == {"kind": "table", "digest": table["digest"], "needs": "constructor"}
    assert "needs" not in chain
    assert fill["constants"] == initframe.stream.constants("uniform", (0.0, 1.0))


def test_a_chain_has_the_same_bits_on_a_part():
    fill = fill_of(mamba_bias, (64,))
    whole = initframe.fill_(torch.empty(64), fill, name="w")
    drawn = torch.linspace(0, 1, 1000)
    assert torch.equal(fill.transform(drawn)[37:53], fill.transform(drawn[37:53].clone()))
    assert torch.isfinite(whole).all()


def test_a_constructor_that_maps_is_run_and_what_it_maps_is_not_guessed():
    def build():
        layer = nn.Linear(4, 4)
        with torch.no_grad():
            layer.weight.copy_(torch.func.vmap(lambda row: row * 2)(torch.randn(4, 4)))
            layer.bias.copy_(torch.func.vmap(lambda one: one * 2)(torch.arange(4.0)))
        return layer

    plan = initframe.trace(build)
    assert "weight" in plan.skipped
    assert plan["bias"].fill.std == pytest.approx(torch.arange(0, 8, 2.0).std(correction=0).item())
