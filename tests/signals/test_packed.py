"""Predictions of recurrent layers on packed sequences of several lengths."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import initframe
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from tests.refusals import refused
from tests.signals.test_predict import both
from tests.signals.test_rules import DRAWN
from tests.signals.test_written_by_hand import drawn

LENGTHS = torch.tensor([3, 12, 7, 9])
MANY = torch.tensor([1, 12, 7, 9, 4, 3, 11, 12])


class Packed(nn.Module):
    """Packs sequences, and has a head on what is picked."""

    def __init__(self, kind, pick, lengths=LENGTHS, batch_first=True, **options):
        super().__init__()
        self.layer = getattr(nn, kind)(64, 96, batch_first=batch_first, **options)
        self.pick, self.lengths, self.batch_first = pick, lengths, batch_first
        self.head = nn.Linear(96 * (2 if self.layer.bidirectional and pick != "last" else 1), 32)

    def forward(self, x, lengths=None):
        lengths = self.lengths if lengths is None else lengths
        packed = pack_padded_sequence(x, lengths, batch_first=self.batch_first, enforce_sorted=False)
        out, last = self.layer(packed)
        if self.pick == "all":
            return self.head(pad_packed_sequence(out, batch_first=self.batch_first)[0])
        if self.pick == "rows":
            return self.head(out.data)
        return self.head((last[0] if isinstance(last, tuple) else last)[-1])


CASES = {
    "LSTM": (lambda: Packed("LSTM", "all"), drawn(4, 12, 64)),
    "last states of an LSTM": (lambda: Packed("LSTM", "last"), drawn(4, 12, 64)),
    "GRU in both directions": (lambda: Packed("GRU", "all", bidirectional=True), drawn(4, 12, 64)),
    "two layers of a GRU": (lambda: Packed("GRU", "last", num_layers=2), drawn(4, 12, 64)),
    "RNN, rows": (lambda: Packed("RNN", "rows"), drawn(4, 12, 64)),
    "time first": (lambda: Packed("LSTM", "all", batch_first=False), drawn(12, 4, 64)),
    "many lengths": (lambda: Packed("GRU", "last", MANY), drawn(8, 12, 64)),
    "all of one length": (lambda: Packed("LSTM", "all", torch.full((4,), 12)), drawn(4, 12, 64)),
    "inputs that agree": (lambda: Packed("LSTM", "last"), 0.3 * drawn(4, 12, 64) + drawn(1, 1, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_packed_sequences(name):
    make, batch = CASES[name]
    model = make()
    predicted, squares = both(model, batch, DRAWN, seeds=10)
    assert not predicted.notes
    measured = propagate(model, batch)
    assert [(r.name, r.op, r.shape, r.depth, r.weight) for r in predicted.rows] == [
        (r.name, r.op, r.shape, r.depth, r.weight) for r in measured.rows
    ]
    for row in predicted.rows:
        several = squares[row.name, row.call]
        mean = math.fsum(several) / len(several)
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in several) / (len(several) - 1) / len(several))
        assert abs(row.rms**2 - mean) <= 4 * spread + 0.1 * mean, (row.label, row.rms, math.sqrt(mean))


def test_lengths_may_come_with_the_batch():
    model = Packed("LSTM", "all")
    plan = initframe.resolve(DRAWN, model)
    given = predict(plan, (drawn(4, 12, 64), LENGTHS))
    own = predict(plan, drawn(4, 12, 64))
    assert [row.rms for row in given.rows] == [row.rms for row in own.rows]


def test_lengths_that_are_not_known_are_refused_in_words():
    model = Packed("LSTM", "all")
    batch = (torch.empty(4, 12, 64, device="meta"), torch.empty(4, dtype=torch.int64, device="meta"))
    (problem,) = refused(predict, initframe.resolve(DRAWN, model), batch)
    assert "propagate" in problem.fix


def test_what_changes_rows_between_packing_and_a_layer_is_not_guessed():
    """A layer on the rows themselves leaves nobody who knows which rows are one sequence."""

    class Embedded(Packed):
        def forward(self, x):
            packed = pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
            out, _ = self.layer(packed._replace(data=packed.data.tanh()))
            return self.head(out.data)

    signal = predict(initframe.resolve(DRAWN, Embedded("LSTM", "rows")), drawn(4, 12, 64))
    assert signal[""].rms is None
    assert any("lstm" in note for note in signal.notes)
