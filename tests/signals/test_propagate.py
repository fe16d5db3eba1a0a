"""What a measured signal says, and that a model is afterwards what it was before."""

import math
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from initframe.errors import InitframeError
from initframe.signal.measure import measure
from initframe.signal.propagate import propagate
from tests.nets import bits, same_bits
from tests.refusals import refused


class Residual(nn.Module):
    """A pre-norm block with functional calls, a BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        self.norm, self.bn = nn.LayerNorm(8), nn.BatchNorm1d(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x, *, fail=False):
        hidden = torch.relu(self.up(self.norm(x)))
        if fail:
            raise ValueError("on purpose")
        return nn.functional.dropout(self.bn(x + self.down(hidden)), 0.5, self.training)


def state(model):
    return (
        bits(model),
        [m.training for m in model.modules()],
        torch.get_rng_state(),
        [p.grad for p in model.parameters()],
    )


def assert_as_before(model, before):
    values, modes, rng, gradients = before
    assert all(same_bits(value, values[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    assert [p.grad for p in model.parameters()] == gradients
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_rows_are_what_hooks_would_see():
    model, x = Residual().eval(), torch.randn(6, 8)
    seen = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.detach().double()))
    signal = propagate(model, x)
    for name, value in seen.items():
        row = signal[name]
        assert row.shape == tuple(value.shape)
        assert row.rms == pytest.approx(value.square().mean().sqrt().item(), rel=1e-5)
        assert row.mean == pytest.approx(value.mean().item(), abs=1e-6)
        cosines = nn.functional.cosine_similarity(value[:, None], value[None, :], dim=-1)
        assert row.correlation == pytest.approx(((cosines.sum() - 6) / 30).item(), abs=1e-5)


def test_functional_calls_have_rows_in_execution_order():
    model = Residual().eval()
    signal = propagate(model, torch.randn(6, 8))
    assert [row.name for row in signal.rows] == ["norm", "up", "/relu", "down", "/add", "bn", ""]
    assert signal["/relu"].zeros == pytest.approx(0.5, abs=0.3)
    assert [row.depth for row in signal.rows if row.depth] == [1, 2]
    assert [row.weight for row in signal.rows if row.depth] == ["up.weight", "down.weight"]


@pytest.mark.parametrize("loss", [None, lambda out: out.square().sum()])
def test_everything_is_as_before(loss):
    model = Residual().train()
    before = state(model)
    propagate(model, torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), loss=loss)
    assert_as_before(model, before)


def test_everything_is_as_before_after_an_error():
    model = Residual().train()
    before = state(model)
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    (problem,) = refused(propagate, model, {"x": x, "fail": True})
    assert "on purpose" in problem.fact
    assert_as_before(model, before)


def test_gradients_are_those_of_autograd():
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(6, 8)
    signal = propagate(model, x, loss=lambda out: out.square().mean())
    hidden = model[0](x)
    hidden.retain_grad()
    model[2](model[1](hidden)).square().mean().backward()
    assert signal["0"].grad_rms == pytest.approx(hidden.grad.square().mean().sqrt().item(), rel=1e-5)
    assert signal.loss == pytest.approx(model(x).square().mean().item(), rel=1e-5)


def test_shared_modules_are_told_by_call():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert [(row.name, row.call) for row in propagate(model, torch.randn(3, 4)).rows] == [
        ("0", 0),
        ("1", 0),
        ("0", 1),
        ("", 0),
    ]


def test_checkpointed_blocks_have_their_rows_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return checkpoint(self.fc, x, use_reentrant=False)

    signal = propagate(Net(), torch.randn(3, 4), loss=lambda out: out.sum())
    assert [row.name for row in signal.rows].count("fc") == 1


@pytest.mark.parametrize("batch", [torch.randn(3, 4), (torch.randn(3, 4),), {"input": torch.randn(3, 4)}])
def test_any_form_of_batch(batch):
    assert propagate(nn.Linear(4, 2), batch)[""].shape == (3, 2)


def test_integer_inputs_and_dict_outputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)

        def forward(self, ids):
            return {"ids": ids, "hidden": self.embed(ids)}

    assert propagate(Net(), torch.tensor([[1, 2], [3, 4]]))[""].shape == (2, 2, 4)


def test_the_first_layer_that_is_not_finite_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU())
    nn.init.constant_(model[1].weight, 1e38)
    signal = propagate(model, 100 * torch.ones(2, 4))
    assert signal.findings[0].kind == "nonfinite"
    assert signal.findings[0].name == "1"
    with pytest.raises(InitframeError):
        signal.check()


@pytest.mark.parametrize("rows", [2, 40])
@pytest.mark.parametrize("values", [[math.inf], [math.inf, -math.inf], [math.nan], [math.inf, math.nan]])
def test_infinite_values_have_the_mean_of_ieee_754_and_no_correlation(values, rows):
    tensor = torch.ones(rows, 3)
    tensor[0, : len(values)] = torch.tensor(values)
    found = measure(tensor, rows)
    expected = math.nan if any(map(math.isnan, values)) else math.inf
    assert (found.mean, found.rms) == pytest.approx((tensor.mean().item(), expected), nan_ok=True)
    assert math.isnan(found.correlation)


def test_large_values_are_finite():
    assert propagate(nn.Identity(), torch.full((2, 3), 1e30))[""].rms == pytest.approx(1e30, rel=1e-5)


def test_dead_units_and_saturation():
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 4), nn.Tanh())
    with torch.no_grad():
        model[0].bias[:3] = -100.0
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([5.0, -5.0, 0.0, 5.0]))
    signal = propagate(model, torch.randn(64, 4))
    assert signal["1"].dead >= 0.3
    assert signal["3"].saturated == pytest.approx(0.75)
    assert {finding.kind for finding in signal.findings} >= {"dead", "saturated"}


def test_a_model_that_writes_to_its_weights_is_refused_before_it_does():
    class Net(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                self.weight.mul_(2)
            return super().forward(x)

    model = Net(4, 4)
    before = bits(model)
    (problem,) = refused(propagate, model, torch.randn(2, 4))
    assert problem.subject == "parameter 'weight'"
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "batch", "options"),
    [
        (nn.Linear(4, 4), torch.randn(2, 5), {}),
        (nn.Linear(4, 4), {}, {}),
        (nn.Linear(4, 4), {"wrong": torch.randn(2, 4)}, {}),
        (nn.Linear(4, 4), torch.randn(0, 4), {}),
        (nn.LazyLinear(4), torch.randn(2, 4), {}),
        ("no model", torch.randn(2, 4), {}),
        (nn.Linear(4, 4), torch.randn(2, 4), {"loss": lambda out: out}),
        (nn.Linear(4, 4), torch.randn(2, 4), {"loss": lambda out: out.detach().sum()}),
        (nn.Linear(4, 4).requires_grad_(False), torch.randn(2, 4), {"loss": lambda out: out.sum()}),
    ],
)
def test_bad_input_is_a_problem_with_a_fix(model, batch, options):
    assert all(problem.fact and problem.fix for problem in refused(propagate, model, batch, **options))


def test_masked_scores_are_no_signal():
    scores = torch.zeros(2, 3, 3) + torch.full((3, 3), -math.inf).triu(1)

    class Net(nn.Module):
        def forward(self, x):
            return (x + scores).softmax(-1)

    signal = propagate(Net(), torch.randn(2, 3, 3))
    assert all(math.isfinite(row.rms) for row in signal.rows)


@pytest.mark.parametrize("op", ["", "matmul", "relu", "softmax"])
def test_a_part_of_a_tensor_is_measured_as_its_copy(op):
    x = torch.randn(4, 5, 6).relu()
    for view in (x[:, 1], x.transpose(0, 1), x[..., ::2]):
        assert measure(view, 4, op) == pytest.approx(measure(view.contiguous(), 4, op))


class _Elsewhere(nn.Module):
    """A net that another thread uses, in part, while it runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.meanwhile = True

    def forward(self, x):
        x = self.first(x)
        if self.meanwhile:
            other = threading.Thread(target=self.second, args=(x,))
            other.start()
            other.join()
        return self.second(x)


def test_what_other_threads_do_with_the_model_is_not_measured():
    model, batch = _Elsewhere(), torch.randn(8, 4)
    rows = propagate(model, batch).rows
    model.meanwhile = False
    assert rows == propagate(model, batch).rows
