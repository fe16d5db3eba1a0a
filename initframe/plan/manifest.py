"""The manifest: what is needed to make the same numbers again, and to know that they are the same."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import torch

from initframe import stream
from initframe.fills import Fill, Mapped
from initframe.plan.report import Report, Result
from initframe.version import __version__

FORMAT = 1


def manifest(report: Report) -> dict[str, Any]:
    """A report as the record that reproduces it.

    Args:
        report: from :func:`initframe.apply`, with ``measure=True`` if digests are wanted.

    Returns:
        Plain data for JSON: the resolved recipe, as :func:`initframe.load_recipe` takes it, seed, stream version,
        versions, and per tensor its name, shape, dtype, rule, fill with the float32 constants that were drawn with (as
        hex bits), and digest. A fill that holds values of its own says what makes them again: ``needs``.

    >>> from torch import nn
    >>> from initframe import reinit
    >>> record = manifest(reinit(nn.Linear(2, 2), {"rules": {"bias": {"init": "normal", "std": 0.5}}}, seed=7))
    >>> record["seed"], record["tensors"][0]["fill"]["constants"]["std"]
    (7, '3f000000')
    """
    plan = report.plan
    return {
        "format": FORMAT,
        "model": plan.title,
        "recipe_name": plan.recipe.name,
        "recipe": plan.recipe.to_dict(),
        "seed": report.seed,
        "generator": report.generator,
        "stream": {"version": stream.VERSION} if report.generator == "stream" else None,
        "versions": _versions(),
        "tensors": [_tensor(result) for result in report.results],
        "untouched": list(plan.untouched),
        "skipped": dict(plan.skipped),
        "companions": plan.companions,
    }


def _versions() -> dict[str, str]:
    return {"initframe": __version__, "torch": torch.__version__, "python": platform.python_version()}


def _tensor(result: Result) -> dict[str, Any]:
    slot = result.assignment.slot
    return {
        "name": slot.name,
        "aliases": list(slot.aliases),
        "shape": list(slot.shape),
        "dtype": str(slot.dtype).removeprefix("torch."),
        "rule": result.assignment.rule.name,
        "init": result.assignment.rule.init,
        "fill": _fill(result.assignment.fill),
        "digest": result.digest,
    }


def _fill(fill: Fill) -> dict[str, Any]:
    """A fill's data with the constants of every distribution in it, so that no libm is needed to draw it again."""
    drawn = [stream.constants(*draws) for draws in _draws(fill)]
    return fill.to_dict() | ({"constants": drawn[0] if len(drawn) == 1 else drawn} if drawn else {})


def _draws(fill: Fill) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the distributions of the stream that a fill takes its numbers from, with their arguments."""
    if isinstance(fill, Mapped):  # a fill inside says what is drawn, and is not drawn itself
        yield fill.draws
        return
    if fill.distribution:
        yield fill.distribution, fill.args
    for part in fill.inner:
        yield from _draws(part)
