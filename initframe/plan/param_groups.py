"""Param groups: the multipliers that a method needs in the optimizer, and what it needs beyond that."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from initframe.errors import Problem, ResolveError, printable
from initframe.model.survey import survey

OPTIMIZER = ("lr", "weight_decay", "eps")
"""Param-group multipliers; all other companions are factors of the forward pass."""

Asked = Mapping[str, Mapping[str, float]]


_HOME = str(Path(__file__).parents[1]) + os.sep
_DYNAMO = str(Path(torch.__file__).parent / "_dynamo") + os.sep


class CompanionWarning(UserWarning):
    """The applied recipe needs more than values, and does not say that the rest is taken care of."""


def warn(text: str) -> None:
    """Warn at the line outside of this package that called it; between the two, torch may have kept dynamo out."""
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_code.co_filename.startswith((_HOME, _DYNAMO)):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(text, besides="\n"), CompanionWarning, stacklevel=level)


def sentences(asked: Iterable[tuple[str, Mapping[str, float]]], requires: Sequence[str]) -> list[str]:
    """Tell the multipliers and factors that a recipe needs.

    Args:
        asked: for every tensor that has some, its rule's name and the numbers.
        requires: what the recipe says in words.

    Returns:
        One sentence for every rule and number; those that change nothing are left out.

    >>> sentences([("hidden", {"lr": 0.5}), ("hidden", {"lr": 0.5}), ("out", {"residual": 2.0})], ["no norms"])
    ["rule 'hidden': lr ×0.5 on 2 tensors", "rule 'out': a factor residual = 2 in the forward pass", 'no norms']
    """
    counts: dict[tuple[str, str, float], int] = {}
    for rule, companions in asked:
        for name, value in companions.items():
            if value != 1:
                counts[rule, name, value] = counts.get((rule, name, value), 0) + 1
    return [*(_sentence(*key, count) for key, count in counts.items()), *requires]


def _sentence(rule: str, name: str, value: float, count: int) -> str:
    if name in OPTIMIZER:
        return f"rule {rule!r}: {name} ×{value:.4g} on {count} tensor{'' if count == 1 else 's'}"
    return f"rule {rule!r}: a factor {name} = {value:.4g} in the forward pass"


def unheeded(told: Sequence[str], recipe: str) -> str:
    """Put what a recipe needs beyond values into one message, with what to do about it.

    >>> print(unheeded(["no norms"], "fixup"))
    recipe fixup needs more than values:
      no norms
    Build the optimizer from report.param_groups(lr=…), write the factors into the model, then set companions: heeded.
    """
    fix = "Build the optimizer from report.param_groups(lr=…), write the factors into the model"
    return (
        "\n  ".join(map(printable, [f"recipe {recipe} needs more than values:", *told]))
        + f"\n{fix}, then set companions: heeded."
    )


def param_groups(
    model: nn.Module | Mapping[str, Tensor], asked: Asked, numbers: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Sort a model's trained parameters into groups by their multipliers.

    Args:
        model: the model.
        asked: by tensor name, its multipliers.
        numbers: the optimizer's numbers for a tensor without multipliers: ``lr``, and any others.

    Returns:
        Groups as torch.optim takes them, each with all ``numbers``, multiplied; in the order of the model.

    Raises:
        ResolveError: a number is no number, or the model has no trained parameter.

    >>> groups = param_groups(nn.Linear(2, 2), {"weight": {"lr": 0.5}}, {"lr": 0.1})
    >>> [(len(group["params"]), group["lr"]) for group in groups]
    [(1, 0.05), (1, 0.1)]
    """
    given: Mapping[str, Any] = numbers
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            fix = "Give anything else to the optimizer itself."
            raise ResolveError(Problem(name, f"it must be a number, got {value!r}.", fix=fix))
    _warn_of_missing(asked, numbers)
    seen = survey(model)
    groups: dict[tuple[float, ...], dict[int, Tensor]] = {}
    for slot in seen.every:
        factors = asked.get(slot.name) or asked.get(slot.part_of or "") or {}
        multiplied = tuple(value * factors.get(name, 1.0) for name, value in numbers.items())
        held = (t for t in seen.places[slot.name].held if isinstance(t, nn.Parameter) and t.requires_grad)
        groups.setdefault(multiplied, {}).update({id(tensor): tensor for tensor in held})
    if not any(groups.values()):
        fix = "Set requires_grad on those that are to learn, then ask again."
        raise ResolveError(Problem("model", "it has no trained parameter.", fix=fix))
    return [
        {"params": list(tensors.values()), **dict(zip(numbers, multiplied, strict=True))}
        for multiplied, tensors in groups.items()
        if tensors
    ]


def _warn_of_missing(asked: Asked, numbers: Mapping[str, float]) -> None:
    """Warn of multipliers whose number is not given: they would be lost."""
    lost = {name for factors in asked.values() for name, value in factors.items() if name in OPTIMIZER and value != 1}
    if missing := sorted(lost - numbers.keys()):
        warn(f"the recipe multiplies {', '.join(missing)} too: give param_groups(…, {missing[0]}=…).")
