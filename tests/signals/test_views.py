"""Predictions of what is written into a part of a tensor that has several names."""

import pytest
import torch

import initframe
from initframe.signal.predict import predict
from tests.signals.test_predict import assert_near, both
from tests.signals.test_written_by_hand import RECIPE, Net, drawn, line


def into_a_part(net, x):
    """As MViT adds queries to what attention made, which is a view of a product of matrices."""
    h = (x @ x.transpose(1, 2)).softmax(-1) @ net.value(x)
    h = h.view(4, 12, 2, 32).transpose(1, 2)
    h[:, :, 1:].add_(net.query(x).view(4, 12, 2, 32).transpose(1, 2)[:, :, 1:])
    return net.out(h.transpose(1, 2).reshape(4, 12, 64))


def through_a_view(net, x):
    h = net.value(x)
    h.view(-1, 64).mul_(3.0)
    return net.out(h)


def into_the_base(net, x):
    h = net.value(x)
    flat = h.view(-1, 64)
    h.relu_()
    return net.out(flat)


def in_pieces(net, x):
    h = torch.zeros(4, 12, 64)
    view = h.view(4, 12, 64)
    h[:, :6] = net.value(x)[:, :6]
    h[:, 6:] = 2 * net.query(x)[:, 6:]
    return net.out(view)


WRITES = {one.__name__: one for one in (into_a_part, through_a_view, into_the_base, in_pieces)}


@pytest.mark.parametrize("name", WRITES)
def test_all_names_of_a_tensor_see_what_is_written(name):
    model = Net(WRITES[name], value=line(64, 64), query=line(64, 64), out=line(64, 64))
    predicted, squares = both(model, drawn(4, 12, 64), {**RECIPE, "unused": "warn"}, seeds=10)
    assert_near(predicted.__class__(**{**vars(predicted), "rows": predicted.rows[-1:]}), squares, 0.08)


def test_a_part_that_does_not_overlap_is_as_before():
    def forward(net, x):
        h = net.value(x)
        first, second = h[:, :6], h[:, 6:]
        first.mul_(10.0)
        return second + 0

    model = Net(forward, value=line(64, 64))
    signal = predict(initframe.resolve(RECIPE, model), drawn(4, 12, 64))
    assert signal[""].rms == pytest.approx(signal["value"].rms, rel=1e-6)
