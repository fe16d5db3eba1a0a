"""Fills that follow from a formula or from another fill: logarithms, repeated rows, gates, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from initframe.fills.composed import Around
from initframe.fills.elementwise import Mapped
from initframe.fills.fill import Fill, Shape
from initframe.fills.whole import Sampler, Whole


@dataclass(frozen=True)
class LogUniform(Mapped):
    """Log u of a uniform u in (low, high): Mamba 2's decay rates (Dao & Gu 2024; state-spaces/mamba, mamba2.py).

    >>> round(LogUniform(1.0, 16.0).mean, 4)
    1.9574
    """

    low: float
    high: float

    @property
    def draws(self) -> tuple[str, tuple[float, ...]]:
        """U(low, high)."""
        return "uniform", (self.low, self.high)

    @property
    def reach(self) -> float:
        """The larger of ``|log low|`` and ``|log high|``."""
        return max(abs(math.log(self.low)), abs(math.log(self.high)))

    @property
    def mean(self) -> float:
        """(b·log b − a·log a)/(b − a) − 1."""
        a, b = self.low, self.high
        return (b * math.log(b) - a * math.log(a)) / (b - a) - 1

    @property
    def std(self) -> float:
        """√(E[log² u] − mean²)."""
        square = (self._square(self.high) - self._square(self.low)) / (self.high - self.low)
        return math.sqrt(max(square - self.mean**2, 0.0))

    @staticmethod
    def _square(u: float) -> float:
        """The integral of log² u."""
        return u * (math.log(u) ** 2 - 2 * math.log(u) + 2)

    def transform(self, drawn: Tensor) -> Tensor:
        """Take the logarithm in float64: in float32, torch's differs from processor to processor."""
        return drawn.to("cpu", torch.float64).log().to(drawn)


