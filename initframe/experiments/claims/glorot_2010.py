"""Glorot & Bengio 2010, figures 6 and 7: activations and back-propagated gradients of a tanh network by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.functional import cross_entropy

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.networks import mlp
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate


def build(at: Settings) -> nn.Module:
    """Five hidden layers, as in the paper."""
    return mlp(64, at["width"], at["depth"], nn.Tanh)


def measure(run: Run) -> Mapping[str, Value]:
    """Measure activations and gradients of all hidden layers, and predict the activations."""
    digits, _ = load_small_digits()
    images, labels = digits.images[:500], digits.labels[:500]
    signal = propagate(run.model, images, loss=lambda out: cross_entropy(out, labels))
    hidden = [row for row in signal.rows if row.op == "Tanh"]
    predicted = [row.rms or 0.0 for row in predict(run.report.plan, images).rows if row.op == "Tanh"]
    activations, gradients = [row.rms or 0.0 for row in hidden], [row.grad_rms or 0.0 for row in hidden]
    layers = len(hidden) - 1
    return {
        "activations": activations,
        "gradients": gradients,
        "forward": (activations[-1] / activations[0]) ** (1 / layers),
        "backward": (gradients[0] / gradients[-1]) ** (1 / layers),
        "predicted": predicted[-1] / activations[-1],
    }


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """Compare what a layer multiplies with the paper's √(n·Var W): 1/√3 and 1."""
    names = {"forward": "activations", "backward": "gradients"}
    for key, words in names.items():
        third = found.of(key, start="standard")
        yield Check(f"standard: {words} change per layer by", "×0.577 (n·Var W = 1/3)", third, 0.5, 0.65)
        one = found.of(key, start="normalized")
        yield Check(f"normalized: {words} change per layer by", "near ×1", one, 0.8, 1.1)
    every = found.of("predicted")
    yield Check("predicted / measured activation of the last layer", "—", every, 0.85, 1.15)


CLAIM = Claim(
    build,
    measure,
    checks,
    (
        Panel("activations", "activation rms", "hidden layer", logarithmic=True),
        Panel("gradients", "gradient rms", "hidden layer", logarithmic=True),
    ),
)
