"""Mishkin & Matas 2015 (LSUV): the outputs of twenty convolutions after one calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from initframe.applying.apply import apply
from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.networks import convnet
from initframe.resolver.resolve import resolve
from initframe.signal.calibrate import calibrate
from initframe.signal.propagate import propagate

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU}


def build(at: Settings) -> nn.Module:
    """A plain convolutional network."""
    return convnet(at["channels"], at["depth"], ACTIVATIONS[at["activation"]])


def measure(run: Run) -> Mapping[str, Value]:
    """Measure on images that the calibration has not seen."""
    digits, _ = load_small_digits()
    if run.at["start"] == "lsuv":
        recipe = calibrate(run.model, run.report.plan.recipe, digits.images[: run.at["batch"]], seed=run.seed)
        apply(resolve(recipe, run.model), run.seed)
    rows = propagate(run.model, digits.images[-run.at["batch"] :]).rows
    sizes = [row.rms or 0.0 for row in rows if row.op == "Conv2d"]
    return {"sizes": sizes, "least": min(sizes), "most": max(sizes), "final": sizes[-1]}


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """LSUV's tolerance is 0.1 around 1; the paper has no numbers for the others."""
    for activation in at["sweep"]["activation"]:
        yield Check(
            f"{activation}, lsuv: smallest size of an output",
            "1 ± 0.1",
            found.of("least", start="lsuv", activation=activation),
            0.8,
            1.1,
        )
        yield Check(
            f"{activation}, lsuv: largest size of an output",
            "1 ± 0.1",
            found.of("most", start="lsuv", activation=activation),
            0.9,
            1.25,
        )
    words = f"size of output {at['depth']}"
    yield Check(f"relu, xavier: {words}", "—", found.of("final", start="xavier", activation="relu"), high=0.05)
    yield Check(
        f"relu, kaiming: {words}",
        "—",
        found.of("final", start="kaiming", activation="relu"),
        high=0.5,
    )


CLAIM = Claim(
    build,
    measure,
    checks,
    (
        Panel(
            "sizes", "ReLU: output rms", "convolution", logarithmic=True, where=lambda at: at["activation"] == "relu"
        ),
        Panel(
            "sizes", "tanh: output rms", "convolution", logarithmic=True, where=lambda at: at["activation"] == "tanh"
        ),
    ),
)
