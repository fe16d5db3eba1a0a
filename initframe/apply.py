"""Plan → tensors: the only code that writes to a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initframe import classic, stream
from initframe.aftermath import check_optimizer, clear_state, stale_copies
from initframe.errors import ResolveError
from initframe.fills import Blocks, Constant, Elementwise, Fill, Keep, Masked, OnCurrent, Whole
from initframe.model.obstacles import obstacle
from initframe.plan import Plan
from initframe.recipe.recipe import Recipe
from initframe.report import Measured, Moments, Report, Result
from initframe.resolver import resolve
from initframe.resolver.holding import failure, misfit
from initframe.shards import Region, held
from initframe.targets import Target, find_targets

BATCH = 1 << 26
"""Elements that are drawn together: enough to keep every core busy, few enough to bound temporaries."""

Generator = Literal["stream", "torch"]
Progress = Callable[[int], None]


def apply(
    plan: Plan,
    seed: int | None = None,
    *,
    module: nn.Module | Mapping[str, Tensor] | None = None,
    generator: Generator = "stream",
    measure: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Write a plan into its tensors, in place. Everything that can fail is checked before the first write.

    Args:
        plan: from :func:`initframe.resolve`.
        seed: of the stream, 0 ≤ seed < 2⁶⁴; 0 where none is given. With ``generator="torch"``, what torch's generator
            is seeded with; without one, its current state goes on.
        module: another model with the same names and shapes (a pipeline stage, a materialized copy); by default the
            model that was resolved. A stage gets those of the plan's tensors that it has.
        generator: ``"stream"``, or ``"torch"`` to draw with torch.nn.init in state_dict order.
        measure: whether to measure mean and std before and after, and a digest: passes over memory.
        optimizer: forgets its state (moments, step counts) of the tensors that are written, and of no others.
        on_progress: told how many elements were filled since it was last told.

    Returns:
        What happened.

    Raises:
        ResolveError: names or shapes do not fit, a tensor has no memory, or a seed is out of range.

    >>> from initframe import resolve
    >>> model = nn.Linear(2, 2)
    >>> report = apply(resolve({"rules": {"bias": "ones"}}, model), seed=0)
    >>> model.bias.tolist()
    [1.0, 1.0]
    """
    if generator not in ("stream", "torch"):
        raise ResolveError(f"unknown generator {generator!r}. Options: stream, torch.")
    number = _checked_seed(0 if seed is None else seed)
    if optimizer is not None:
        check_optimizer(optimizer)
    model = plan.model if module is None else module
    targets, problems = find_targets(plan, model)
    tell = on_progress or (lambda _: None)
    with torch.no_grad():
        if generator == "torch":
            problems += _unknown_to_torch(targets)
        if problems := problems or _no_way_in(targets, number):
            raise ResolveError(*problems)
        if generator == "torch":
            with classic.seeded(seed, {target.place.held[0].device for target in targets}):
                results = [_apply_classic(target, measure, tell) for target in targets]
        else:
            batches = _batches(targets)
            results = [result for batch in batches for result in _apply_batch(batch, number, measure, tell)]
    touched = [tensor for target in targets if not target.kept for tensor in target.place.parameter]
    if optimizer is not None:
        clear_state(optimizer, touched)
    stale = stale_copies(model, touched)
    return Report(plan, number if generator == "stream" else seed, generator, tuple(results), stale)


