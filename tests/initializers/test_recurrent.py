"""An LSTM's gates at the start."""

import pytest
import torch
from torch import nn

import initframe
from initframe.initializers import get
from initializers.drawing import drawn, fill_of, slot_of


def lstm(rules, hidden=7):
    model = nn.LSTM(5, hidden, 2, bidirectional=True)
    initframe.reinit(model, {"rules": rules}, seed=0)
    return model


def gates(model, layer="l0"):
    """The biases that torch adds up, gate by gate: input, forget, cell, output."""
    total = getattr(model, f"bias_ih_{layer}") + getattr(model, f"bias_hh_{layer}")
    return total.detach().chunk(4)


@pytest.mark.parametrize("layer", ["l0", "l1", "l1_reverse"])
def test_forget_gates_start_open_and_biases_are_not_doubled(layer):
    i, f, g, o = gates(lstm({"*bias_*": {"init": "lstm_forget", "val": 2}}), layer)
    assert torch.equal(f, torch.full_like(f, 2.0))
    assert not any(gate.any() for gate in (i, g, o))


def test_unit_forget_is_the_same_with_one():
    assert get("unit_forget")(slot_of((8,), "bias_ih_l0")) == get("lstm_forget")(slot_of((8,), "bias_ih_l0"), val=1.0)


def test_an_lstm_that_forgets_nothing_remembers():
    model = lstm({"*weight_*": "zeros", "*bias_*": {"init": "lstm_forget", "val": 30}})
    state = torch.rand(4, 1, 7, generator=torch.Generator().manual_seed(0))
    _, (_, cell) = model(torch.zeros(50, 1, 5), (torch.zeros(4, 1, 7), state))
    torch.testing.assert_close(cell, state)


def test_chrono_opens_and_closes_the_same_gates():
    i, f, g, o = drawn("chrono", (12_000,), "bias_ih_l0", longest=100).chunk(4)
    assert torch.equal(i, -f)
    assert not g.any()
    assert not o.any()
    times = f.exp()  # U(1, 99)
    assert 1 <= times.min() < 1.2
    assert 98.8 < times.max() <= 99
    assert times.mean().item() == pytest.approx(50, abs=5 * 98 / 12**0.5 / 3000**0.5)


def test_chrono_states_its_moments():
    fill = fill_of("chrono", (40_000,), "bias_ih_l0", longest=500)
    bias = drawn("chrono", (40_000,), "bias_ih_l0", longest=500)
    assert fill.mean == 0
    assert bias.std().item() == pytest.approx(fill.std, rel=0.02)


def test_units_forget_at_paces_of_their_own_in_each_layer():
    model = lstm({"*bias_*": {"init": "chrono", "longest": 100}})
    assert not torch.equal(model.bias_ih_l0, model.bias_ih_l1)


@pytest.mark.parametrize("init", ["lstm_forget", "unit_forget", "chrono"])
def test_other_tensors_have_no_four_gates(init):
    arguments = {"longest": 100} if init == "chrono" else {}
    for slot in (slot_of((8, 3)), slot_of((6,)), slot_of((12,), "bias_ih_l0", layer="GRU")):
        with pytest.raises(initframe.ResolveError, match="4·hidden"):
            get(init)(slot, **arguments)


def test_chrono_needs_time():
    with pytest.raises(initframe.ResolveError, match="more than 2 steps"):
        fill_of("chrono", (8,), "bias_ih_l0", longest=2)
