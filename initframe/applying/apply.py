"""Apply: find a plan's tensors, refuse what would fail half-way, fill the rest, look at what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initframe.applying import torch_init
from initframe.applying.draw import Piece, Progress, paint
from initframe.applying.locate import Target, demand_plan, find_targets, without_memory
from initframe.applying.measure import Sample, bits, combine, sample
from initframe.applying.optimizer_state import check_optimizer, clear_state, stale_copies
from initframe.applying.placements import held, unplaced
from initframe.applying.regions import Region
from initframe.applying.replicas import demand_agreement
from initframe.applying.write import Generator, is_sharded, no_way_in, write
from initframe.errors import ResolveError
from initframe.fills import Fill
from initframe.model.memory import memoryless
from initframe.model.obstacles import obstacle
from initframe.model.survey import survey
from initframe.plan import Plan
from initframe.plan.param_groups import unheeded, warn
from initframe.plan.report import Measured, Report, Result
from initframe.recipe.recipe import Recipe
from initframe.resolver.resolve import resolve

Model = nn.Module | Mapping[str, Tensor]


def apply(
    plan: Plan,
    seed: int | None = None,
    *,
    module: Model | None = None,
    generator: Generator = "stream",
    measure: bool | Literal["after"] = False,
    verify_replicas: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Write a plan into its tensors, in place. Everything that can fail is checked before the first write.

    Of a sharded model (DTensor: fully_shard, tensor parallelism) every process fills the elements that it holds, and
    asks no other process for anything; ``measure`` and ``verify_replicas`` do ask, and are to be given on all.

    Args:
        plan: from :func:`initframe.resolve`.
        seed: of the stream, 0 ≤ seed < 2⁶⁴; 0 where none is given. With ``generator="torch"``, what torch's generator
            is seeded with; without one, its current state goes on.
        module: another model with the same names and shapes (a pipeline stage, a materialized copy); by default the
            model that was resolved. A stage gets those of the plan's tensors that it has.
        generator: ``"stream"``, or ``"torch"`` to draw with torch.nn.init in state_dict order.
        measure: whether to measure mean and std before and after, and a digest: passes over memory. ``"after"`` where
            there is nothing worth measuring before.
        verify_replicas: whether to compare the digests of the plan's tensors, and of all that it leaves untouched,
            buffers included, over all processes.
        optimizer: forgets its state (moments, step counts) of the tensors that are written, and of no others; so do
            optimizers that it wraps.
        on_progress: told how many elements were filled here since it was last told.

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
    if optimizer is not None:
        check_optimizer(optimizer)
    plan = plan if generator == "stream" else torch_init.as_torch_leaves_it(plan)
    model = plan.model if module is None else module
    _reshard(model)
    targets, problems = prepared(plan, model, seed, generator)
    problems += without_memory(targets)
    number = 0 if seed is None else seed
    with torch.no_grad():
        if problems := problems or no_way_in(targets, number):
            raise ResolveError(*problems)
        before = _looked_at(targets) if measure is True else []
        write(targets, seed if generator == "torch" else number, generator, on_progress or (lambda _: None))
        after = combine(_looked_at(targets)) if measure or verify_replicas else []
    if verify_replicas:
        _demand_agreement(plan, model, targets, after)
    touched = [tensor for target in targets if not target.kept for tensor in target.place.parameter]
    forgotten = None if optimizer is None else clear_state(optimizer, touched)
    results = _results(targets, combine(before), after if measure else [])
    if plan.asks and plan.recipe.companions == "warn":
        warn(unheeded(plan.asks, plan.recipe.name))
    stale = stale_copies(model, touched)
    return Report(plan, number if generator == "stream" else seed, generator, results, stale, forgotten, model)


def reinit(
    model: Model, recipe: Recipe | Mapping[str, Any] | str | PathLike[str], seed: int | None = None, **options: Any
) -> Report:
    """Load a recipe, resolve it against a model and apply it: the three in one.

    Args:
        model: any ``nn.Module``, changed in place; or a state_dict, whose tensors are.
        recipe: a Recipe, a preset's name, a path to a YAML file, or a mapping.
        seed: 0 ≤ seed < 2⁶⁴; 0 where none is given.
        **options: as :func:`apply` takes them.

    Returns:
        What happened.

    Raises:
        RecipeError: the recipe is wrong by itself; nothing was written.
        ResolveError: recipe and model do not fit together; nothing was written.

    >>> report = reinit(nn.Linear(2, 2), {"rules": {"*.weight": "xavier_uniform", "*.bias": "zeros"}}, seed=0)
    >>> [result.name for result in report.results]
    ['weight', 'bias']
    """
    return apply(resolve(recipe, model), seed, **options)


def fill_(tensor: Tensor, fill: Fill, *, name: str, seed: int = 0, region: Region | None = None) -> Tensor:
    """Fill one tensor in place, no model and no recipe: the numbers of a slot of that name.

    Args:
        tensor: any floating-point tensor; of a DTensor, what is here.
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
        raise ResolveError(f"tensor {name!r} {problem}")
    local, region = held(tensor) if region is None else (tensor, region)
    if found := fill.problem(region.shape, tensor.dtype) or fill.trial(tensor.device):
        raise ResolveError(found)
    with torch.no_grad():
        paint([Piece(fill, local, region, name)], checked_seed(seed))
    return tensor


