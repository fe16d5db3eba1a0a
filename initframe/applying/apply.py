"""Apply a plan: locate its tensors, refuse what would fail half-way, write, and measure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initframe.applying import torch_init
from initframe.applying.averages import find_copies, find_outside, stale_copies
from initframe.applying.backup import restored_on_failure, told_on_failure
from initframe.applying.draw import Piece, Progress, paint
from initframe.applying.exclusive import exclusive
from initframe.applying.locate import NO_MODEL, Model, Write, current_survey, demand_plan, locate, without_memory
from initframe.applying.measure import Sample, bits, combine, sample
from initframe.applying.optimizer_state import Optimizers, check_optimizers, clear_state, clear_units
from initframe.applying.placements import held, unplaced
from initframe.applying.regions import Region
from initframe.applying.replicas import demand_agreement
from initframe.applying.uncompiled import uncompiled
from initframe.applying.write import Generator, is_sharded, refresh, unwritable, write_all
from initframe.errors import Problem, ResolveError, StreamError
from initframe.fills import Copied, Fill, Partial
from initframe.model.memory import memoryless
from initframe.model.obstacles import obstacle
from initframe.model.place import Place
from initframe.model.slot import Slot
from initframe.model.survey import Survey, survey
from initframe.plan import Plan
from initframe.plan.param_groups import unheeded, warn
from initframe.plan.report import Left, Measured, Report, Result
from initframe.resolver.only import Only, out_of_sight, restricted
from initframe.resolver.resolve import Written, resolve, resolve_surveyed
from initframe.stream import key


@uncompiled
def apply(
    plan: Plan,
    seed: int | None = None,
    *,
    module: Model | None = None,
    generator: Generator = "stream",
    measure: bool | Literal["after"] = False,
    verify_replicas: bool = False,
    optimizer: Optimizers | None = None,
    averages: Sequence[Any] = (),
    only: Only = None,
    on_progress: Progress | None = None,
    restore: bool = False,
) -> Report:
    """Write a plan into its tensors, in place. Everything that can fail is checked before the first write.

    If the model is sharded (DTensor: fully_shard, tensor parallelism), every process fills the elements that it holds
    and communicates with none; ``measure`` and ``verify_replicas`` communicate, and must be given on all.

    Args:
        plan: from :func:`initframe.resolve`.
        seed: of the stream, 0 ≤ seed < 2⁶⁴, by default 0. With ``generator="torch"``, the seed of torch's generator,
            which by default continues from its current state.
        module: another model with the same names and shapes (a pipeline stage, a materialized copy); by default the
            model that was resolved. A stage gets those of the plan's tensors that it has.
        generator: ``"stream"``, or ``"torch"`` to draw with torch.nn.init in state_dict order.
        measure: whether to measure mean and std before and after, and a digest, of the tensors that the plan leaves
            alone, too: passes over memory. ``"after"`` if the values before do not matter.
        verify_replicas: whether to compare the digests of the plan's tensors, and of all that it leaves untouched,
            buffers included, over all processes.
        optimizer: forgets its state (moments, step counts) of the tensors that are written, and of no others; so do
            optimizers that it wraps. Of several optimizers, a list. If a rule writes some units only, their moments are
            forgotten.
        averages: copies of the model outside of it (averages, target networks), as modules or mappings of tensors:
            what is written to the model is written to them, too.
        only: names or patterns of the tensors that are meant, as for :func:`initframe.resolve`.
        on_progress: told how many elements were filled here since it was last told.
        restore: whether to put everything back that was touched, the optimizer's state included, whatever is raised.
            Costs one copy of it. With several processes, all wait for each other, and all put back if one fails.
            Without it, the error has a note that says which tensors were written.

    Returns:
        What happened.

    Raises:
        ResolveError: names or shapes do not fit, a tensor has no memory, or a seed is out of range.
        InitframeError: processes hold different values, after the write.

    >>> from initframe import resolve
    >>> model = nn.Linear(2, 2)
    >>> report = apply(resolve({"rules": {"bias": "ones"}}, model), seed=0)
    >>> model.bias.tolist()
    [1.0, 1.0]
    """
    demand_plan(plan, "apply")
    model = plan.model if module is None else module
    if model is None:
        raise ResolveError(NO_MODEL)
    reshard(model)
    seen = current_survey(plan, model)
    return apply_surveyed(
        restricted(plan, out_of_sight(only, seen)),
        seen,
        model,
        seed,
        generator=generator,
        measure=measure,
        verify_replicas=verify_replicas,
        optimizer=optimizer,
        averages=averages,
        on_progress=on_progress,
        restore=restore,
    )


def apply_surveyed(
    plan: Plan,
    seen: Survey,
    model: Model,
    seed: int | None = None,
    *,
    generator: Generator = "stream",
    measure: bool | Literal["after"] = False,
    verify_replicas: bool = False,
    optimizer: Optimizers | None = None,
    averages: Sequence[Any] = (),
    on_progress: Progress | None = None,
    restore: bool = False,
) -> Report:
    """Write a plan into the tensors of a model that was surveyed already.

    Args:
        plan: from :func:`initframe.resolve`.
        seen: the survey of the model as it is now.
        model: the model itself.
        seed: as for :func:`apply`, and so all others.
        generator: likewise.
        measure: likewise.
        verify_replicas: likewise.
        optimizer: likewise.
        averages: likewise.
        on_progress: likewise.
        restore: likewise.

    Returns:
        What happened.

    Raises:
        ResolveError: as :func:`apply`.
        InitframeError: likewise.

    >>> from initframe import resolve
    >>> model = nn.Linear(2, 2)
    >>> plan = resolve({"rules": {"bias": "ones"}}, model)
    >>> [result.name for result in apply_surveyed(plan, survey(model), model).results]
    ['bias']
    """
    with restored_on_failure(wanted=restore) as backup:
        optimizers = check_optimizers(optimizer)
        original, plan = plan, plan if generator == "stream" else torch_init.as_torch_leaves_it(plan)
        writes, problems = prepared(plan, model, seen, seed, generator)
        problems += without_memory(writes)
        outside, wrong = find_outside(averages, writes) if averages else ([], [])
        problems += wrong
        number = 0 if seed is None else checked_seed(seed)
        touched = [write for write in writes if not write.kept]
        held = [tensor for write in touched for tensor in write.place.held]
        with torch.no_grad():
            if problems := problems or unwritable(writes, number, generator):
                raise ResolveError(*problems)
            before = _samples(writes) if measure is True else []
            copies = find_copies(model)
            done: list[Write] = []
            with exclusive(held), nullcontext() if restore else told_on_failure(writes, done):
                if restore:
                    backup.take(writes, optimizers, [mine for mine, _ in outside])
                own = None if seed is None and generator == "torch" else number
                write_all(writes, own, generator, on_progress or (lambda _: None), done, _prepared_draws(plan, seen))
                refresh(writes, seen)
                for mine, source in outside:
                    mine.copy_(source)
            after = combine(_samples(writes)) if measure or verify_replicas else []
            left = _left(writes, seen, measured=bool(measure))
        if verify_replicas:
            _demand_agreement(original, model, seen, writes, after)
        forgotten = None if optimizer is None else _forget(optimizers, touched)
        results = _results(writes, combine(before), after if measure else [])
        if plan.recipe.companions == "warn" and plan.asks:
            warn(unheeded(plan.asks, plan.recipe.name))
        stale = stale_copies(copies, set(map(id, held)))
        drawn_from = number if generator == "stream" or seed is not None else None
        return Report(plan, drawn_from, generator, results, stale, forgotten, model, left)


@uncompiled
def reinit(model: Model, recipe: Written, seed: int | None = None, **options: Any) -> Report:
    """Load a recipe, resolve it against a model and apply it: the three in one.

    Args:
        model: any ``nn.Module``, changed in place; or a state_dict, whose tensors are.
        recipe: a Recipe, a preset's name, a path to a YAML file, or a mapping; or a list of them, laid over each other.
        seed: 0 ≤ seed < 2⁶⁴, by default 0.
        **options: as :func:`apply` takes them.

    Returns:
        What happened.

    Raises:
        RecipeError: the recipe is wrong for every model; nothing was written.
        ResolveError: recipe and model do not fit together; nothing was written.

    >>> report = reinit(nn.Linear(2, 2), {"rules": {"*.weight": "xavier_uniform", "*.bias": "zeros"}}, seed=0)
    >>> [result.name for result in report.results]
    ['weight', 'bias']
    """
    if (module := options.pop("module", None)) is not None:
        return apply(resolve(recipe, model), seed, module=module, **options)
    reshard(model)
    seen, only = survey(model), options.pop("only", None)
    return apply_surveyed(resolve_surveyed(recipe, seen, model, only), seen, model, seed, **options)


@uncompiled
def fill_(tensor: Tensor, fill: Fill, *, name: str, seed: int = 0, region: Region | None = None) -> Tensor:
    """Fill one tensor in place, no model and no recipe: the numbers of a slot of that name.

    Args:
        tensor: any floating-point tensor; of a DTensor, the local shard is filled.
        fill: what it will hold.
        name: the stream's name; the same name and seed give the same numbers.
        seed: 0 ≤ seed < 2⁶⁴.
        region: the part of a larger tensor that a plain tensor holds, from
            :func:`initframe.applying.placements.sharded`; the fill is the larger tensor's.

    Returns:
        The tensor.

    Raises:
        ResolveError: the fill cannot be drawn, or the tensor cannot hold it.

    >>> from initframe import Constant
    >>> fill_(torch.empty(3), Constant(8), name="b").tolist()
    [8.0, 8.0, 8.0]
    """
    if problem := _unfillable(tensor, region):
        raise ResolveError(problem.on(f"tensor {name!r}"))
    local, region = held(tensor) if region is None else (tensor, region)
    if isinstance(fill, Copied) and fill.from_memory:
        fact = f"its fill is {fill}, which is read from a model, and there is none here."
        raise ResolveError(Problem(f"tensor {name!r}", fact, fix="Apply a recipe to the model: initframe.reinit."))
    if found := fill.problem(region.shape, tensor.dtype) or fill.trial(tensor.device):
        raise ResolveError(found.on(f"tensor {name!r}"))
    with torch.no_grad():
        paint([Piece(fill, local, region, name)], checked_seed(seed))
    return tensor


# --- before the first write ------------------------------------------------------------------------------------------


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
    """
    if generator not in ("stream", "torch"):
        raise ResolveError(Problem("generator", f"unknown generator {generator!r}.", "Options: stream, torch."))
    checked_seed(0 if seed is None else seed)
    writes, problems = locate(plan, model, seen)
    problems = [*_without_factors(plan), *filter(None, map(_unnameable, writes)), *problems]
    return writes, problems + (_unknown_to_torch(writes, seed) if generator == "torch" else [])


