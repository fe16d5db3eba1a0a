"""transformers: models for its Trainer, and what a checkpoint lacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from torch import nn

from initframe.applying.apply import apply_surveyed
from initframe.errors import Problem, ResolveError
from initframe.model.survey import survey
from initframe.plan.report import Report
from initframe.recipe.recipe import load_recipe
from initframe.resolver.resolve import Written, resolve_surveyed


def model_init(build: Callable[..., nn.Module], recipe: Written, seed: int = 0) -> Callable[..., nn.Module]:
    """Make the ``model_init`` of a Trainer: every call gives a new model with the same weights.

    torch's generators are left where ``build`` leaves them, so the order of the data and dropout are as without it.

    Args:
        build: makes the model; takes nothing, or the trial of a hyperparameter search.
        recipe: as :func:`initframe.resolve` takes it; it is read once.
        seed: 0 ≤ seed < 2⁶⁴. It is that of the weights; ``TrainingArguments.seed`` is that of everything else.

    Returns:
        A function that takes what ``build`` takes.

    Raises:
        RecipeError: the recipe is wrong for every model.

    >>> init = model_init(lambda: nn.Linear(2, 2), {"rules": {"weight": "eye", "bias": "zeros"}})
    >>> init().weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    loaded = load_recipe(recipe)
    is_builder = callable(build) and not isinstance(build, nn.Module)
    _demand(build, "build", is_builder, "Give a function that builds the model: lambda: ….")

    def initialized(*trial: Any) -> nn.Module:
        model = build(*trial)
        seen = survey(model)
        apply_surveyed(resolve_surveyed(loaded, seen, model), seen, model, seed)
        return model

    def without_trial() -> nn.Module:
        return initialized()

    def with_trial(trial: Any) -> nn.Module:
        return initialized(trial)

    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    given = (p for p in signature(build).parameters.values() if p.kind in positional)
    wants_trial = any(p.name == "trial" or p.default is Parameter.empty for p in given)
    return with_trial if wants_trial else without_trial  # Trainer counts the parameters


def initialize_missing(model: nn.Module, loading_info: Mapping[str, Any], recipe: Written, seed: int = 0) -> Report:
    """Initialize what a checkpoint lacked, such as a new head, and nothing else.

    ``from_pretrained`` draws such tensors from torch's generator, so they are others in every run.

    Args:
        model: from ``from_pretrained(…, output_loading_info=True)``.
        loading_info: what came with it: keys that were missing, and keys of other shapes.
        recipe: for the whole model or for a part of it, as :func:`initframe.resolve` takes it.
        seed: 0 ≤ seed < 2⁶⁴.

    Returns:
        What happened. A tensor that is tied to one that was loaded keeps its values, and so do missing buffers.

    Raises:
        ResolveError: recipe and model do not fit together, or no rule matches a missing parameter. Nothing was written.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> info = {"missing_keys": {"1.weight", "1.bias"}, "mismatched_keys": set()}
    >>> [result.name for result in initialize_missing(model, info, {"rules": {"*": "zeros"}}).results]
    ['1.weight', '1.bias']
    """
    is_info = isinstance(loading_info, Mapping) and {"missing_keys", "mismatched_keys"} <= loading_info.keys()
    _demand(loading_info, "loading_info", is_info, "It comes with from_pretrained(…, output_loading_info=True).")
    missing = {*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])}
    seen = survey(model)
    meant = [slot.name for slot in seen.slots if missing.issuperset((slot.name, *slot.aliases))]
    plan = resolve_surveyed(recipe, seen, model, meant)
    fact, fix = "the checkpoint lacks it, and no rule matches it.", "Add a rule; init: keep leaves it as it was drawn."
    if plan.untouched:
        raise ResolveError(*(Problem(name, fact, fix=fix) for name in plan.untouched))
    return apply_surveyed(plan, seen, model, seed)


def _demand(given: object, name: str, fits: bool, fix: str) -> None:
    if not fits:
        raise ResolveError(Problem(name, f"got {type(given).__name__}.", fix=fix))
