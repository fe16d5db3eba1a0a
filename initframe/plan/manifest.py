"""The manifest: what is needed to make the same numbers again, and to know that they are the same."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from initframe import stream
from initframe.errors import Problem, ResolveError
from initframe.fills import Fill
from initframe.fills.record import constants, needs, to_record
from initframe.model.slot import Slot
from initframe.plan.report import Left, Report, Result
from initframe.version import __version__

FORMAT = 2
SUM = "sum"
"""The key of the sum over all other keys."""


def manifest(report: Report) -> dict[str, Any]:
    """Return a report as the record that reproduces it.

    Args:
        report: from :func:`initframe.apply`, with ``measure=True`` if digests are wanted.

    Returns:
        Plain data for JSON: the resolved recipe, as :func:`initframe.load_recipe` takes it, seed, stream version,
        versions, and every tensor of the model. ``tensors`` are those that :func:`initframe.regenerate` gives, each
        with its shape, dtype, rule, fill (with the float32 constants that were drawn with, as hex bits), digest, and
        what its bits rest on besides the stream; ``others`` are the rest, each with its digest and what it needs.
        ``run`` is a number computed from all that, so that equal runs have equal ones. ``sum`` is that of the record
        itself (:func:`seal`).

    Raises:
        ResolveError: it is no report.

    >>> from initframe import reinit
    >>> record = manifest(reinit(nn.Linear(2, 2), {"rules": {"bias": {"init": "normal", "std": 0.5}}}, seed=7))
    >>> record["seed"], record["tensors"][0]["fill"]["constants"]["std"]
    (7, '3f000000')
    >>> [(other["name"], other["needs"]) for other in record["others"]]
    [('weight', 'current values')]
    """
    _demand_report(report)
    plan = report.plan
    entries = [*(_written(result, report.generator) for result in report.results), *map(_left, report.left)]
    content = {
        "recipe": plan.recipe.to_dict(),
        "seed": report.seed,
        "generator": report.generator,
        "stream": {"version": stream.VERSION} if report.generator == "stream" else None,
        "tensors": [entry for entry in entries if "needs" not in entry],
        "others": [entry for entry in entries if "needs" in entry],
    }
    return seal(
        {
            "format": FORMAT,
            "run": hashlib.sha256(_canonical(content)).hexdigest()[:32],
            "model": plan.title,
            "recipe_name": plan.recipe.name,
            **content,
            "versions": _versions(report.model),
            "untouched": list(plan.untouched),
            "skipped": dict(plan.skipped),
            "companions": plan.companions,
        }
    )


def _demand_report(report: object) -> None:
    """Refuse anything but a report, such as a plan, which has written nothing yet."""
    if not isinstance(report, Report):
        fact, fix = f"got {type(report).__name__} for a report.", "Take what apply, reinit or materialize returned."
        raise ResolveError(Problem("manifest", fact, fix=fix))


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the sum over its content, as its last key.

    Args:
        record: plain data; a sum that it has is replaced.

    >>> sealed = seal({"seed": 7})
    >>> sealed["sum"] == sum_of(sealed)
    True
    """
    return {**{key: value for key, value in record.items() if key != SUM}, SUM: sum_of(record)}


def sum_of(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record without its sum: of its JSON with sorted keys, without spaces, in ASCII.

    Args:
        record: plain data.
    """
    return hashlib.sha256(_canonical({key: value for key, value in record.items() if key != SUM})).hexdigest()


def to_text(record: Mapping[str, Any]) -> str:
    """Return a record as the text of its file; a file with any other text was changed.

    Args:
        record: plain data.
    """
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _canonical(record: Any) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def _written(result: Result, generator: str) -> dict[str, Any]:
    """A tensor that a rule matched."""
    fill, rule = result.assignment.fill, result.assignment.rule
    lack = "its layer" if result.computed else needs(fill)
    if not lack and generator != "stream":
        lack = "torch's generator"
    entry = {
        **_facts(result.slot),
        "rule": rule.name,
        "init": rule.init,
        "fill": _fill(fill, complete=not lack),
        "digest": result.digest,
    }
    if result.computed:
        entry["persistent"] = False
    if result.slot.name != result.name:
        entry["stream"] = result.name
    if lack:
        return {**entry, "needs": lack}
    rests = ["constructor"] * (result.assignment.origin is not None) + ["LAPACK"] * any(p.lapack for p in fill.parts())
    return {**entry, "rests_on": rests} if rests else entry


def _left(left: Left) -> dict[str, Any]:
    """A tensor that no rule matched, or that a layer computes another one from."""
    slot, lack = left.slot, "current values"
    if slot.part_of:
        lack = f"its layer, which computes {slot.part_of} from it"
    elif slot.views and not slot.aliases:  # a name of another tensor, as a slot of its own
        lack = f"{slot.views[0]}, of which it is a view"
    digest = f"{left.found.digest:016x}" if left.found else None
    return {**_facts(slot), "digest": digest, "needs": lack}


def _facts(slot: Slot) -> dict[str, Any]:
    facts = {
        "name": slot.name,
        "aliases": [name for name in slot.aliases if name not in slot.views],
        "shape": list(slot.shape),
        "dtype": str(slot.dtype).removeprefix("torch."),
    }
    return facts if slot.persistent else {**facts, "persistent": False}


def _fill(fill: Fill, *, complete: bool) -> dict[str, Any]:
    """A fill's data with the constants of every distribution in it, so that no libm is needed to draw it again."""
    drawn = constants(fill)
    data = to_record(fill) if complete else fill.to_dict()
    return data | ({"constants": drawn[0] if len(drawn) == 1 else drawn} if drawn else {})


def _versions(model: object) -> dict[str, str]:
    """The versions of this package, of torch and Python, and of the libraries whose classes the model is made of."""
    own = {"initframe": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    return {**own, **dict(_libraries(model))}


def _libraries(model: object) -> Iterator[tuple[str, str]]:
    modules = model.modules() if isinstance(model, nn.Module) else ()
    classes = {kind for module in modules for kind in type(module).__mro__}
    for name in sorted({kind.__module__.partition(".")[0] for kind in classes} - {"initframe", "torch", "builtins"}):
        if name in sys.stdlib_module_names:
            continue
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):  # the user's own code often has none
            yield name, str(version)
