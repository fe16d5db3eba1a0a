"""trace(build) → plan: what a constructor does to every parameter."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from initframe.construction.deferred import CONSTRUCTOR
from initframe.construction.memory import demand_memory, without_memory
from initframe.construction.record import Twins, recorded
from initframe.construction.recorder import Recorder
from initframe.errors import InitframeError, Problem, ResolveError
from initframe.fills.constructed import Constructed
from initframe.fills.equal import same
from initframe.fills.table import Table
from initframe.model.remembered import remember, remembered
from initframe.model.survey import survey
from initframe.plan import Plan
from initframe.resolver.constructed import RULE, constructed_assignment, constructed_slots, related

Build = Callable[[], nn.Module]
Shape = tuple[int, ...]

_ASKS_FOR_WEIGHTS = ("pretrained", "weights", "weights_backbone", "checkpoint_path")
_CHANGES = "its values are others each time the constructor runs, and no call of torch draws them"


def trace(build: Build) -> Plan:
    """Run a constructor without its parameters' memory, and read what it does to every one of them.

    Nothing of torch is replaced, and its generators are left as they were. A constructor that needs its parameters'
    values is run once more with memory, which the plan's warnings tell. One that computes a parameter's values, or
    draws from Python's or numpy's generator, is run twice: values that are others then are no table.

    Args:
        build: builds a model, without arguments: a class, a partial, a lambda.

    Returns:
        The plan of a recipe named ``constructor``: fills on the stream, each with its ``origin``. Parameters whose
        distribution cannot be read are in ``skipped``, with the reason and the place. Buffers keep their values. The
        plan's model has no memory; give it some by :func:`initframe.materialize`.

    Raises:
        ResolveError: it builds no module, takes arguments, fails, or loads trained weights.

    >>> plan = trace(lambda: nn.Linear(4, 2))
    >>> print(plan["weight"].fill, plan["bias"].fill)
    uniform(±0.5) uniform(±0.5)
    """
    _demand_builder(build)
    before = _drawn_outside_torch()
    with _generators_kept():
        model, warnings = _built(build)
        if _has_tables(model) or _drawn_outside_torch() != before:
            _refuse_what_changes(model, _built(build)[0])
    return plan_of(model, warnings)


def plan_of(model: nn.Module, warnings: tuple[str, ...] = ()) -> Plan:
    """Read a plan from what a model remembers of its constructor.

    Args:
        model: built under :func:`initframe.deferred`, or traced.
        warnings: what the reader of the plan should know.

    Returns:
        The plan.
    """
    seen = survey(model)
    found = [(slot, constructed_assignment(slot, RULE)) for slot in constructed_slots(seen)]
    assignments = tuple(related(a for _, a in found if not isinstance(a, str)))
    skipped = {slot.name: why for slot, why in found if isinstance(why, str)}
    kept = {s.name: "it is a buffer, and has its values already." for s in seen.slots if s.kind == "buffer"}
    return Plan(CONSTRUCTOR, seen.title, assignments, (), skipped, warnings, kept, model)


# --- running the constructor -----------------------------------------------------------------------------------------


def _demand_builder(build: object) -> None:
    """Refuse what cannot be called without arguments, and what asks for trained weights."""
    if isinstance(build, nn.Module) or not callable(build):
        raise ResolveError(
            Problem(
                "trace", f"it takes a function that builds a model, got {build!r:.60}.", "", "Write trace(lambda: …)."
            )
        )
    for name, value in _arguments(build).items():
        if name in _ASKS_FOR_WEIGHTS and value:
            raise _loads(f"it is called with {name}={value!r}")


def _arguments(build: Build) -> dict[str, Any]:
    """What a function gets by its defaults and by a partial; nothing is known of some classes written in C."""
    given = build.keywords if isinstance(build, partial) else {}
    try:
        defaults = {p.name: p.default for p in inspect.signature(build).parameters.values() if p.default is not p.empty}
    except (TypeError, ValueError):
        defaults = {}
    return defaults | given


def _loads(fact: str) -> ResolveError:
    return ResolveError(
        Problem(
            "trace",
            f"{fact}: trained weights are no initialization.",
            "",
            "Build it without (pretrained=False, weights=None).",
        )
    )


def _built(build: Build) -> tuple[nn.Module, tuple[str, ...]]:
    """Run a constructor on meta; where it needs values, with memory."""
    twins = Twins()
    try:
        with recorded(twins) as recorder:
            model = _called(build)
    except InitframeError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a constructor raises for lack of values
        first = error
    else:
        _check_loaded(recorder)
        return model, ()
    before = recorder.registered
    demand_memory(twins, first)
    try:
        with recorded(None) as recorder:
            model = _called(build)
    except InitframeError:
        raise
    except Exception as error:
        raise ResolveError(
            Problem(
                "trace",
                f"the constructor raises {type(error).__name__}: {error}",
                "",
                "Call it by itself, and mend that first.",
            )
        ) from error
    _check_loaded(recorder)
    _demand_the_same(before, recorder.registered)
    without_memory(model)
    fact = f"{type(first).__name__}: {str(first).splitlines()[0] if str(first) else ''}"
    return model, (f"the constructor needs its parameters' values ({fact:.120}): it was run with memory.",)


def _demand_the_same(before: Sequence[Shape], after: Sequence[Shape]) -> None:
    """Refuse a constructor that gave its modules other parameters when it was run again."""
    one, other = next(((a, b) for a, b in zip(before, after, strict=False) if a != b), (None, None))
    if one is not None and other is not None:
        raise ResolveError(
            Problem(
                "trace",
                f"it builds another model each time: a parameter of shape {list(one)}, then one of {list(other)}.",
                "",
                "Write a function that builds the same model every time.",
            )
        )


def _called(build: Build) -> nn.Module:
    made: Any = build()
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise ResolveError(
            Problem("trace", f"what it was given builds a {kind}, no torch.nn.Module.", "", "Return the model.")
        )
    return made


def _check_loaded(recorder: Recorder) -> None:
    if recorder.loaded:
        raise _loads(f"the constructor loads a state_dict ({recorder.loaded.origin()})")


# --- values that are computed ----------------------------------------------------------------------------------------


def _has_tables(model: nn.Module) -> bool:
    """Whether a constructor computed the values of a parameter."""
    found = (how.fill for module in model.modules() for how in remembered(module).values() if how.fill)
    return any(isinstance(part, Table) for fill in found for part in fill.parts())


def _refuse_what_changes(model: nn.Module, again: nn.Module) -> None:
    """Forget the fills of parameters that another run of the same constructor did not give the same."""
    others = {name: remembered(module) for name, module in again.named_modules()}
    for name, module in model.named_modules():
        if found := remembered(module):
            other = others.get(name, {})
            remember(module, {key: _settled(how, other.get(key)) for key, how in found.items()})


def _settled(how: Constructed, other: Constructed | None) -> Constructed:
    if how.fill is None or (other is not None and other.fill is not None and same(how.fill, other.fill)):
        return how
    return replace(how, fill=None, reason=_CHANGES)


def _drawn_outside_torch() -> Any:
    """The states of Python's and numpy's global generators."""
    numpy = sys.modules.get("numpy")
    _, key, *rest = numpy.random.get_state() if numpy else ("", b"")
    return random.getstate(), bytes(key), rest


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put the states of all generators back that a constructor may have drawn from."""
    python, numpy = random.getstate(), sys.modules.get("numpy")
    legacy = numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        if numpy:
            numpy.random.set_state(legacy)