def _without_factors(plan: Plan) -> list[Problem]:
    """Refuse the preset ``auto`` as it is written: without the factors that a prediction finds, it is torch_default."""
    if not plan.recipe.requires or not any(rule.name == "auto" for rule in plan.recipe.rules):
        return []
    fact = "it has no factors yet; they depend on the model."
    options = "initframe.signal.auto.auto(model) predicts them; initframe.calibrate(model, recipe, batch) measures."
    fix = "Apply the recipe that one of these returns, for example reinit(model, auto(model))."
    return [Problem(f"recipe {plan.recipe.name!r}", fact, options, fix)]


def _prepared_draws(plan: Plan, seen: Survey) -> dict[int, Any]:
    """What earlier applications of the plan have prepared: addresses, which hold as long as the survey does."""
    kept: dict[int, Any]
    assignments, kept = seen.memo.get("drawn", (None, {}))
    if assignments is not plan.assignments:
        kept = {}
        seen.memo["drawn"] = plan.assignments, kept
    return kept


def _unnameable(write: Write) -> Problem | None:
    """Refuse a name that addresses no numbers, as it cannot be written as UTF-8."""
    if write.name.isascii():
        return None
    try:
        key(write.name, 0)
    except StreamError:
        return Problem(write.name, "its name has half of a character.", fix="Rename it in the model.")
    return None