# --- before the first write ------------------------------------------------------------------------------------------


def prepared(plan: Plan, model: Model | None, seed: int | None, generator: Generator) -> tuple[list[Target], list[str]]:
    """Find what a plan will write, and all that speaks against it but a lack of memory.

    Args:
        plan: from :func:`initframe.resolve`.
        model: where it goes.
        seed: as :func:`apply` takes it.
        generator: likewise.

    Returns:
        The targets, and what would fail, one message each.

    Raises:
        ResolveError: seed or generator is none, or there is no model.
    """
    if generator not in ("stream", "torch"):
        raise ResolveError(f"unknown generator {generator!r}. Options: stream, torch.")
    checked_seed(0 if seed is None else seed)
    targets, problems = find_targets(plan, model)
    return targets, problems + (_unknown_to_torch(targets, seed) if generator == "torch" else [])


def checked_seed(seed: int) -> int:
    """Give a seed of the stream back, or refuse it.

    Raises:
        ResolveError: it is no integer from 0 to 2⁶⁴ − 1.

    >>> checked_seed(7)
    7
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ResolveError(f"a seed is an integer from 0 to 2**64 - 1, got {seed!r}.")
    return seed


def _reshard(model: Model | None) -> None:
    """Have fully_shard drop the parameters that a forward pass gathered: writes to them would be lost."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if any(base.__name__ == "FSDPModule" for base in type(module).__mro__):
            module.reshard()  # type: ignore[operator]


def _unfillable(tensor: Tensor, region: Region | None) -> str | None:
    """Why a tensor cannot be filled, to be read after its name."""
    if region is not None and region.local_shape != tuple(tensor.shape):
        return f"has shape {list(tensor.shape)}, and its region {list(region.local_shape)}."
    if fact := memoryless(tensor):
        return f"{fact}: there is nothing to write to."
    return obstacle(tensor) or unplaced(tensor)


def _unknown_to_torch(targets: Sequence[Target], seed: int | None) -> list[str]:
    """What torch.nn.init has not, cannot draw for the dtype, or would draw differently in every process."""
    problems = [str(found) for found in torch_init.refusals((t.assignment, t.slot) for t in targets)]
    if seed is None and any(map(is_sharded, targets)):
        problems.append("generator: torch needs a seed for a sharded model, or no two processes draw the same.")
    return problems


# --- after the write -------------------------------------------------------------------------------------------------


def _looked_at(targets: Sequence[Target]) -> list[Sample | None]:
    """A sample per target; what can only be kept (lazy, quantized, …) is not looked at."""
    blind = [target.kept and target.slot.blocked is not None for target in targets]
    return [None if b else sample(target.place.tensor()) for b, target in zip(blind, targets, strict=True)]


def _results(
    targets: Sequence[Target], before: Sequence[Measured | None], after: Sequence[Measured | None]
) -> tuple[Result, ...]:
    """One result per target, measured or not."""
    nothing = [None] * len(targets)
    triples = zip(targets, before or nothing, after or nothing, strict=True)
    return tuple(Result(target.assignment, old, new) for target, old, new in triples)


def _demand_agreement(
    plan: Plan, model: Model | None, targets: Sequence[Target], after: Sequence[Measured | None]
) -> None:
    """Compare all processes' tensors: those of the plan, and all others that the model has, buffers included."""
    digests = {target.name: one.digest for target, one in zip(targets, after, strict=True) if one}
    here = survey({} if model is None else model)
    known = here if model is plan.model or plan.model is None else survey(plan.model)
    slots = [*(a.slot for a in plan.assignments), *known.slots, *known.raw]
    first = {name: slot.name for slot in slots for name in (slot.name, *slot.aliases)}  # in every stage the same
    places = {first[name]: place for name, place in here.places.items() if name in first}
    rest = {name: place.direct for name, place in places.items() if place.direct is not None and name not in digests}
    found = combine([bits(tensor) for tensor in rest.values()])
    digests |= {name: one.digest for name, one in zip(rest, found, strict=True) if one}
    demand_agreement(digests, sorted({*first.values()}))
