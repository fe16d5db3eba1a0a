"""The edge of chaos: known points, and networks that stay on it."""

import pytest
import torch

import initframe
from initframe.initializers.mean_field import critical
from initializers.drawing import drawn, fill_of


@pytest.mark.parametrize(("bias_var", "weight_var"), [(2.01e-5, 1.05000), (0.0025, 1.26009), (0.05, 1.76096)])
def test_known_points_of_tanh(bias_var, weight_var):
    assert critical("tanh", bias_var) == pytest.approx(weight_var, abs=2e-4)


def test_relu_has_one_point():
    weight = fill_of("edge_of_chaos", (7, 50), nonlinearity="relu")
    assert weight.std == pytest.approx((2 / 50) ** 0.5)
    assert fill_of("edge_of_chaos", (7,), nonlinearity="relu").std == 0


@pytest.mark.parametrize(("nonlinearity", "function"), [("tanh", torch.tanh), ("erf", torch.erf)])
def test_neither_signal_nor_gradient_leaves_the_edge(nonlinearity, function):
    """Twenty wide layers: the preactivations' size settles, and the gradient's norm is that of the start."""
    width, depth = 500, 20
    x = torch.randn(64, width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    hidden, squares = x, []
    for layer in range(depth):
        weight = drawn("edge_of_chaos", (width, width), f"{layer}.weight", nonlinearity=nonlinearity, bias_var=0.05)
        bias = drawn("edge_of_chaos", (width,), f"{layer}.bias", nonlinearity=nonlinearity, bias_var=0.05)
        before = (function(hidden) if layer else hidden) @ weight.T + bias
        hidden = before
        squares.append(before.square().mean().item())
        if layer == 5:
            settled = before
    (gradient,) = torch.autograd.grad(hidden.sum(), settled)
    assert squares[-1] == pytest.approx(squares[12], rel=0.15)
    per_layer = (gradient.norm().item() / (64 * width) ** 0.5) ** (1 / (depth - 6))
    assert per_layer == pytest.approx(1, abs=0.03)


def test_what_is_no_edge_is_refused():
    with pytest.raises(initframe.ResolveError, match="bias_var"):
        fill_of("edge_of_chaos", (4, 4), bias_var=0)
    with pytest.raises(initframe.ResolveError, match="fan_in"):
        initframe.initializers.get("edge_of_chaos")(initframe.Slot("w", (4, 4)))
