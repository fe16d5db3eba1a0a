"""torchtitan: a model's spec whose weights are a recipe's, the same on any mesh and in any stage of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from initframe.applying.apply import apply
from initframe.model.survey import survey
from initframe.recipe.recipe import load_recipe
from initframe.resolver.resolve import Written, resolve

if TYPE_CHECKING:
    from torchtitan.protocols.model_spec import ModelSpec


def initialized(spec: ModelSpec, recipe: Written, seed: int = 0) -> ModelSpec:
    """Return a spec whose model is filled by a recipe, after its optimizer is built and before a checkpoint is read.

    The trainer initializes the model as ever, buffers included; its parameters are then written in place, every process
    its own shards. The plan is made from the whole model on the meta device, so the stages of a pipeline share it.

    Args:
        spec: from torchtitan's ``model_registry`` or a ``Trainer.Config``; it is not changed.
        recipe: as :func:`initframe.resolve` takes it; it is read once.
        seed: 0 ≤ seed < 2⁶⁴.

    Returns:
        The spec for ``Trainer.Config.model_spec``.

    Raises:
        RecipeError: the recipe is wrong for every model.
    """
    loaded, after = load_recipe(recipe), spec.post_optimizer_build_fn

    def fill(optimizers: Any, parts: list[nn.Module], *others: Any, **named: Any) -> None:
        with torch.device("meta"):
            whole = spec.model.build()
        plan = resolve(loaded, whole)
        planned = {name for a in plan.assignments for name in (a.slot.name, *a.slot.aliases)}
        for part in parts:
            if planned.intersection(survey(part).names):  # a recipe may mean other stages only
                apply(plan, seed, module=part)
        if after is not None:
            after(optimizers, parts, *others, **named)

    return replace(spec, post_optimizer_build_fn=fill)
