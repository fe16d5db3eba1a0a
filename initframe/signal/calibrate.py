"""Calibrate: one factor for each weight, so that every layer's output has the target size; the result is a recipe.

One pass in execution order is enough: where a weight is first used, its factor is known from the output, and the output
goes on at the size that the factor gives it (layer-sequential unit variance, Mishkin & Matas 2016, without its passes).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from torch import nn

from initframe.errors import InitframeError, Problem, harmless
from initframe.fills import Copied
from initframe.model.names import walk
from initframe.model.parametrizations import parametrizations
from initframe.model.parts import parts_of
from initframe.plan import Assignment
from initframe.recipe.recipe import Recipe
from initframe.resolver.resolve import resolve
from initframe.signal.batch import no_module, refusal, unmeasurable
from initframe.signal.factors import with_factors
from initframe.signal.scaling import scale_measured, scale_predicted
from initframe.signal.shapes import without_shadows
from initframe.signal.tuner import Calibrated, Tuner

ATTENTION = re.compile(
    r"(^|[._])(q|k|qkv|wq|wk|query|key|q_?proj|k_?proj|q_?lin|k_?lin|to_q|to_k|to_qkv|c_attn|c_q|c_k|in_proj_weight|"
    r"wqkv|qkv_proj|query_key_value|query_layer|key_layer|q_norm|k_norm)([._]|$)",
    re.IGNORECASE,
)
"""Names of queries and keys: their size is the attention's temperature."""


class CalibrationWarning(UserWarning):
    """Some weights could not be calibrated."""


UNUSED = "no linear layer, convolution or lookup of the forward pass uses it."


@dataclass(frozen=True)
class Calibration:
    """A calibrated recipe, and how it was found.

    Attributes:
        recipe: the recipe with factors.
        rows: one per weight that was used, in execution order.
        target: the rms that outputs should have.
        unused: names of weights that the pass did not use.
    """

    recipe: Recipe
    rows: tuple[Calibrated, ...]
    target: float
    unused: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[str, ...]:
        """What was not calibrated or is off the target, as sentences."""
        missed = [f"{row.name}: {row.reason}" for row in self.rows if row.reason]
        return (*missed, *(f"{name}: {UNUSED}" for name in self.unused))


def calibrate(
    model: nn.Module,
    recipe: Recipe | Mapping[str, Any] | str | PathLike[str],
    batch: Any,
    *,
    target: float = 1.0,
    method: Literal["measure", "predict"] = "measure",
    seed: int = 0,
    attention: bool = False,
) -> Recipe:
    """Find a factor for each weight, so that every layer's output has the rms ``target``.

    The weights are those that the recipe draws and that a layer multiplies with (linear, convolution, embedding). A
    weight that is used several times, or tied, is set by its first call. The model is left as it was.

    Args:
        model: any module; with ``method="predict"`` it may be on the meta device.
        recipe: as for :func:`initframe.resolve`.
        batch: as for :func:`initframe.propagate`.
        target: the rms of every output.
        method: ``"measure"`` runs the model on the batch, with the recipe's numbers of ``seed``; ``"predict"`` needs
            neither memory nor data, and holds for every seed.
        seed: of the numbers that are measured.
        attention: whether queries and keys are calibrated, too; their size is the attention's temperature.

    Returns:
        A recipe that gives these sizes anywhere, without the batch: its last rules name the weights, each with a
        ``factor``.

    Raises:
        InitframeError: the model cannot run on the batch, or an argument is wrong.

    Warns:
        CalibrationWarning: some weights could not be calibrated, with the reasons.

    >>> import torch
    >>> from initframe import apply
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    >>> batch = torch.randn(32, 64)
    >>> found = calibrate(model, {"rules": {"*.weight": "xavier_normal", "*.bias": "zeros"}}, batch)
    >>> _ = apply(resolve(found, model), seed=0)
    >>> round(model(batch).square().mean().sqrt().item(), 3)
    1.0
    """
    found = calibration(model, recipe, batch, target=target, method=method, seed=seed, attention=attention)
    if found.left:
        shown = "\n  ".join(map(harmless, found.left[:20])) + (
            f"\n  … {len(found.left) - 20} more" if len(found.left) > 20 else ""
        )
        warnings.warn(f"Not calibrated:\n  {shown}", CalibrationWarning, stacklevel=2)
    return found.recipe