def checked_seed(seed: int) -> int:
    """Give a seed of the stream back, or refuse it.

    Raises:
        ResolveError: it is no integer from 0 to 2⁶⁴ − 1.

    >>> checked_seed(7)
    7
    """
    given: object = seed
    whole = isinstance(given, Integral) and not isinstance(given, bool)  # numpy's integers are some
    if not whole or not 0 <= int(seed) < 2**64:
        raise ResolveError(Problem("seed", f"got {seed!r}.", "A seed is an integer from 0 to 2**64 - 1."))
    return int(seed)


def reshard(model: Model) -> None:
    """Have fully_shard drop the parameters that a forward pass gathered: writes to them would be lost."""
    if "torch.distributed.fsdp" not in sys.modules or not isinstance(model, nn.Module):
        return
    for module in model.modules():
        if any(base.__name__ == "FSDPModule" for base in type(module).__mro__):
            module.reshard()  # type: ignore[operator]


def _unfillable(tensor: Tensor, region: Region | None) -> Problem | None:
    """Say why a tensor cannot be filled; the problem has no subject."""
    if region is not None and region.local_shape != tuple(tensor.shape):
        return Problem("", f"it has shape {list(tensor.shape)}, and its region {list(region.local_shape)}.")
    if fact := memoryless(tensor):
        return Problem("", f"it {fact} and has nothing to write to.")
    blocked = obstacle(tensor)
    return blocked.on("") if blocked else unplaced(tensor)


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


