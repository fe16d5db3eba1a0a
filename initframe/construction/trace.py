"""trace(build) → plan: what a constructor does to every parameter."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from initframe.construction.deferred import CONSTRUCTOR
from initframe.construction.run import Build, demand_builder, run
from initframe.fills.constructed import Constructed
from initframe.fills.equal import same
from initframe.fills.table import Table
from initframe.model.remembered import remember, remembered
from initframe.model.survey import survey
from initframe.plan import Plan
from initframe.resolver.constructed import constructed_assignment, constructed_slots, related

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
    demand_builder(build)
    before = _drawn_outside_torch()
    with _generators_kept():
        model, warnings = run(build)
        if _has_tables(model) or _drawn_outside_torch() != before:
            _refuse_what_changes(model, run(build)[0])
    seen = survey(model)
    found = [(slot, constructed_assignment(slot)) for slot in constructed_slots(seen)]
    assignments = tuple(related(a for _, a in found if not isinstance(a, str)))
    skipped = {slot.name: why for slot, why in found if isinstance(why, str)}
    kept = {s.name: "it is a buffer, and has its values already." for s in seen.slots if s.kind == "buffer"}
    return Plan(CONSTRUCTOR, seen.title, assignments, (), skipped, warnings, kept, model)


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
