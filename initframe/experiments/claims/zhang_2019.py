"""Zhang, Dauphin & Ma 2019 (Fixup), De & Smith 2020 (SkipInit): deep residual networks without normalization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned


class FixupBasicBlock(nn.Module):
    """Two convolutions with scalar biases and a scalar scale, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.bias1a, self.bias1b, self.bias2a, self.bias2b, self.scale = (
            nn.Parameter(torch.zeros(1)) for _ in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the branch."""
        inside = torch.relu(self.conv1(torch.relu(x) + self.bias1a) + self.bias1b)
        out: Tensor = x + self.scale * self.conv2(inside + self.bias2a) + self.bias2b
        return out


class ResNet(nn.Module):
    """A stem, blocks, and a classifier of all pixels."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.num_layers = depth
        self.conv1 = nn.Conv2d(1, channels, 3, 2, 1, bias=False)
        self.blocks = nn.Sequential(*(FixupBasicBlock(channels) for _ in range(depth)))
        self.fc = nn.Linear(16 * channels, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the classes' scores."""
        scores: Tensor = self.fc(torch.relu(self.blocks(self.conv1(images))).flatten(1))
        return scores


def build(at: Settings) -> nn.Module:
    """The same network for all recipes: the scale is SkipInit's multiplier, too."""
    return ResNet(at["channels"], at["depth"])


def measure(run: Run) -> Mapping[str, Value]:
    """Train by gradient descent with the learning rates that the recipe asks for."""
    optimizer = torch.optim.SGD(run.report.param_groups(lr=run.at["lr"]), lr=run.at["lr"], momentum=0.9)
    return learned(run, optimizer, load_small_digits()[0])


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Compare the loss before the first step, and whether the deepest network learns."""
    deep = at["sweep"]["depth"][-1]
    first = found.of("first", start="fixup")
    yield Check("fixup: loss at step 0", "ln(classes) = 2.3026", first, 2.30258, 2.30259)
    for start in ("fixup", "skipinit"):
        yield Check(f"{start}, {deep} blocks: last loss", "trains", found.of("last", start=start, depth=deep), high=1.5)
    yield Check(
        f"kaiming, {deep} blocks: last loss", "diverges", found.of("last", start="kaiming", depth=deep), low=2.0
    )


CLAIM = Claim(build, measure, checks, (Panel("curve", "training loss", "step", lines=("depth",), logarithmic=True),))