@dataclass(frozen=True)
class Repeated(Around, Whole):
    """``fill`` for every ``times``-th row, each row then repeated: what makes PixelShuffle the nearest neighbour.

    >>> from initframe.fills import Normal
    >>> Repeated((8, 3), Normal(0, 0.5), times=4).std
    0.5
    """

    fill: Fill
    times: int
    layout: ClassVar[bool] = True

    def inner_shapes(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the shape with fewer rows."""
        return ((shape[0] // self.times, *shape[1:]),)

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or rows cannot be repeated so often; ``None`` if all is well."""
        if self.times < 1 or not shape or shape[0] % self.times:
            return f"{self.times} does not divide the first dimension of {list(shape)}."
        return super().misshapen(shape)

    def undrawable(self) -> str | None:
        """Say that the fill inside is no distribution; ``None`` if it is one."""
        if self.fill.distribution:
            return None
        return f"rows of {self.fill} cannot be repeated. Give it one distribution: Normal, Uniform, TruncatedNormal."

    def build(self, draw: Sampler) -> Tensor:
        """Draw fewer rows, and repeat each."""
        few = (self.shape[0] // self.times, *self.shape[1:])
        return draw(self.fill.distribution or "", self.fill.args, shape=few).repeat_interleave(self.times, dim=0)


@dataclass(frozen=True)
class Chrono(Whole):
    """An LSTM's bias for memories of up to ``longest`` steps: forget gates log U(1, longest−1), input gates minus them.

    Tallec & Ollivier 2018. Gates are in torch's order: input, forget, cell, output.

    >>> round(Chrono((4,), longest=100.0).std, 2)
    2.65
    """

    longest: float
    mean = 0.0  # input and forget gates are opposite
    dims: ClassVar[Sequence[int]] = (1,)

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or has no four gates; ``None`` if all is well."""
        if found := super().misshapen(shape):
            return found
        return f"four gates do not divide {shape[0]} elements." if shape[0] % 4 else None

    def undrawable(self) -> str | None:
        """Say that there is nothing between 1 and longest − 1; ``None`` if there is."""
        return None if self.longest > 2 else f"longest must be more than 2 steps, got {self.longest:g}."

    @property
    def reach(self) -> float:
        """log(longest − 1)."""
        return math.log(self.longest - 1)

    @property
    def std(self) -> float:
        """√(E[log² u]/2), u ~ U(1, longest−1): half of the gates are 0."""
        top = self.longest - 1
        log = math.log(top)
        return math.sqrt((top * (log * log - 2 * log + 2) - 2) / (top - 1) / 2)

    def build(self, draw: Sampler) -> Tensor:
        """Draw one uniform per unit, used twice; the logarithm is taken in float64, since torch's in float32 differ."""
        uniform = draw("uniform", (1.0, self.longest - 1.0))
        forget = uniform.chunk(4)[1].to("cpu", torch.float64).log().float()
        rest = torch.zeros_like(forget)
        return torch.cat([-forget, forget, rest, rest])


@dataclass(frozen=True)
class StepBias(Mapped):
    """Mamba's bias of step sizes: softplus⁻¹(max(low·(high/low)^u, floor)) of a uniform u in (0, 1).

    Its moments are integrated numerically. Gu & Dao 2023; state-spaces/mamba, mamba_simple.py.

    >>> fill = StepBias(0.001, 0.1, 1e-4)
    >>> [round(v, 4) for v in torch.nn.functional.softplus(fill.transform(torch.tensor([0.0, 1.0]))).tolist()]
    [0.001, 0.1]
    """

    low: float
    high: float
    floor: float

    @property
    def mean(self) -> float:
        """By the midpoint rule."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """By the midpoint rule."""
        return self._moments[1]

    @property
    def reach(self) -> float:
        """The larger absolute value of the biases of the shortest and the longest step."""
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu")
        return self.transform(ends).abs().max().item()

    def transform(self, drawn: Tensor) -> Tensor:
        """Compute the biases in float64: in float32, torch's functions differ from processor to processor."""
        wide = drawn.to("cpu", torch.float64)
        step = torch.exp(wide * math.log(self.high / self.low) + math.log(self.low)).clamp(min=self.floor)
        return (step + torch.log(-torch.expm1(-step))).to(drawn.dtype)

    @cached_property
    def _moments(self) -> tuple[float, float]:
        values = self.transform((torch.arange(4096, dtype=torch.float64, device="cpu") + 0.5) / 4096)
        return values.mean().item(), values.std(correction=0).item()


Part = Literal["qkv", "q", "k", "v", "proj"]


@dataclass(frozen=True)
class Mimetic(Whole):
    """A part of self-attention whose products look as after training (Trockman & Kolter 2023).

    Per head W_q·W_kᵀ approximates a rank-d_h part of α·Z + β·I and, over all heads, W_v·W_proj is α'·Z − β'·I, with
    Z ~ N(0, 1/d). q and k share one Z, v and proj another: they are drawn under the name of the attention module.

    Attributes:
        part: which weight this is; ``qkv`` for the three of them in one.
        heads: the number of heads.
        attention: the name under which Z is drawn.
        alpha: of the products, (qk, v·proj).
        beta: likewise.
    """

    part: Part
    heads: int
    attention: str
    alpha: tuple[float, float] = (0.7, 0.4)
    beta: tuple[float, float] = (0.7, 0.4)
    lapack: ClassVar[bool] = True

    mean = std = math.nan  # no closed form

    on_one_thread = True  # singular value decompositions

    def build(self, draw: Sampler) -> Tensor:
        """Compute the weights as nn.Linear has them: outputs by inputs."""
        names = ("q", "k", "v") if self.part == "qkv" else (self.part,)
        return torch.cat([self._weight(name, draw) for name in names])

    def _weight(self, part: str, draw: Sampler) -> Tensor:
        if part in ("v", "proj"):
            left, right = self._factors(draw, "mimetic v·proj", self.alpha[1], -self.beta[1])
            return right if part == "v" else left
        pairs = [self._factors(draw, f"mimetic q·k {head}", self.alpha[0], self.beta[0]) for head in range(self.heads)]
        size = self.shape[-1] // self.heads
        return torch.cat([left.T[:size] if part == "q" else right[:size] for left, right in pairs])

    def _factors(self, draw: Sampler, purpose: str, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
        """Split α·Z + β·I into a product of two matrices, by its singular value decomposition in float64.

        A pair of singular vectors may change its sign: the left one's largest element is made positive.
        """
        width = self.shape[-1]
        z = draw("normal", (0.0, 1.0), purpose, name=self.attention, shape=(width, width)).double()
        target = alpha / math.sqrt(width) * z + beta * torch.eye(width, dtype=z.dtype, device=z.device)
        u, s, v = torch.linalg.svd(target)
        signs = u.gather(0, u.abs().argmax(0, keepdim=True))[0].sign()
        root = signs * s.sqrt()
        return u * root, root[:, None] * v
