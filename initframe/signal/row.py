"""One row of a signal: what one call of a forward pass produced."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one call produced: a module's output, or an operation's inside a module.

    Attributes:
        name: the module's name, ``""`` for the model itself; an operation inside it is ``<module>/<op>``.
        call: which call of that name, from 0.
        op: the module's class, or the operation.
        shape: the output's shape.
        mean: of all elements; ``None`` if nothing is known, as ``rms`` is then.
        rms: the root of the mean square.
        correlation: the mean cosine between the outputs of two different inputs of the batch; ``None`` for one input.
        zeros: the share of elements that are exactly zero.
        saturated: the share of elements at the flat ends of a sigmoid, tanh or softmax; ``None`` for other operations.
        dead: the share of a rectifier's units that are zero for every input; ``None`` for other operations.
        grad_rms: the rms of the loss's gradient with respect to the output; ``None`` without a loss.
        depth: the number of weighted layers so far, for the call of a weighted layer; else ``None``.
        weight: the name of the weight that a weighted layer used.
        spread: the relative standard deviation of ``rms`` to expect over seeds; ``None`` if it is not known.
        approximate: why the numbers are approximations, or why there are none; empty if they are neither.
    """

    name: str
    call: int
    op: str
    shape: tuple[int, ...]
    mean: float | None
    rms: float | None
    correlation: float | None = None
    zeros: float | None = None
    saturated: float | None = None
    dead: float | None = None
    grad_rms: float | None = None
    depth: int | None = None
    weight: str | None = None
    spread: float | None = None
    approximate: str = ""

    @property
    def label(self) -> str:
        """The name with the call's number, if it is not the first.

        >>> Row("fc", 1, "Linear", (2, 3), 0.0, 1.0).label
        'fc #1'
        """
        name = self.name or "(model)"
        return f"{name} #{self.call}" if self.call else name

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data; a number that is not finite is ``None``, and ``finite`` says so."""
        values = {key: as_json(value) for key, value in asdict(self).items()}
        return {**values, "finite": self.rms is None or math.isfinite(self.rms)}


def as_json(value: Any) -> Any:
    """A value as JSON takes it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return list(value) if isinstance(value, tuple) else value
