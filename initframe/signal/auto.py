"""A recipe for a model that nobody wrote one for: each layer's own distribution, at the size that prediction finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from initframe.recipe.recipe import Recipe, load_recipe
from initframe.signal.calibrate import Calibration, calibration
from initframe.signal.inputs import example


def auto(model: nn.Module, batch: Any = None) -> Recipe:
    """Find a recipe for a model: torch's own distributions, with factors that give every layer's output rms 1.

    Args:
        model: any module, on the meta device or not; it is left as it is.
        batch: as for :func:`initframe.predict`; by default shapes that the model's own specification gives.

    Returns:
        The recipe. It is data: print it, edit it, apply it with any seed.

    Raises:
        InitframeError: the model says nothing of its inputs, or cannot be predicted.

    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    >>> recipe = auto(model)
    >>> round(recipe.rules[-1].arguments["factor"], 2)
    2.44
    """
    return explained(model, batch).recipe


def explained(model: nn.Module, batch: Any = None) -> Calibration:
    """As :func:`auto`, with the factor of each weight and what was left.

    >>> [row.name for row in explained(nn.Sequential(nn.Linear(4, 4))).rows]
    ['0.weight']
    """
    if batch is None:
        batch, _ = example(model, device="meta")
    base = load_recipe({"rules": {"own": {"match": "*", "init": "torch_default"}}, "unused": "warn"})
    found = calibration(model, base, batch, method="predict")
    return replace(found, recipe=replace(found.recipe, name="auto"))
