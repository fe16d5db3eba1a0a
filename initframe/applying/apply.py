"""Apply a plan: check everything, write, and report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from initframe.applying import again, torch_init
from initframe.applying.averages import find_copies, find_outside, stale_copies
from initframe.applying.backup import note_written, restored_on_failure
from initframe.applying.checks import checked_seed, demand_fill, demand_options, prepared, unfillable
from initframe.applying.draw import Progress, paint
from initframe.applying.exclusive import exclusive, memory_of
from initframe.applying.locate import NO_MODEL, Model, current_survey, demand_plan, without_memory
from initframe.applying.measure import combine
from initframe.applying.optimizer_state import Optimizers, check_optimizers, forget
from initframe.applying.outcome import left_alone, results_of, samples
from initframe.applying.piece import Piece
from initframe.applying.placements import held
from initframe.applying.regions import Region
from initframe.applying.replicas import demand_equal_replicas
from initframe.applying.write import Generator, refresh, unwritable, write_all
from initframe.errors import Problem, ResolveError
from initframe.fills import Copied, Fill
from initframe.model.survey import Survey, survey
from initframe.model.uncompiled import uncompiled
from initframe.plan import Plan
from initframe.plan.param_groups import unheeded, warn
from initframe.plan.report import OpenReport, Report
from initframe.resolver.only import Only, out_of_sight, restricted
from initframe.resolver.resolve import Written, resolve, resolve_surveyed


class Options(NamedTuple):
    """How a plan is applied, besides the seed; :func:`apply` says what each means."""

    generator: Generator = "stream"
    measure: bool | Literal["after"] = False
    verify_replicas: bool = False
    optimizer: Optimizers | None = None
    averages: Sequence[Any] = ()
    on_progress: Progress | None = None
    restore: bool = False


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
    demand_options(measure, on_progress)
    model = plan.model if module is None else module
    if model is None:
        raise ResolveError(NO_MODEL)
    only_seed = generator == "stream" and not (measure or verify_replicas or averages or restore)
    only_seed = only_seed and optimizer is None and only is None
    if only_seed and (found := again.known(plan, model)):
        before, tensors = found
        return before.apply(plan, model, tensors, seed, on_progress)
    reshard(model)
    seen = current_survey(plan, model)
    options = Options(generator, measure, verify_replicas, optimizer, averages, on_progress, restore)
    return apply_surveyed(restricted(plan, out_of_sight(only, seen)), seen, model, seed, options)


def apply_surveyed(
    plan: Plan,
    seen: Survey,
    model: Model,
    seed: int | None = None,
    options: Options = Options(),  # noqa: B008 - it cannot be changed
) -> Report:
    """Write a plan into the tensors of a model that was surveyed already.

    Args:
        plan: from :func:`initframe.resolve`.
        seen: the survey of the model as it is now.
        model: the model itself.
        seed: as for :func:`apply`.
        options: likewise.

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
    generator, measure, verify_replicas, optimizer, averages, on_progress, restore = options
    demand_options(measure, on_progress)
    with restored_on_failure() if restore else nullcontext() as backup:
        optimizers = [] if optimizer is None else check_optimizers(optimizer)
        original, plan = plan, plan if generator == "stream" else torch_init.as_torch_leaves_it(plan)
        writes, problems = prepared(plan, model, seen, seed, generator)
        problems += without_memory(writes)
        outside, wrong = find_outside(averages, writes) if averages else ([], [])
        problems += wrong
        number = 0 if seed is None else int(seed)
        touched = [write for write in writes if not write.kept]
        with torch.set_grad_enabled(False):
            if problems := problems or unwritable(writes, number, generator):
                raise ResolveError(*problems)
            before = samples(writes) if measure is True else []
            copies = find_copies(model)
            done: list[str] = []
            with exclusive(memory_of([write.place for write in touched])):
                if backup:
                    backup.take(writes, optimizers, [mine for mine, _ in outside])
                own = None if seed is None and generator == "torch" else number
                try:
                    write_all(writes, own, generator, on_progress or (lambda _: None), done)
                    refresh(touched, seen)
                    for mine, source in outside:
                        mine.copy_(source)
                    torch.clear_autocast_cache()  # casts of the former values, if this is inside of autocast
                except BaseException as error:
                    if not restore:
                        note_written(error, [write.name for write in touched], done)
                    raise
            after = combine(samples(writes)) if measure or verify_replicas else []
            left = left_alone(writes, seen, measured=bool(measure))
        if verify_replicas:
            demand_equal_replicas(original, model, seen, writes, after)
        forgotten = None if optimizer is None else forget(optimizers, touched)
        results = results_of(writes, combine(before) if before else [], after if measure else [])
        if generator == "stream" and not measure:
            again.remember(plan, seen, writes, results, left)
        if plan.recipe.companions == "warn" and plan.asks:
            warn(unheeded(plan.asks, plan.recipe.name))
        held = {id(tensor) for write in touched for tensor in write.place.held} if copies else set()
        stale = stale_copies(copies, held) if copies else ()
        drawn_from = number if generator == "stream" or seed is not None else None
        report = OpenReport(plan, drawn_from, generator, results, stale, forgotten, model, left)
        report.__class__ = Report
        return report


