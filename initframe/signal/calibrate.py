"""Calibrate: one factor for each weight, so that every layer's output has the target size; the result is a recipe.

One pass in execution order is enough: where a weight is first used, its factor is known from the output, and the output
goes on at the size that the factor gives it (layer-sequential unit variance, Mishkin & Matas 2016, without its passes).
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initframe.applying.apply import apply
from initframe.errors import InitframeError, Problem, harmless
from initframe.fills import Copied
from initframe.model.parts import Parts, parts_of
from initframe.plan import Assignment, Plan
from initframe.recipe.recipe import Recipe, load_recipe
from initframe.resolver.resolve import resolve
from initframe.signal.batch import as_before, call, failed, no_module, refusal, unmeasurable
from initframe.signal.grid import Grid, scaled
from initframe.signal.moments import average
from initframe.signal.operations import Facts, op_name
from initframe.signal.positions import averaged
from initframe.signal.predict import Prepared, prepare
from initframe.signal.shapes import storage
from initframe.signal.tuner import Calibrated, Tuner
from initframe.signal.walk import Walk
from initframe.signal.watch import Call, Watch, weights_of

ATTENTION = re.compile(
    r"(^|[._])(q|k|qkv|wq|wk|query|key|q_?proj|k_?proj|q_?lin|k_?lin|to_q|to_k|to_qkv|c_attn|c_q|c_k|in_proj_weight|"
    r"wqkv|qkv_proj|query_key_value|query_layer|key_layer|q_norm|k_norm)([._]|$)",
    re.IGNORECASE,
)
"""Names of queries and keys: their size is the attention's temperature."""


class CalibrationWarning(UserWarning):
    """Some weights could not be calibrated."""


UNUSED = "no linear layer, convolution or lookup of the forward pass uses it."
COMPUTED = "its layer computes it from other tensors (a parametrization); only weights that layers hold are calibrated."


@dataclass(frozen=True)
class Calibration:
    """A calibrated recipe, and how it was found.

    Attributes:
        recipe: the recipe with factors.
        rows: one per weight that was used, in execution order.
        target: the rms that outputs should have.
        unused: names of weights that the pass did not use.
        computed: those of them that a parametrization computes.
    """

    recipe: Recipe
    rows: tuple[Calibrated, ...]
    target: float
    unused: tuple[str, ...] = ()
    computed: frozenset[str] = frozenset()

    @property
    def left(self) -> tuple[str, ...]:
        """What was not calibrated or is off the target, as sentences."""
        missed = [f"{row.name}: {row.reason}" for row in self.rows if row.reason]
        return (
            *missed,
            *(f"{name}: {COMPUTED if name in self.computed else UNUSED}" for name in self.unused),
        )


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
    left = {name: reason for name, a in able.items() if (reason := _why_not(a, attention))}
    tuner = Tuner({name: a for name, a in able.items() if name not in left}, left, target)
    if method == "measure":
        if problems := unmeasurable(parts):
            raise InitframeError(*problems)
        _measured(model, plan, batch, seed, tuner)
    else:
        _predicted(plan, batch, tuner)
    rows = tuple(tuner.rows.values())
    unused = tuple(name for name in tuner.able if name not in tuner.rows)
    held = set(map(parts.planned, parts.parameters))
    found = with_factors(plan, {row.name: row.factor for row in rows})
    return Calibration(found, rows, target, unused, frozenset(name for name in unused if name not in held))


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


# --- by measurement --------------------------------------------------------------------------------------------------


