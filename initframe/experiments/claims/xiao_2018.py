"""Xiao et al. 2018: delta-orthogonal kernels carry a signal through hundreds of plain convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned
from initframe.experiments.networks import convnet
from initframe.signal.propagate import propagate


def build(at: Settings) -> nn.Module:
    """A plain tanh network with circular convolutions."""
    return convnet(at["channels"], at["depth"], nn.Tanh, "circular")


def singular_values(kernel: Tensor) -> Tensor:
    """Singular values of a circular convolution on 4 × 4 pixels: those of its transfer matrix at every frequency."""
    frequencies = torch.fft.fft2(kernel, s=(4, 4)).permute(2, 3, 0, 1)
    values: Tensor = torch.linalg.svdvals(frequencies)
    return values


def measure(run: Run) -> Mapping[str, Value]:
    """Measure one kernel's singular values and the signal by layer, then train."""
    digits, _ = load_small_digits()
    values = singular_values(run.model.get_parameter("4.weight").detach())
    rows = [row for row in propagate(run.model, digits.images[:32]).rows if row.op == "Tanh"]
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    return {
        "least": values.min().item(),
        "most": values.max().item(),
        "correlation": [row.correlation or 0.0 for row in rows],
        "alike": rows[-1].correlation or 0.0,
        "size": rows[-1].rms or 0.0,
        **learned(run, optimizer, digits),
    }


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """All singular values are 1; a network that learned nothing has the loss 2.30."""
    for words, key in (("smallest", "least"), ("largest", "most")):
        yield Check(
            f"delta-orthogonal: {words} singular value", "1", found.of(key, start="delta-orthogonal"), 0.999, 1.001
        )
    yield Check("kaiming: largest singular value", "—", found.of("most", start="kaiming"), 1.5)
    words = f"loss of {at['depth']} layers after {at['steps']} steps"
    yield Check(
        f"delta-orthogonal: {words}", "trains (to 10,000 layers)", found.of("last", start="delta-orthogonal"), high=1.5
    )
    yield Check(f"kaiming: {words}", "does not train (2.30 is chance)", found.of("last", start="kaiming"), low=1.8)


CLAIM = Claim(
    build,
    measure,
    checks,
    (Panel("curve", "training loss", "step"), Panel("correlation", "correlation of two inputs", "layer")),
)
