"""A model with one parameter for every kind of fill that a manifest makes again."""

import torch
from torch import nn

import initframe
from initframe import (
    Blocks,
    Chain,
    Constant,
    Dirac,
    Identity,
    Masked,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from initframe.fills.composed import Copied
from initframe.fills.derived import Chrono, LogUniform, Mimetic, Repeated, StepBias
from initframe.fills.scaled import scaled
from initframe.fills.stacked import Stacked
from initframe.fills.structured import DeltaOrthogonal, PartialHadamard
from initframe.fills.table import BilinearKernel, Rows, SineCosine, Sinusoids

FILLS = {
    "constant": Constant(8),
    "infinite": Constant(-float("inf")),
    "uniform": Uniform(-0.1, 0.2),
    "normal": Normal(0.0, 0.3),
    "truncated": TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "log_uniform": LogUniform(1.0, 16.0),
    "step_bias": StepBias(0.001, 0.1, 1e-4),
    "chain": Chain(Uniform(0.0, 1.0), (("mul", "x", 2.0), ("exp", "#0"), ("add", "#1", "x"))),
    "identity": Identity((6, 4), 2.0),
    "dirac": Dirac((4, 2, 3), 2),
    "orthogonal": Orthogonal((6, 4), 0.5),
    "delta": DeltaOrthogonal((4, 2, 3), groups=2),
    "sparse": Sparse((10, 4), 0.3, 0.1),
    "hadamard": PartialHadamard((8, 4), groups=2, transposed=True),
    "rows": Rows((2, 3), (1.0, 2.0, 3.5)),
    "bilinear": BilinearKernel((2, 2, 4, 4)),
    "sine_cosine": SineCosine((1, 7, 8), 1, (2, 3)),
    "sinusoids": Sinusoids((5, 6)),
    "repeated": Repeated((8, 3), Normal(0.0, 0.5), 4),
    "chrono": Chrono((8,), 100.0),
    "mimetic": Mimetic((16, 16), "q", 2, "attention"),
    "blocks": Blocks((Uniform(-1.0, 1.0), Orthogonal((3, 2), 1.0), Constant(0.0)), (1, 2, 1), 1),
    "masked": Masked(Normal(0.0, 1.0), (5, 3), (2,), 0.0, padding=True),
    "stacked": Stacked(Orthogonal((4, 3)), (2, 4, 3), ("batch", "out", "in")),
    "channels_last": Stacked(Normal(0.0, 1.0), (3, 3, 2, 4), ("kernel", "kernel", "in", "out")),
    "times_whole": scaled(Identity((4, 4)), 3.0),
    "times_map": scaled(LogUniform(1.0, 4.0), 0.5),
    "copied": Copied("normal", Normal(0.0, 0.3)),
}
SHAPES = {"blocks": (3, 4), "copied": (7, 5), "normal": (7, 5)}


def shape(name):
    return SHAPES.get(name) or getattr(FILLS[name], "shape", (7, 5))


def model(dtype=torch.float32):
    """All of them as parameters of one module."""
    net = nn.Module()
    for name in FILLS:
        net.register_parameter(name, nn.Parameter(torch.zeros(shape(name), dtype=dtype)))
    return net


def reinit(net, seed=7, measure=True):
    """Fill it; the caller has a table of initializers of its own."""
    initframe.initializer("each_its_own")(lambda slot: FILLS[slot.name])
    return initframe.reinit(net, {"rules": {"*": "each_its_own"}}, seed=seed, measure=measure)