def reinit(
    model: nn.Module | Mapping[str, Tensor],
    recipe: Recipe | Mapping[str, Any] | str | PathLike[str],
    seed: int | None = None,
    **options: Any,
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


def fill_(tensor: Tensor, fill: Fill, *, name: str, seed: int = 0) -> Tensor:
    """Fill one tensor in place, no model and no recipe: the numbers of a slot of that name.

    Args:
        tensor: any floating-point tensor.
        fill: what it will hold.
        name: the stream's name; the same name and seed give the same numbers.
        seed: 0 ≤ seed < 2⁶⁴.

    Returns:
        The tensor.

    Raises:
        ResolveError: the fill cannot be drawn, or the tensor cannot hold it.

    >>> from initframe import Constant
    >>> fill_(torch.empty(3), Constant(8), name="b").tolist()
    [8.0, 8.0, 8.0]
    """
    problem = obstacle(tensor) or (tensor.is_meta and "is on the meta device: there is nothing to write to.")
    if problem:
        raise ResolveError(f"tensor {name!r} {problem}")
    if fact := misfit(fill, tuple(tensor.shape), tensor.dtype) or failure(fill, tensor.device):
        raise ResolveError(fact)
    with torch.no_grad():
        local, region = held(tensor)
        _paint([_Job(fill, local, region, name)], _checked_seed(seed), lambda _: None)
    return tensor


# --- before the first write ------------------------------------------------------------------------------------------


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ResolveError(f"a seed is an integer from 0 to 2**64 - 1, got {seed!r}.")
    return seed


def _unknown_to_torch(targets: list[Target]) -> list[str]:
    """What torch.nn.init has not, or cannot draw for the dtype."""
    refused = ((t, classic.refusal(t.fill, t.slot.dtype)) for t in targets)
    return [f"{target.slot.name}: {fact}" for target, fact in refused if fact]


def _no_way_in(targets: list[Target], seed: int) -> list[str]:
    """What parametrized tensors do not take through their right_inverse, tried with the values themselves."""
    computed = [target for target in targets if target.place.direct is None and not target.kept]
    tried = ((t, t.place.check(_painted(t, seed))) for t in computed)
    return [f"{target.slot.name}: it {fact}" for target, fact in tried if fact]


def _painted(target: Target, seed: int) -> Tensor:
    """The whole value of a parametrized tensor, on memory of its own."""
    logical = target.place.tensor().clone()
    _paint([_Job(target.fill, *held(logical), target.name)], seed, lambda _: None)
    return logical


# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """A fill for a piece of memory."""

    fill: Fill
    out: Tensor
    region: Region
    name: str


@dataclass
class _Work:
    """What a batch of jobs asks for: draws, which run together, and what is done after them, in order.

    ``undrawn`` counts the elements that the stream does not tell of.
    """

    seed: int
    draws: list[stream.Draw] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)
    undrawn: int = 0

    def draw(self, law: str, args: Sequence[float], job: _Job, purpose: str = "") -> None:
        """Ask for a law at every element of a job's memory."""
        key = stream.key(job.name, self.seed, purpose)
        try:
            rows = list(job.region.rows(job.out))
        except RuntimeError:  # a layout that is no row of numbers: drawn beside it, then copied
            beside = torch.empty(job.region.local_shape, dtype=job.out.dtype, device=job.out.device)
            rows = list(job.region.rows(beside))
            self.after.append(lambda: job.out.copy_(beside))
        self.draws += [stream.Draw(out, law, tuple(args), key, start, stride) for out, start, stride in rows]

    def run(self, on_progress: Progress) -> None:
        """Draw, then do what comes after."""
        stream.execute(self.draws, on_progress)
        for step in self.after:
            step()
        if self.undrawn:
            on_progress(self.undrawn)


def _batches(targets: list[Target]) -> Iterator[list[Target]]:
    """Cut a plan into batches of about BATCH elements."""
    batch: list[Target] = []
    size = 0
    for target in targets:
        batch.append(target)
        size += target.slot.numel
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _apply_batch(batch: list[Target], seed: int, measure: bool, on_progress: Progress) -> list[Result]:
    before = [_measured(target) if measure else None for target in batch]
    logicals = [(target, _logical(target)) for target in batch if not target.kept]
    _paint([_Job(target.fill, *held(logical), target.name) for target, logical in logicals], seed, on_progress)
    for target, logical in logicals:
        _settle(target, logical)
    if kept := sum(target.slot.numel for target in batch if target.kept):
        on_progress(kept)
    after = [_measured(target) if measure else None for target in batch]
    return [Result(t.assignment, b, a) for t, b, a in zip(batch, before, after, strict=True)]


