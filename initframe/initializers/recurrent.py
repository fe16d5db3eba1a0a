"""Biases of LSTMs, whose gates torch has in the order input, forget, cell, output."""

from __future__ import annotations

from initframe.fills import Blocks, Constant, Fill
from initframe.fills.derived import Chrono
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("lstm_forget")
def lstm_forget(slot: Slot, *, val: float = 1.0) -> Fill:
    """Forget gates ``val``, the other gates 0 (Gers et al. 2000; Jozefowicz, Zaremba & Sutskever 2015).

    Use it on ``*.bias_*`` of any LSTM: at the start the cell remembers. torch adds two biases; bias_hh is 0.

    Args:
        slot: a bias of an LSTM, of 4·hidden elements.
        val: the forget gates' bias.

    Returns:
        Four blocks; for ``bias_hh`` a constant 0.

    Raises:
        ResolveError: the tensor is no bias of four gates.

    >>> str(lstm_forget(Slot("bias_ih_l0", (8,))))
    'constant(0) | constant(1) | constant(0) | constant(0)'
    """
    size = _hidden_size(slot)
    if slot.attribute.startswith("bias_hh"):
        return Constant(0.0)
    return Blocks(tuple(Constant(b) for b in (0.0, val, 0.0, 0.0)), (size,) * 4)


@initializer("unit_forget")
def unit_forget(slot: Slot) -> Fill:
    """Forget gates 1, the other gates 0, as Keras has it (keras/src/layers/rnn/lstm.py, unit_forget_bias).

    Use it on ``*.bias_*`` to build what Keras builds; it is ``lstm_forget`` with 1.

    >>> unit_forget(Slot("bias_ih_l0", (8,))).mean
    0.25
    """
    return lstm_forget(slot)


@initializer("chrono")
def chrono(slot: Slot, *, longest: float) -> Fill:
    """Forget gates log U(1, longest−1), input gates minus them, the others 0 (Tallec & Ollivier 2018).

    Use it for dependencies of up to ``longest`` steps: each unit forgets at a pace of its own. bias_hh is 0.

    Args:
        slot: a bias of an LSTM, of 4·hidden elements.
        longest: the longest dependency, in steps; more than 2.

    Returns:
        A whole fill; for ``bias_hh`` a constant 0.

    Raises:
        ResolveError: the tensor is no bias of four gates, or longest is no more than 2.

    >>> chrono(Slot("bias_hh_l0", (8,)), longest=100).value
    0.0
    """
    _hidden_size(slot)
    if longest <= 2:
        raise refuse(f"the longest dependency must be more than 2 steps, got {longest:g}.")
    return Constant(0.0) if slot.attribute.startswith("bias_hh") else Chrono(slot.shape, longest)


def _hidden_size(slot: Slot) -> int:
    """Return the elements per gate of a bias of four gates."""
    if slot.ndim != 1 or slot.shape[0] % 4 or slot.layer in ("GRU", "GRUCell", "RNN", "RNNCell"):
        owner = slot.layer or "a layer that is not known"
        raise refuse(
            f"an LSTM's bias has 4·hidden elements in one dimension; this is {list(slot.shape)} of {owner}.",
            "Match the biases alone: *.bias_*.",
        )
    return slot.shape[0] // 4
