"""Reports and comparisons to make pages of, plain and hostile."""

import math
from dataclasses import replace

from torch import nn

import initframe
from initframe.plan.report import Measured, Moments

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    '"onmouseover="alert(3)',
    "\x1b[31mred\x1b[0m \u202egnirts",
    "$\\frac{1}{0}$ {{ 7 * 7 }} {% raw %}",
    "x" * 5000,
    "</style></svg></table><!--",
)


def report(names=("first", "second", "third"), *, scale=1.0):
    """A measured report; the second tensor holds ``scale`` times what was planned."""
    model = nn.Module()
    for name in names:
        model.add_module(name.replace(".", "·"), nn.Linear(24, 24))
    recipe = {"rules": {"weights": {"match": "*", "init": "normal"}, "biases": {"match": "*.bias", "init": "zeros"}}}
    done = initframe.reinit(model, recipe, seed=0, measure=True)
    results = list(done.results)
    moments = results[2].after.moments
    results[2] = replace(results[2], after=Measured(Moments(moments.mean, moments.std * scale), 0))
    return replace(done, results=tuple(results))


def hostile_report():
    done = report(HOSTILE)
    plan = replace(done.plan, title=HOSTILE[0], recipe=replace(done.plan.recipe, name=HOSTILE[2]), warnings=HOSTILE)
    return replace(done, plan=plan)


def signal(name, slope, layers=12):
    """A signal as data: rms falls by ``slope`` from layer to layer, the last layer is not finite."""
    rows = [
        {
            "name": f"layer{i}",
            "call": 0,
            "depth": i,
            "rms": None if i == layers else math.exp(-slope * i),
            "grad_rms": math.exp(slope * i) / 100,
            "correlation": 1 - math.exp(-i / 3),
            "spread": None,
        }
        for i in range(1, layers + 1)
    ]
    bad = slope > 0.3
    text = f"activations shrink by {math.exp(-slope * layers):.1g}" if bad else "activations keep their size"
    return {
        "recipe": name,
        "source": "measured",
        "batch": "4×3 float32",
        "loss": 2.3,
        "verdict": text,
        "rows": rows,
        "spreads": [0.1] * layers,
        "findings": [{"kind": "activations", "bad": bad, "text": text}],
        "notes": ["Input: N(0, 1)."],
    }


def comparison(names=("one", "two", "three"), model="Net"):
    recipes = [signal(name, slope=0.2 * i) for i, name in enumerate(names)]
    return {"model": model, "batch": "4×3 float32", "seeds": [0, 1], "recipes": recipes}


def hostile_comparison():
    found = comparison(HOSTILE, model=HOSTILE[0])
    for one, text in zip(found["recipes"], HOSTILE, strict=True):
        one["verdict"] = text
        one["notes"] = [text]
        one["rows"][0]["name"] = text
        one["findings"].append({"kind": "dead", "bad": True, "text": text})
    return found