def _measured(model: nn.Module, plan: Plan, batch: Any, seed: int, tuner: Tuner) -> None:
    """Run a copy of the model that holds the recipe's own numbers."""
    twin = _copied(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the recipe asks for besides values is told when it is applied
        apply(plan, seed, module=twin)
    parts = parts_of(twin)
    watch = _Scaling(parts, _nothing, weights_of(parts), tuner)
    try:
        with as_before(parts), torch.no_grad(), watch:
            call(twin, batch)
    except Exception as error:
        raise failed(error, watch.where, batch, "calibrate") from error


def _copied(model: nn.Module) -> nn.Module:
    """Copy a model.

    Raises:
        InitframeError: it cannot be copied: fully_shard's cannot, nor can what holds locks, files or processes.
    """
    try:
        return copy.deepcopy(model, _detached(model))
    except Exception as error:
        fact = f"it is measured on a copy, and copying it raised {type(error).__name__}: {str(error).strip()[:400]}"
        fix = 'Calibrate the model before it is sharded or wrapped; the recipe holds for both. Or method="predict".'
        raise InitframeError(Problem("model", fact, "", fix)) from error


def _detached(model: nn.Module) -> dict[int, Any]:
    """Copy the tensors on an autograd graph that modules hold as attributes (a computed weight, a stored activation).

    Returns:
        A memo for :func:`copy.deepcopy`, which refuses such tensors.
    """
    held = (value for module in model.modules() for value in vars(module).values())
    return {id(value): value.detach().clone() for value in held if isinstance(value, Tensor) and not value.is_leaf}


def _nothing(_: Call, __: Tensor) -> None:
    """Nobody needs rows here."""


class _Scaling(Watch):  # type: ignore[no-untyped-call]
    """A watch that sends every weight's output on at the target's size."""

    def __init__(self, parts: Parts, seen: Any, weights: Mapping[int, str], tuner: Tuner) -> None:
        super().__init__(parts, seen, weights)
        self.tuner = tuner

    def operate(self, func: Any, known: Facts, args: Any, kwargs: Any) -> Any:  # noqa: ARG002
        """Run an operation; of one that multiplies with a weight, scale what the weight made."""
        out = func(*args, **kwargs)
        name = self._used(func, args)
        if name is None:
            return out
        bias = _bias(func, args, out)
        part = out if bias is None else out - bias
        squares = [
            _mean(part, part),
            0.0 if bias is None else _mean(part, bias),
            0.0 if bias is None else _mean(bias, bias),
        ]
        factor = self.tuner.factor(name, *squares)
        if factor == 1:
            return out
        return part * factor if bias is None else bias + part * factor

    def _used(self, func: Any, args: Any) -> str | None:
        return used(func, args, self.weights)


def used(func: Any, args: Any, weights: Mapping[int, str]) -> str | None:
    """The weight that an operation multiplies with or looks rows up in, if there is one."""
    if op_name(func) not in ("matmul", "_grouped_mm", "conv", "embedding"):
        return None
    found = [weights.get(storage(t)) for t in args if isinstance(t, Tensor) and t.ndim > 1]
    return next((name for name in found if name is not None), None)


def _bias(func: Any, args: Any, out: Tensor) -> Tensor | None:
    """The bias that an operation added, as it broadcasts over the output."""
    name = func.overloadpacket.__name__
    if name in ("addmm", "baddbmm"):
        return args[0].expand(out.shape)  # type: ignore[no-any-return]
    if name == "convolution" and args[2] is not None:
        return args[2].reshape(1, -1, *[1] * (out.ndim - 2)).expand(out.shape)  # type: ignore[no-any-return]
    return None


def _mean(one: Tensor, other: Tensor) -> float:
    return (one.double() * other.double()).mean().item() if one.numel() else 0.0


# --- by prediction ---------------------------------------------------------------------------------------------------


def _predicted(plan: Plan, batch: Any, tuner: Tuner) -> None:
    """Walk the model, and scale each weight's state where it is first used."""
    prepared = prepare(plan, batch)
    walk = _ScalingWalk(prepared, tuner)
    try:
        prepared.run(walk)
    except Exception as error:
        raise failed(error, walk.where, batch, "calibrate") from error


class _ScalingWalk(Walk):  # type: ignore[no-untyped-call]
    """A walk on which every weight is scaled before its output goes on."""

    def __init__(self, prepared: Prepared, tuner: Tuner) -> None:
        super().__init__(prepared.parts, _nothing, prepared.names, prepared.states, prepared.fake, prepared.rules)
        self.tuner = tuner
        self.state = {prepared.parts.planned(name): tensor for name, tensor in prepared.state.items()}

    def applied(self, operation: Any) -> Any:
        """Apply a rule; of one that multiplies with a weight, twice if the weight gets a factor."""
        found = super().applied(operation)
        args = operation.given.values()
        name = used(operation.func, args, self.weights)
        if name is None or not isinstance(found, Grid):
            return found
        again = name in self.tuner.rows
        factor = self.tuner.factor(name, *self._squares(found, operation))
        if factor == 1 or again:
            return found
        views = [t for t in args if isinstance(t, Tensor) and self.weights.get(storage(t)) == name]
        for tensor in {id(t): t for t in [*views, self.state[name]]}.values():
            state = self.states.get(tensor)
            if isinstance(state, Grid):
                self.states.put(tensor, scaled(state, factor))
        return super().applied(operation)

    def _squares(self, found: Grid, operation: Any) -> tuple[float, float, float]:
        square = average(averaged(found).square)
        argument = "bias" if "bias" in operation.given else "self"
        added = operation.func.overloadpacket.__name__ in ("addmm", "baddbmm", "convolution")
        bias = operation.grid(argument) if added and isinstance(operation.given.get(argument), Tensor) else None
        extra = average(averaged(bias).square) if bias is not None else 0.0
        return max(square - extra, 0.0), 0.0, extra


# --- the recipe ------------------------------------------------------------------------------------------------------


def with_factors(plan: Plan, factors: Mapping[str, float]) -> Recipe:
    """The plan's recipe with a rule for each weight that has a factor, the last ones, so that they win.

    Args:
        plan: what the factors were found for.
        factors: by tensor name; 1 needs no rule.
    """
    data = plan.recipe.to_dict()
    for assignment in plan.assignments:
        factor = factors.get(assignment.slot.name, 1.0) * assignment.factor
        if factors.get(assignment.slot.name, 1.0) != 1.0:
            data["rules"][f"calibrated {assignment.slot.name}"] = _rule(assignment, factor)
    return replace(load_recipe(data), name=f"{plan.recipe.name}, calibrated")


KEPT = ("axes", "split", "units", "padding", "companions", "kind")
"""Keys of a rule that decide about numbers, next to the initializer and its arguments."""


def _rule(assignment: Assignment, factor: float) -> dict[str, Any]:
    """A rule for one tensor alone: its own initializer and numbers, and the factor."""
    slot = assignment.slot
    written = assignment.rule.to_dict()
    kept: dict[str, Any] = {key: written[key] for key in KEPT if key in written}
    numbers = {k: list(v) if isinstance(v, tuple) else v for k, v in assignment.arguments.items() if v is not None}
    names = [slot.name, *slot.aliases]
    return {
        "match": names if len(names) > 1 else names[0],
        **kept,
        "init": written["init"],
        **numbers,
        "factor": factor,
    }
