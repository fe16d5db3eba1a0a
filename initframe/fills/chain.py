"""Elementwise operations on one draw, as a list: what a constructor computes from random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from initframe.fills.elementwise import Mapped, Normal, TruncatedNormal, Uniform
from initframe.fills.fill import Fill, short

Operand: TypeAlias = float | str
"""A number, ``"x"`` (the draw), or ``"#2"`` (the result of step 2)."""
Step: TypeAlias = tuple[str, *tuple[Operand, ...]]
"""An operation's name and its operands."""

OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "max": torch.maximum,
    "min": torch.minimum,
    "remainder": torch.remainder,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logit": torch.logit,
    "softplus": torch.nn.functional.softplus,
    "erf": torch.erf,
    "erfinv": torch.erfinv,
}
"""The operations of a chain, by name; every one gives each element from that element alone."""

_POINTS = 1 << 14
"""Quantiles of the draw over which moments are averaged."""


@dataclass(frozen=True)
class Chain(Mapped):
    """``steps`` of elementwise operations on a draw from ``source``; the last one's result is the value.

    Every step is taken in float64 and rounded to float32, so that a shard has the bits of the whole tensor.

    Args:
        source: a uniform, normal or truncated normal fill.
        steps: the operations in order, each a name of :data:`OPERATIONS` and its operands.

    >>> print(Chain(Uniform(0, 1), (("mul", "x", 2.0), ("exp", "#0"))))
    exp(x * 2), x ~ uniform(0, 1)
    """

    source: Fill
    steps: tuple[Step, ...]

    @property
    def draws(self) -> tuple[str, tuple[float, ...]]:
        """The source's distribution."""
        return self.source.distribution or "", self.source.args

    def transform(self, drawn: Tensor) -> Tensor:
        """Compute the values from draws of ``source``.

        Args:
            drawn: float32, of any shape.

        Returns:
            float32, of the same shape.
        """
        return self._steps(drawn.double(), lambda value: value.float().double()).float()

    def _steps(self, drawn: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
        results: dict[str, Tensor] = {"x": drawn}
        for i, (operation, *operands) in enumerate(self.steps):
            values = [results[o] if isinstance(o, str) else drawn.new_tensor(o) for o in operands]
            results[f"#{i}"] = rounded(OPERATIONS[operation](*values))
        return results[f"#{len(self.steps) - 1}"] if self.steps else drawn

    @property
    def mean(self) -> float:
        """By quadrature over the quantiles of the draw."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """Likewise."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        values = self._steps(_quantiles(self.source), lambda value: value)
        std, mean = torch.std_mean(values, correction=0)
        return mean.item(), std.item()

    @property
    def reach(self) -> float:
        """The largest absolute value over the quantiles that the moments are taken from."""
        return self._steps(_quantiles(self.source), lambda value: value).abs().max().item()

    def __str__(self) -> str:
        return f"{_written(self.steps)}, x ~ {self.source}"


def _quantiles(source: Fill) -> Tensor:
    """Equally likely values of a draw."""
    u = (torch.arange(_POINTS, dtype=torch.float64, device="cpu") + 0.5) / _POINTS
    match source:
        case Uniform(low, high):
            return torch.add(u * (high - low), low)
        case Normal(mean, std):
            normal: Tensor = torch.special.ndtri(u)
            return normal * std + mean
        case TruncatedNormal(loc, scale, low, high):
            ends = torch.tensor([(low - loc) / scale, (high - loc) / scale], dtype=torch.float64, device="cpu")
            below, above = torch.special.ndtr(ends)
            cut: Tensor = torch.special.ndtri(below + (above - below) * u)
            return cut * scale + loc
    raise TypeError(f"a chain starts from a uniform, a normal or a truncated normal fill, not {source}.")


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}


def _written(steps: tuple[Step, ...]) -> str:
    """A chain as one formula; past a dozen operations, their names."""
    texts: dict[Operand, str] = {"x": "x"}
    if len(steps) > 12:
        return " → ".join(operation for operation, *_ in steps)
    for i, (operation, *operands) in enumerate(steps):
        written = [texts[o] if isinstance(o, str) else short(o) for o in operands]
        if operation in _INFIX:
            texts[f"#{i}"] = f" {_INFIX[operation]} ".join(_bracketed(text) for text in written)
        else:
            texts[f"#{i}"] = f"{operation}({', '.join(written)})"
    return texts[f"#{len(steps) - 1}"] if steps else "x"


def _bracketed(text: str) -> str:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == " " and depth == 0:
            return f"({text})"
    return text
