"""What is known of a tensor's values while a constructor runs: symbols, never numbers of the random kind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from initframe.fills import Fill
from initframe.fills.chain import OPERATIONS, Operand, Step

LONGEST = 64
"""Steps of a chain that are followed."""
_numbers = itertools.count(1)


class Drawn(NamedTuple):
    """Elementwise operations on one draw.

    Attributes:
        draw: its number; draws of one number are the same numbers.
        distribution: its name in the stream.
        args: its arguments.
        steps: the operations, as in :class:`initframe.fills.chain.Chain`.
        result: the step that is meant.
    """

    draw: int
    distribution: str
    args: tuple[float, ...]
    steps: tuple[Step, ...] = ()
    result: str = "x"


class Number(NamedTuple):
    """Every element is one number."""

    value: float


class Structured(NamedTuple):
    """A fill for the whole tensor, with the number of its draw."""

    draw: int
    fill: Fill


class Unreadable(NamedTuple):
    """Values whose distribution is not known, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Tabulated:
    """Values that were computed without a draw, in memory of their own."""

    values: Tensor


class Real(NamedTuple):
    """Values that were computed without a draw, and stand in the tensor's own memory."""


Value: TypeAlias = Drawn | Number | Structured | Unreadable | Tabulated | Real | None
"""``None``: nobody has written yet."""

REAL = Real()
REPEATED = Unreadable("one draw is repeated over several elements")


def draw(distribution: str, *args: float) -> Drawn:
    """Begin a chain with new numbers.

    Args:
        distribution: its name in the stream.
        *args: its arguments.
    """
    return Drawn(next(_numbers), distribution, tuple(map(float, args)))


def structured(fill: Fill) -> Structured:
    """Begin with a fill of its own numbers."""
    return Structured(next(_numbers), fill)


def chained(operation: str, operands: Sequence[float | Drawn]) -> Drawn | Unreadable:
    """Add an operation to the chain of one draw, or say why that is none.

    Args:
        operation: a name of :data:`initframe.fills.chain.OPERATIONS`.
        operands: numbers and chains, one chain at least.

    >>> chained("mul", [draw("normal", 0, 1), 2.0]).steps
    (('mul', 'x', 2.0),)
    """
    chains = [operand for operand in operands if isinstance(operand, Drawn)]
    if len({chain.draw for chain in chains}) > 1:
        return Unreadable(f"two draws are combined ({operation})")
    steps: list[Step] = []
    known: dict[Step, str] = {}

    def add(step: Step) -> str:
        if step not in known:
            known[step] = f"#{len(steps)}"
            steps.append(step)
        return known[step]

    def renamed(chain: Drawn) -> str:
        names = {"x": "x"}
        for i, (name, *inputs) in enumerate(chain.steps):
            names[f"#{i}"] = add((name, *(names[o] if isinstance(o, str) else o for o in inputs)))
        return names[chain.result]

    inputs: list[Operand] = [renamed(o) if isinstance(o, Drawn) else float(o) for o in operands]
    result = add((operation, *inputs))
    if len(steps) > LONGEST:
        return Unreadable(f"it takes more than {LONGEST} operations on one draw")
    first = chains[0]
    return Drawn(first.draw, first.distribution, first.args, tuple(steps), result)


def computed(operation: str, operands: Sequence[float], dtype: torch.dtype) -> float:
    """Do one operation on numbers, in a tensor's dtype.

    >>> computed("mul", [2.0, 3.0], torch.float32)
    6.0
    """
    held = [torch.tensor(operand, dtype=dtype, device="cpu") for operand in operands]
    return float(OPERATIONS[operation](*held).item())


def draws(value: Value) -> frozenset[int]:
    """Give the numbers of the draws that a value comes from."""
    return frozenset({value.draw}) if isinstance(value, Drawn | Structured) else frozenset()
