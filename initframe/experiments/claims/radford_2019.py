"""Radford et al. 2019 (GPT-2), section 2.3: the residual stream's size after many blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from initframe.signal.signal import Signal


class Branch(nn.Module):
    """A norm, and one matrix that writes to the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.c_proj = nn.LayerNorm(width), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream with the branch added."""
        stream: Tensor = x + self.c_proj(self.norm(x))
        return stream


class Stream(nn.Module):
    """GPT-2's residual stream: two branches a block, one in the attention's place and one in the MLP's."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.start = nn.Identity()
        names = ("attn", "mlp")
        blocks = (nn.Sequential(OrderedDict((name, Branch(width)) for name in names)) for _ in range(depth))
        self.h = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after the last block."""
        stream: Tensor = self.h(self.start(x))
        return stream


def build(at: Settings) -> nn.Module:
    """A stream with a number of blocks."""
    return Stream(at["width"], at["depth"])


def growth(signal: Signal) -> float:
    """The size of the stream at the end over that at the start."""
    return (signal[""].rms or 0.0) / (signal["start"].rms or 1.0)


def measure(run: Run) -> Mapping[str, Value]:
    """Measure and predict on independent inputs of size 1, as the branches' outputs are."""
    batch = torch.randn(64, run.at["width"], generator=torch.Generator().manual_seed(run.seed))
    return {
        "measured": growth(propagate(run.model, batch)),
        "predicted": growth(predict(run.report.plan, torch.empty(64, run.at["width"], device="meta"))),
    }


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Two branches a block of the stream's own size: √(1 + 2L) plain, √2 scaled."""
    for depth in at["sweep"]["depth"]:
        root = (1 + 2 * depth) ** 0.5
        plain, scaled = (found.of("measured", start=start, depth=depth) for start in ("plain", "scaled"))
        yield Check(f"{depth} blocks, plain: end / start", f"√(1 + 2L) = {root:.3g}", plain, 0.9 * root, 1.1 * root)
        yield Check(f"{depth} blocks, scaled: end / start", "√2 = 1.41", scaled, 1.35, 1.48)
    pairs = zip(found.of("predicted"), found.of("measured"), strict=True)
    yield Check("predicted / measured, all of them", "—", tuple(a / b for a, b in pairs), 0.95, 1.05)


CLAIM = Claim(
    build,
    measure,
    checks,
    (Panel(("measured", "predicted"), "stream rms, end / start", "depth", logarithmic=True, wide=True),),
)