# --- after the write -------------------------------------------------------------------------------------------------


def _samples(writes: Sequence[Write]) -> list[Sample | None]:
    """Take a sample per write; of what can only be kept (lazy, quantized, …) there is none."""
    blind = (write.kept and write.slot.blocked is not None for write in writes)
    return [None if b else sample(write.place.tensor()) for b, write in zip(blind, writes, strict=True)]


def _forget(optimizers: Sequence[torch.optim.Optimizer], writes: Sequence[Write]) -> int:
    """Clear an optimizer's state of what was written; of tensors of which some units were, the units'."""
    whole = [tensor for write in writes if not isinstance(write.fill, Partial) for tensor in write.place.held]
    count = clear_state(optimizers, whole)
    for write in writes:
        if isinstance(write.fill, Partial):
            dim, size = write.fill.dim, write.slot.shape[write.fill.dim]
            own = [tensor for tensor in write.place.held if dict(enumerate(tensor.shape)).get(dim) == size]
            count += sum(clear_units(optimizers, tensor, dim, write.fill.units) for tensor in own)
    return count


def _results(
    writes: Sequence[Write], before: Sequence[Measured | None], after: Sequence[Measured | None]
) -> tuple[Result, ...]:
    """Give one result per write, measured or not."""
    nothing = [None] * len(writes)
    triples = zip(writes, before or nothing, after or nothing, strict=True)
    return tuple(
        Result(write.assignment, old, new, _other(write), write.place.computed is not None)
        for write, old, new in triples
    )


def _other(write: Write) -> Slot | None:
    """Return a tensor's facts in the model, if name or dtype are not the plan's."""
    planned, slot = write.assignment.slot, write.slot
    return None if slot.name == planned.name and slot.dtype == planned.dtype else slot


def _left(writes: Sequence[Write], seen: Survey, *, measured: bool) -> tuple[Left, ...]:
    """List the tensors that a plan does not name, with their digests if they are wanted; views of others, too."""
    written = {write.slot.name for write in writes}
    places = ((slot, seen.places[slot.name]) for slot in seen.every if slot.name not in written)
    rest = [(slot, place.held[0]) for slot, place in places if place.computed is None]  # or its originals tell it
    rest += [view for slot in seen.slots if slot.views for view in _views(slot, seen.places[slot.name])]
    found = combine([bits(tensor) for _, tensor in rest]) if measured else [None] * len(rest)
    return tuple(Left(slot, one) for (slot, _), one in zip(rest, found, strict=True))


def _views(slot: Slot, place: Place) -> Iterator[tuple[Slot, Tensor]]:
    """Yield the names under which a tensor is shown in another form, as slots of their own."""
    for name, (owner, attribute) in zip((slot.name, *slot.aliases), place.owners, strict=False):
        if name in slot.views:
            tensor = getattr(owner, attribute) if isinstance(owner, nn.Module) else owner[attribute]
            yield replace(slot, name=name, aliases=(), shape=tuple(tensor.shape), views=(slot.name,)), tensor


def _demand_agreement(
    plan: Plan, model: Model, seen: Survey, writes: Sequence[Write], after: Sequence[Measured | None]
) -> None:
    """Compare all processes' tensors: those of the plan, and all others that the model has, buffers included."""
    digests = {write.name: one.digest for write, one in zip(writes, after, strict=True) if one}
    known = seen if model is plan.model or plan.model is None else current_survey(plan, plan.model)
    slots = [*(a.slot for a in plan.assignments), *known.every]
    first = {name: slot.name for slot in slots for name in (slot.name, *slot.aliases)}  # in every stage the same
    places = {first[name]: place for name, place in seen.places.items() if name in first}
    rest = {name: place.direct for name, place in places.items() if place.direct is not None and name not in digests}
    found = combine([bits(tensor) for tensor in rest.values()])
    digests |= {name: one.digest for name, one in zip(rest, found, strict=True) if one}
    demand_agreement(digests, sorted({*first.values()}))
