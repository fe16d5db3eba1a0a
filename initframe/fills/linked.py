"""Whole fills whose elements depend on one another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from initframe.fills.fill import Fill
from initframe.fills.scattered import ALL, Index, Scattered, centre
from initframe.fills.whole import Draw, Whole, orthogonalized


@dataclass(frozen=True)
class DeltaOrthogonal(Scattered):
    """A convolution with an orthogonal matrix at its kernel's centre k//2 and zeros elsewhere (Xiao et al. 2018).

    Every one of ``groups`` has a matrix of its own.

    >>> DeltaOrthogonal((4, 4, 1)).std
    0.5
    """

    gain: float = 1.0
    groups: int = field(default=1, repr=False)

    @property
    def mean(self) -> float:
        """0."""
        return 0.0

    @property
    def std(self) -> float:
        """gain/√(max(outputs, inputs)·K), both per group, K the product of the kernel."""
        channels = max(self.shape[0] // self.groups, self.shape[1], 1)
        return abs(self.gain) / math.sqrt(channels * math.prod(self.shape[2:]))

    def elements(self, draw: Draw) -> tuple[Index, Tensor]:
        """The matrices, in their place."""
        normal = draw("normal", (0.0, 1.0), "orthogonal", shape=self.shape[:2])
        drawn = orthogonalized(normal.reshape(self.groups, -1, self.shape[1])).flatten(0, 1)
        return (ALL, ALL, *centre(self.shape)), drawn * self.gain


@dataclass(frozen=True)
class Repeated(Whole):
    """``fill`` for every ``times``-th row, each row then repeated: what makes PixelShuffle the nearest neighbour.

    >>> from initframe.fills import Normal
    >>> Repeated((8, 3), Normal(0, 0.5), times=4).std
    0.5
    """

    fill: Fill
    times: int

    @property
    def mean(self) -> float:
        """The fill's."""
        return self.fill.mean

    @property
    def std(self) -> float:
        """The fill's."""
        return self.fill.std

    def parts(self) -> Iterator[Fill]:
        """This fill and the one inside it."""
        yield self
        yield from self.fill.parts()

    def build(self, draw: Draw) -> Tensor:
        """Fewer rows drawn, then repeated one by one."""
        few = (self.shape[0] // self.times, *self.shape[1:])
        return draw(self.fill.law or "", self.fill.args, shape=few).repeat_interleave(self.times, dim=0)


@dataclass(frozen=True)
class Chrono(Whole):
    """An LSTM's bias for memories of up to ``longest`` steps: forget gates log U(1, longest−1), input gates minus them.

    Tallec & Ollivier 2018. Gates are in torch's order: input, forget, cell, output.

    >>> round(Chrono((4,), longest=100.0).std, 2)
    2.65
    """

    longest: float

    @property
    def mean(self) -> float:
        """0: input and forget gates are opposite."""
        return 0.0

    @property
    def std(self) -> float:
        """√(E[log² u]/2), u ~ U(1, longest−1): half of the gates are 0."""
        top = self.longest - 1
        log = math.log(top)
        return math.sqrt((top * (log * log - 2 * log + 2) - 2) / (top - 1) / 2)

    def build(self, draw: Draw) -> Tensor:
        """One uniform per unit, used twice; the logarithm in float64, since torch's in float32 differ."""
        uniform = draw("uniform", (1.0, self.longest - 1.0))
        forget = uniform.chunk(4)[1].to("cpu", torch.float64).log().float()
        rest = torch.zeros_like(forget)
        return torch.cat([-forget, forget, rest, rest])


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

    @property
    def mean(self) -> float:
        """NaN: no closed form."""
        return math.nan

    @property
    def std(self) -> float:
        """NaN: no closed form."""
        return math.nan

    def build(self, draw: Draw) -> Tensor:
        """The weights as nn.Linear has them: outputs by inputs."""
        names = ("q", "k", "v") if self.part == "qkv" else (self.part,)
        return torch.cat([self._weight(name, draw) for name in names])

    def _weight(self, part: str, draw: Draw) -> Tensor:
        if part in ("v", "proj"):
            left, right = self._factors(draw, "mimetic v·proj", self.alpha[1], -self.beta[1])
            return right if part == "v" else left
        pairs = [self._factors(draw, f"mimetic q·k {head}", self.alpha[0], self.beta[0]) for head in range(self.heads)]
        size = self.shape[-1] // self.heads
        return torch.cat([left.T[:size] if part == "q" else right[:size] for left, right in pairs])

    def _factors(self, draw: Draw, purpose: str, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
        """α·Z + β·I as a product of two matrices, from its singular value decomposition in float64.

        A pair of singular vectors may change its sign: the left one's largest element is made positive.
        """
        width = self.shape[-1]
        z = draw("normal", (0.0, 1.0), purpose, name=self.attention, shape=(width, width)).double()
        target = alpha / math.sqrt(width) * z + beta * torch.eye(width, dtype=z.dtype, device=z.device)
        u, s, v = torch.linalg.svd(target)
        signs = u.gather(0, u.abs().argmax(0, keepdim=True))[0].sign()
        root = signs * s.sqrt()
        return u * root, root[:, None] * v
