"""Huang et al. 2020 (T-Fixup), Wang et al. 2022 (DeepNorm): deep transformers without warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned


class Block(nn.Module):
    """Attention and MLP, each added to ``alpha`` times its input, with or without a norm behind."""

    def __init__(self, width: int, alpha: float, normed: bool) -> None:
        super().__init__()
        self.alpha = alpha
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = (nn.LayerNorm(width) if normed else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, post-norm."""
        q, k, v = (
            project(x).unflatten(-1, (4, -1)).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm1(self.alpha * x + self.out_proj(mixed))
        out: Tensor = self.norm2(self.alpha * x + self.fc2(torch.relu(self.fc1(x))))
        return out


class Rows(nn.Module):
    """An encoder that reads a digit row by row."""

    def __init__(self, width: int, depth: int, alpha: float, normed: bool) -> None:
        super().__init__()
        self.embed, self.positions = nn.Linear(8, width), nn.Parameter(torch.zeros(8, width))
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(Block(width, alpha, normed) for _ in range(depth))})
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the classes' scores."""
        x = self.embed(images.squeeze(1)) + self.positions
        for block in self.encoder["layers"]:  # type: ignore[attr-defined]
            x = block(x)
        scores: Tensor = self.head(x.mean(1))
        return scores


def build(at: Settings) -> nn.Module:
    """DeepNorm's network multiplies its residuals by (2N)^¼; T-Fixup's has no norms."""
    alpha = (2 * at["encoder_layers"]) ** 0.25 if at["start"] == "deepnorm" else 1.0
    return Rows(at["width"], at["encoder_layers"], alpha, normed=at["start"] in ("post-norm", "deepnorm"))


def measure(run: Run) -> Mapping[str, Value]:
    """Train by Adam at its full learning rate from the first step."""
    optimizer = torch.optim.Adam(run.model.parameters(), lr=run.at["lr"], betas=(0.9, 0.98))
    return learned(run, optimizer, load_small_digits()[0])


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """A network that learned nothing has the loss ln 10 = 2.30."""
    words = f"loss of {at['encoder_layers']} blocks after {at['steps']} steps"
    yield Check(f"deepnorm: {words}", "trains (to 1,000 layers)", found.of("last", start="deepnorm"), high=1.0)
    yield Check(f"t-fixup, no norms: {words}", "trains", found.of("last", start="t-fixup"), high=1.0)
    yield Check(
        f"post-norm, xavier: {words}", "does not train (2.30 is chance)", found.of("last", start="post-norm"), low=1.8
    )
    yield Check(f"no norms, xavier: {words}", "does not train", found.of("last", start="no norms"), low=1.8)


CLAIM = Claim(build, measure, checks, (Panel("curve", "training loss", "step", logarithmic=True),))