def _apply_classic(target: Target, measure: bool, on_progress: Progress) -> Result:
    before = _measured(target) if measure else None
    if not target.kept:
        logical = _logical(target)
        classic.write(target.fill, logical)
        _settle(target, logical)
    on_progress(target.slot.numel)
    return Result(target.assignment, before, _measured(target) if measure else None)


def _logical(target: Target) -> Tensor:
    """The tensor to paint: the live one, or a copy of what is computed from others."""
    direct = target.place.direct
    return target.place.tensor().clone() if direct is None else direct


def _settle(target: Target, logical: Tensor) -> None:
    """Bring what was painted on a copy to where it is computed from."""
    if target.place.direct is None:
        for original, value in target.place.targets(logical):
            original.copy_(value)


def _paint(jobs: list[_Job], seed: int, on_progress: Progress) -> None:
    work = _Work(seed)
    for job in jobs:
        _ask(job, work)
    work.run(on_progress)


def _ask(job: _Job, work: _Work) -> None:
    """Turn one fill into draws and steps after them."""
    fill, out, region = job.fill, job.out, job.region
    if fill.law:
        work.draw(fill.law, fill.args, job)
        return
    if not isinstance(fill, Elementwise | Blocks | Masked):
        work.undrawn += out.numel()
    match fill:
        case Keep():
            pass
        case Constant(value):
            out.fill_(value)
        case Elementwise(fn):
            uniforms = _beside(job)
            work.draw("uniform", (0.0, 1.0), uniforms)
            work.after.append(lambda: out.copy_(fn(uniforms.out)))
        case OnCurrent():
            work.after.append(lambda: _on_current(fill, job, work.seed))
        case Whole():
            whole = _Job(fill, out, region.everything(), job.name)
            values = fill.build(lambda law, args, purpose="": _drawn(law, args, purpose, whole, work.seed))
            out.copy_(region.pick(values.to(out.device)))
        case Blocks(fills, sizes, dim):
            start = region.extent[dim][0]
            for part, size in zip(fills, sizes, strict=True):
                block, here = region.block(dim, start, start + size)
                _ask(_Job(part, out[(slice(None),) * dim + (here,)], block, job.name), work)
                start += size
        case Masked(inner, index=index, value=value):
            _ask(_Job(inner, out, region, job.name), work)
            position = region.position(index)
            if position is not None:
                work.after.append(lambda: out[position].fill_(value))
        case _:
            raise ResolveError(f"{type(fill).__name__} is no fill that apply knows. Build it from initframe's fills.")


def _beside(job: _Job) -> _Job:
    """The job again, on float32 memory of its own."""
    out = torch.empty(job.region.local_shape, dtype=torch.float32, device=job.out.device)
    return _Job(job.fill, out, job.region, job.name)


def _drawn(law: str, args: Sequence[float], purpose: str, job: _Job, seed: int) -> Tensor:
    """A law over the whole extent of a job, now."""
    dtype = torch.int32 if law == "bits" else torch.float32
    out = torch.empty(job.region.local_shape, dtype=dtype, device=job.out.device)
    work = _Work(seed)
    work.draw(law, args, _Job(job.fill, out, job.region, job.name), purpose)
    work.run(lambda _: None)
    return out


def _on_current(fill: OnCurrent, job: _Job, seed: int) -> None:
    """New values from current ones, in float32 or wider, rounded once."""
    wide = job.out.to(torch.promote_types(job.out.dtype, torch.float32))
    job.out.copy_(fill.apply(wide, lambda: _drawn("normal", (0.0, 1.0), "perturb", job, seed)))


# --- measuring -------------------------------------------------------------------------------------------------------


def _measured(target: Target) -> Measured:
    """Mean and std of the population that a tensor is, and its digest."""
    tensor = target.place.tensor().detach()
    if tensor.is_meta or tensor.numel() == 0:
        return Measured(Moments(math.nan, math.nan), 0)
    std, mean = torch.std_mean(tensor.to(torch.promote_types(tensor.dtype, torch.float32)), correction=0)
    return Measured(Moments(mean.item(), std.item()), stream.digest(tensor))