@uncompiled
def reinit(
    model: Model,
    recipe: Written,
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
    """Load a recipe, resolve it against a model and apply it: the three in one.

    Args:
        model: any ``nn.Module``, changed in place; or a state_dict, whose tensors are.
        recipe: a Recipe, a preset's name, a path to a YAML file, or a mapping; or a list of them, laid over each other.
        seed: 0 ≤ seed < 2⁶⁴, by default 0.
        module: as for :func:`apply`, and so all others.
        generator: likewise.
        measure: likewise.
        verify_replicas: likewise.
        optimizer: likewise.
        averages: likewise.
        only: likewise.
        on_progress: likewise.
        restore: likewise.

    Returns:
        What happened.

    Raises:
        RecipeError: the recipe is wrong for every model; nothing was written.
        ResolveError: recipe and model do not fit together; nothing was written.

    >>> report = reinit(nn.Linear(2, 2), {"rules": {"*.weight": "xavier_uniform", "*.bias": "zeros"}}, seed=0)
    >>> [result.name for result in report.results]
    ['weight', 'bias']
    """
    options = Options(generator, measure, verify_replicas, optimizer, averages, on_progress, restore)
    if module is not None:
        return apply(resolve(recipe, model), seed, module=module, only=only, **options._asdict())
    reshard(model)
    seen = survey(model)
    return apply_surveyed(resolve_surveyed(recipe, seen, model, only), seen, model, seed, options)


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
    demand_fill(tensor, fill, name)
    if problem := unfillable(tensor, region):
        raise ResolveError(problem.on(f"tensor {name!r}"))
    local, region = held(tensor) if region is None else (tensor, region)
    if isinstance(fill, Copied) and fill.from_memory:
        fact = f"its fill is {fill}, which is read from a model, and there is none here."
        raise ResolveError(Problem(f"tensor {name!r}", fact, fix="Apply a recipe to the model: initframe.reinit."))
    if found := fill.problem(region.shape, tensor.dtype) or fill.trial(tensor.device):
        raise ResolveError(found.on(f"tensor {name!r}"))
    with torch.no_grad():
        paint([Piece(fill, local, region, name)], checked_seed(seed))
    torch.clear_autocast_cache()
    return tensor


def reshard(model: Model) -> None:
    """Have fully_shard drop the parameters that a forward pass gathered: writes to them would be lost."""
    if "torch.distributed.fsdp" not in sys.modules or not isinstance(model, nn.Module):
        return
    for module in model.modules():
        if any(base.__name__ == "FSDPModule" for base in type(module).__mro__):
            module.reshard()  # type: ignore[operator]