def calibration(
    model: nn.Module,
    recipe: Recipe | Mapping[str, Any] | str | PathLike[str],
    batch: Any,
    *,
    target: float = 1.0,
    method: Literal["measure", "predict"] = "measure",
    seed: int = 0,
    attention: bool = False,
    rule: str | None = None,
) -> Calibration:
    """As :func:`calibrate`, with a row for each weight; ``rule`` restricts it to the weights that one rule wins.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(8, 8, bias=False))
    >>> found = calibration(model, {"rules": {"*.weight": "xavier_normal"}}, torch.randn(4, 8), target=2.0)
    >>> [(row.name, round(row.after, 3)) for row in found.rows]
    [('0.weight', 2.0)]
    """
    if not isinstance(model, nn.Module):
        raise InitframeError(no_module(model), *_wrong(target, method))
    parts = parts_of(model)
    if problems := [*refusal(parts, batch), *_wrong(target, method)]:
        raise InitframeError(*problems)
    plan = resolve(recipe, model)
    able = {a.slot.name: a for a in plan.assignments if _is_weight(a, rule)}
    computed = _computed(model, able)
    left = {name: reason for name, a in able.items() if (reason := computed.get(name) or _why_not(a, attention))}
    tuner = Tuner({name: a for name, a in able.items() if name not in left}, left, target)
    if method == "measure":
        if problems := unmeasurable(parts):
            raise InitframeError(*problems)
        scale_measured(model, plan, batch, seed, tuner)
    else:
        with without_shadows():
            scale_predicted(plan, batch, tuner)
    rows = tuple(tuner.rows.values())
    unused = tuple(name for name in tuner.able if name not in tuner.rows)
    found = with_factors(plan, {row.name: row.factor for row in rows})
    return Calibration(found, rows, target, unused)


def _computed(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Why weights that parametrizations compute have no factor; weight norm's and pruned ones can have one."""
    modules, found = dict(walk(model)), {}
    for name in names:
        prefix, dot, own = name.rpartition(".")
        module = modules.get(prefix + dot)
        how = None if module is None or own in module._parameters else parametrizations(module).get(own)  # noqa: SLF001
        if how is not None and not how.linear:
            found[name] = f"a factor on it is lost, or changed: {'; '.join(how.notes)}."
    return found


def _is_weight(assignment: Assignment, rule: str | None) -> bool:
    slot = assignment.slot
    return slot.kind == "parameter" and slot.ndim > 1 and rule in (None, assignment.rule.name)


def _wrong(target: Any, method: Any) -> Iterator[Problem]:
    if not isinstance(target, int | float) or isinstance(target, bool) or not 0 < target < math.inf:
        yield Problem("target", f"it is {target!r}.", "", "Give a positive number.")
    if method not in ("measure", "predict"):
        yield Problem("method", f"it is {method!r}.", "Options: measure, predict.")


def _why_not(assignment: Assignment, attention: bool) -> str:
    """Why a weight has no factor."""
    fill = assignment.fill
    if any(isinstance(part, Copied) for part in fill.parts()):
        return "it follows another tensor, which has the factor."
    if fill.needs_current:
        return "it keeps, or starts from, its current values; a factor needs values that the recipe draws."
    if fill.std == 0:
        return "all its elements are the same number" + (", 0." if fill.mean == 0 else ".")
    if "factor" in assignment.arguments:
        return "its initializer has an argument called factor, which a rule's own factor cannot stand beside."
    if not attention and ATTENTION.search(assignment.slot.name):
        return "queries and keys set the attention's temperature; attention=True calibrates them."
    return ""
