"""A recipe for a model that nobody wrote one for: each layer's own distribution, at the size that prediction finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

from torch import nn

from initframe.recipe.recipe import Recipe, load_recipe
from initframe.signal.calibrate import Calibration, calibration
from initframe.signal.inputs import example

RULE = "auto"
"""The rule of the preset ``auto`` whose weights get factors; other rules stay as they are written."""


def auto(
    model: nn.Module, recipe: Recipe | Mapping[str, Any] | str | PathLike[str] = "auto", batch: Any = None
) -> Recipe:
    """Find a recipe for a model: every layer's own distribution, with factors that give its output rms 1.

    Args:
        model: any module, on the meta device or not; it is left as it is.
        recipe: the preset ``auto``, or a recipe that has its rule ``auto`` and others over it.
        batch: as for :func:`initframe.predict`; by default shapes that the model's own specification gives.

    Returns:
        The recipe. It is data: print it, edit it, apply it with any seed.

    Raises:
        InitframeError: the model says nothing of its inputs, or cannot be predicted.

    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    >>> round(auto(model).rules[-1].arguments["factor"], 2)
    2.44
    """
    return explained(model, recipe, batch).recipe


def explained(
    model: nn.Module, recipe: Recipe | Mapping[str, Any] | str | PathLike[str] = "auto", batch: Any = None
) -> Calibration:
    """As :func:`auto`, with the factor of each weight and what was left.

    >>> [row.name for row in explained(nn.Sequential(nn.Linear(4, 4))).rows]
    ['0.weight']
    """
    if batch is None:
        batch, _ = example(model, device="meta")
    asked = load_recipe(recipe)
    found = calibration(model, replace(asked, requires=()), batch, method="predict", rule=RULE)
    return replace(found, recipe=replace(found.recipe, name=asked.name))


def is_auto(recipe: Recipe) -> bool:
    """Whether a recipe has weights whose factors are to be found.

    >>> is_auto(load_recipe("auto")), is_auto(load_recipe("xavier_relu"))
    (True, False)
    """
    return bool(recipe.requires) and any(rule.name == RULE for rule in recipe.rules)
