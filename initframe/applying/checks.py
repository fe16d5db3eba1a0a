"""What is checked before the first write: the plan, the seed, the generator and every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from torch import Tensor

from initframe.applying import torch_init
from initframe.applying.locate import Model, Write, locate, with_turns
from initframe.applying.placements import unplaced
from initframe.applying.regions import Region
from initframe.applying.write import Generator, is_sharded
from initframe.errors import Problem, ResolveError, StreamError, shown
from initframe.fills import Fill
from initframe.model.memory import memoryless
from initframe.model.obstacles import obstacle
from initframe.model.survey import Survey
from initframe.plan import Plan
from initframe.stream import key


def prepared(
    plan: Plan, model: Model, seen: Survey, seed: int | None, generator: Generator
) -> tuple[list[Write], list[Problem]]:
    """Find what a plan will write, and every problem but a lack of memory.

    Args:
        plan: from :func:`initframe.resolve`.
        model: where it goes.
        seen: the model's survey.
        seed: as :func:`apply` takes it.
        generator: likewise.

    Returns:
        The writes, and what would fail.

    Raises:
        ResolveError: there is no such seed or generator.

    >>> from torch import nn
    >>> from initframe import resolve
    >>> from initframe.model.survey import survey
    >>> model = nn.Linear(2, 2)
    >>> writes, problems = prepared(resolve({"rules": {"bias": "ones"}}, model), model, survey(model), 0, "stream")
    >>> [write.name for write in writes], problems
    (['bias'], [])
    """
    if generator not in ("stream", "torch"):
        raise ResolveError(Problem("generator", f"unknown generator {generator!r}.", "Options: stream, torch."))
    checked_seed(0 if seed is None else seed)
    writes, problems = locate(plan, model, seen)
    unusual = [write for write in writes if not write.name.isascii()]
    unnameable = [problem for write in unusual if (problem := _unnameable(write))]
    problems = _without_factors(plan) + unnameable + problems
    if generator == "torch":
        writes = with_turns(writes, seen)
        problems += _unknown_to_torch(writes, seed)
    return writes, problems


def checked_seed(seed: int) -> int:
    """Give a seed of the stream back, or refuse it.

    Raises:
        ResolveError: it is no integer from 0 to 2⁶⁴ − 1.

    >>> checked_seed(7)
    7
    """
    given: object = seed
    whole = type(given) is int or (isinstance(given, Integral) and not isinstance(given, bool))  # numpy's are some
    if not whole or not 0 <= int(seed) < 2**64:
        is_close = hasattr(given, "item") or (given.isdecimal() if isinstance(given, str) else isinstance(given, float))
        fix = "Write seed % 2**64." if whole else "Write int(seed)." if is_close else ""
        raise ResolveError(Problem("seed", f"got {seed!r}.", "A seed is an integer from 0 to 2**64 - 1.", fix))
    return int(seed)


def demand_options(measure: object, on_progress: object) -> None:
    """Refuse options that would fail, or mean something else, after the first write.

    Raises:
        ResolveError: ``measure`` is not one of its values, or ``on_progress`` cannot be called.

    >>> demand_options("after", None)
    """
    problems = []
    if not (isinstance(measure, bool) or measure == "after"):
        problems.append(Problem("measure", f"got {shown(measure)}.", "Options: True, False, 'after'."))
    if not (on_progress is None or callable(on_progress)):
        fix = "Give a function of the number of elements that were filled."
        problems.append(Problem("on_progress", f"got {shown(on_progress)}, which cannot be called.", fix=fix))
    if problems:
        raise ResolveError(*problems)


def demand_fill(tensor: object, fill: object, name: object) -> None:
    """Refuse what :func:`fill_` cannot take.

    Raises:
        ResolveError: one of them is of another type.

    >>> import torch
    >>> demand_fill(torch.empty(2), "zeros", name="w")
    Traceback (most recent call last):
    initframe.errors.ResolveError: fill: got 'zeros'. Give a fill, such as initframe.Normal(0, 1).
    """
    problems = []
    if not isinstance(tensor, Tensor):
        problems.append(Problem("tensor", f"got {type(tensor).__name__}.", fix="Give a torch.Tensor."))
    if not isinstance(fill, Fill):
        problems.append(Problem("fill", f"got {shown(fill)}.", fix="Give a fill, such as initframe.Normal(0, 1)."))
    if not isinstance(name, str):
        problems.append(Problem("name", f"got {shown(name)}.", fix="Give a text: it addresses the stream's numbers."))
    if problems:
        raise ResolveError(*problems)


def unfillable(tensor: Tensor, region: Region | None) -> Problem | None:
    """Say why a tensor cannot be filled.

    Args:
        tensor: what would be written to.
        region: the part of a larger tensor that it holds, if it was given one.

    Returns:
        The problem, without a subject; ``None`` if the tensor can be filled.

    >>> import torch
    >>> print(unfillable(torch.empty(2, device="meta"), None))
    it is on the meta device and has nothing to write to.
    """
    if region is not None and region.local_shape != tuple(tensor.shape):
        return Problem("", f"it has shape {list(tensor.shape)}, and its region {list(region.local_shape)}.")
    if fact := memoryless(tensor):
        return Problem("", f"it {fact} and has nothing to write to.")
    blocked = obstacle(tensor)
    return blocked.on("") if blocked else unplaced(tensor)


def _without_factors(plan: Plan) -> list[Problem]:
    """Refuse the preset ``auto`` as it is written: without the factors that a prediction finds, it is torch_default."""
    if not plan.recipe.requires or not any(rule.name == "auto" for rule in plan.recipe.rules):
        return []
    fact = "it has no factors yet; they depend on the model."
    options = "initframe.signal.auto.auto(model) predicts them; initframe.calibrate(model, recipe, batch) measures."
    fix = "Apply the recipe that one of these returns, for example reinit(model, auto(model))."
    return [Problem(f"recipe {plan.recipe.name!r}", fact, options, fix)]


def _unnameable(write: Write) -> Problem | None:
    """Refuse a name that addresses no numbers, as it cannot be written as UTF-8."""
    try:
        key(write.name, 0)
    except StreamError:
        return Problem(write.name, "its name has half of a character.", fix="Rename it in the model.")
    return None


def _unknown_to_torch(writes: Sequence[Write], seed: int | None) -> list[Problem]:
    """Say what torch.nn.init lacks, cannot draw for the dtype, or would draw differently in every process."""
    problems = list(torch_init.refusals((write.assignment, write.slot) for write in writes))
    if seed is None and any(map(is_sharded, writes)):
        fact = "without a seed, every process of a sharded model draws other numbers."
        problems.append(Problem("generator: torch", fact, fix="Give a seed."))
    for write in writes:
        if not write.kept and write.slot.views:
            fact = f"{write.slot.views[0]} shows it in another form, in which torch.nn.init would draw it once more."
            problems.append(Problem(write.slot.name, fact, fix="Use generator: stream."))
    return problems
