"""Recurrent units, simulated through time in the limit of many units.

Given the inputs, what reaches a unit's gates is normal, at all steps and for all inputs together, and its covariances
are mean products of inputs and of earlier states, since weights are drawn once and used at every step (Yang 2019,
"Tensor Programs I"). So a sample of units stands for all: their states give the covariances of the next step. Two
inputs of the batch are followed together, which gives the correlation between inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

UNITS = 4096
"""Units that are simulated, each with its negative noise among them."""
STEPS = 128
"""Steps that are simulated; later ones are like the last."""


class Kernel(NamedTuple):
    """Mean products of an element at two steps.

    Attributes:
        own: (T, T), of the same input.
        cross: (T, T), of two inputs.
    """

    own: Tensor
    cross: Tensor

    def times(self, factor: float) -> Kernel:
        """Both, times a number."""
        return Kernel(self.own * factor, self.cross * factor)

    def flipped(self) -> Kernel:
        """With time running backwards."""
        return Kernel(self.own.flip(0, 1), self.cross.flip(0, 1))


@dataclass(frozen=True)
class Weights:
    """One direction of one recurrent layer, as moments.

    Attributes:
        inputs: the mean square of an input weight, times the number of inputs.
        states: likewise of the recurrent weights.
        bias: (2, gates, 2): mean and std of the biases of inputs and of states, by gate.
        projection: the mean square of a projection's weight, times the number of units; 0 without one.
    """

    inputs: float
    states: float
    bias: Tensor
    projection: float = 0.0


@dataclass(frozen=True)
class Start:
    """The states before the first step, as normal numbers: mean, mean square, mean product of two inputs."""

    mean: float = 0.0
    square: float = 0.0
    cross: float = 0.0


class Run(NamedTuple):
    """What a direction of a layer gives.

    Attributes:
        mean: (T,) of the outputs.
        kernel: of the outputs.
        cell: mean, mean square and mean product of two inputs of the last cell state, for an LSTM.
    """

    mean: Tensor
    kernel: Kernel
    cell: tuple[float, float, float]


Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def lstm(x: Tensor, h: Tensor, _: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step: gates' parts from inputs and from states (units, gates, 2), state and cell before → after."""
    i, f, g, o = (x + h).unbind(1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def gru(x: Tensor, h: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`lstm`; the cell is nobody's."""
    reset, update = (x[:, :2] + h[:, :2]).sigmoid().unbind(1)
    new = (x[:, 2] + reset * h[:, 2]).tanh()
    return new + update * (state - new), cell


def rnn_tanh(x: Tensor, h: Tensor, _: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`lstm`, of a plain layer."""
    return (x + h)[:, 0].tanh(), cell


def rnn_relu(x: Tensor, h: Tensor, _: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`lstm`, of a plain layer."""
    return (x + h)[:, 0].relu(), cell


CELLS: dict[str, tuple[int, Step]] = {
    "lstm": (4, lstm),
    "gru": (3, gru),
    "rnn_tanh": (1, rnn_tanh),
    "rnn_relu": (1, rnn_relu),
}
"""The number of gates and the step of each kind of layer."""


def run(kind: str, x: Kernel, weights: Weights, state: Start, cell: Start) -> Run:
    """Simulate one direction of one layer.

    Args:
        kind: of :data:`CELLS`.
        x: of the inputs, for at most :data:`STEPS` steps.
        weights: of the layer.
        state: before the first step.
        cell: likewise.

    >>> still = Kernel(torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64))
    >>> alone = run("rnn_relu", still, Weights(2.0, 0.0, torch.zeros(2, 1, 2)), Start(), Start())
    >>> [round(value, 1) for value in alone.kernel.own.diagonal().tolist()]
    [1.0, 1.0, 1.0]
    """
    gates, step = CELLS[kind]
    steps = x.own.shape[0]
    noise = _noise(gates, steps)
    driven = torch.einsum("ugk,tk->ugt", noise.inputs, _root(_interleaved(x.times(weights.inputs))))
    driven = driven.view(*driven.shape[:2], steps, 2)
    bias = weights.bias.to(driven.dtype)[..., None]
    offsets = [noise.bias[i][..., None] * bias[i, :, 1] + bias[i, :, 0] for i in (0, 1)]
    h, c = _started(state, noise.start[0]), _started(cell, noise.start[1])
    every: list[Tensor] = []
    sums = _Growing(2 * steps)
    for t in range(steps):
        fed_back = sums.extended(h, weights.states * (weights.projection or 1.0), noise.states)
        h, c = step(driven[:, :, t] + offsets[0], fed_back + offsets[1], h, c)
        every.append(h)
    out = torch.stack(every, 1).double()
    products = torch.einsum("uta,usb->atbs", out, out) / UNITS
    own, cross = (products[0, :, 0] + products[1, :, 1]) / 2, (products[0, :, 1] + products[1, :, 0]) / 2
    kernel, mean = Kernel(own, (cross + cross.T) / 2), out.mean((0, 2))
    if weights.projection:
        kernel, mean = kernel.times(weights.projection), mean * 0
    last = c.double()
    return Run(mean, kernel, (last.mean().item(), last.square().mean().item(), last.prod(1).mean().item()))


class _Growing:
    """Normal numbers whose covariance becomes known step by step: a Cholesky factor that grows by two rows a step."""

    def __init__(self, size: int) -> None:
        self.states = torch.zeros(UNITS, size, dtype=torch.float64)  # float32 would round steps that are all but equal
        self.factor = torch.zeros(size, size, dtype=torch.float64)
        self.count = 0

    def extended(self, state: Tensor, scale: float, noise: Tensor) -> Tensor:
        """Numbers for the next step: (units, gates, 2).

        Args:
            state: (units, 2): what is summed over, whose mean products with all before are the covariance.
            scale: of the covariance.
            noise: (units, gates, all).
        """
        n = self.count
        self.states[:, n : n + 2] = state * math.sqrt(scale)
        known = self.states[:, : n + 2]
        covariance = known.T @ known[:, n:] / UNITS
        rows = torch.linalg.solve_triangular(self.factor[:n, :n], covariance[:n], upper=False).T
        floor = 1e-5 * covariance[n:].diagonal().mean().clamp_min(1e-30)
        rest = covariance[n:] - rows @ rows.T  # with a little more on the diagonal: steps may be all but equal
        rest.diagonal().add_(floor)
        first = rest[0, 0].clamp_min(floor).sqrt()
        below = rest[1, 0] / first
        self.factor[n : n + 2, :n] = rows
        self.factor[n, n], self.factor[n + 1, n] = first, below
        self.factor[n + 1, n + 1] = (rest[1, 1] - below.square()).clamp_min(floor).sqrt()
        self.count = n + 2
        return torch.einsum("ugk,bk->ugb", noise[:, :, : n + 2], self.factor[n : n + 2, : n + 2].to(noise.dtype))


def _interleaved(kernel: Kernel) -> Tensor:
    """The kernel of both inputs: at index 2t + b is step t of input b."""
    steps = kernel.own.shape[0]
    both = torch.stack([torch.stack([kernel.own, kernel.cross]), torch.stack([kernel.cross, kernel.own])])
    return both.permute(2, 0, 3, 1).reshape(2 * steps, 2 * steps)


def _root(covariance: Tensor) -> Tensor:
    """A matrix whose product with its transpose is a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()).float()
    return root


def _started(start: Start, noise: Tensor) -> Tensor:
    """States before the first step, (units, 2)."""
    variance = max(start.square - start.mean**2, 0.0)
    shared = min(max(start.cross - start.mean**2, 0.0), variance)
    return start.mean + math.sqrt(shared) * noise[:, :1] + math.sqrt(variance - shared) * noise[:, 1:]


class _Noise(NamedTuple):
    """Normal noise for a simulation, in antithetic pairs of unit variance."""

    inputs: Tensor
    states: Tensor
    bias: tuple[Tensor, Tensor]
    start: tuple[Tensor, Tensor]


@lru_cache(maxsize=2)
def _noise(gates: int, steps: int) -> _Noise:
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)

    def draw(*shape: int) -> Tensor:
        half = torch.randn(UNITS // 2, *shape, generator=generator, device="cpu")
        half /= half.square().mean(0).sqrt()
        return torch.cat([half, -half])

    inputs, states = draw(gates, 2 * steps), draw(gates, 2 * steps)
    return _Noise(inputs, states, (draw(gates), draw(gates)), (draw(3), draw(3)))
