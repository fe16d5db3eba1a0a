"""Populations: one plan applied with many seeds, stacked as torch.func takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from numbers import Integral

import torch
from torch import Tensor, nn

from initframe.applying.backup import Backup
from initframe.applying.checks import checked_seed, prepared
from initframe.applying.exclusive import exclusive, memory_of
from initframe.applying.locate import Write, current_survey, demand_plan, without_memory
from initframe.applying.write import refresh, unwritable, write_all
from initframe.errors import Problem, ResolveError
from initframe.model.memory import is_composite, is_distributed, is_shapeless
from initframe.model.place import Place
from initframe.model.survey import Survey
from initframe.model.uncompiled import uncompiled
from initframe.plan import Plan
from initframe.plan.param_groups import unheeded, warn

Stack = dict[str, Tensor]


@uncompiled
def populate(plan: Plan, seeds: Iterable[int], module: nn.Module | None = None) -> tuple[Stack, Stack]:
    """Make the states of many models of one plan, stacked along a new first dimension.

    The i-th member has the bits that ``apply(plan, seeds[i])`` gives, and of what the plan leaves untouched, the
    module's values. The module is surveyed once and holds its own values afterwards.

    Args:
        plan: from :func:`initframe.resolve`.
        seeds: one for each member, 0 ≤ seed < 2⁶⁴.
        module: a module with the plan's names and shapes, which has memory; by default the one that was resolved.

    Returns:
        Parameters and buffers by name, each of shape ``(len(seeds), *shape)``, as
        :func:`torch.func.stack_module_state` returns them, for :func:`torch.func.functional_call` under
        :func:`torch.vmap`. Parameters are leaves that require gradients where the module's do.

    Raises:
        ResolveError: names or shapes do not fit, a tensor has no memory or is sharded, or a seed is out of range.

    >>> from initframe import resolve
    >>> net = nn.Linear(2, 1)
    >>> params, buffers = populate(resolve({"rules": {"*": {"init": "normal"}}}, net), range(3))
    >>> params["weight"].shape, buffers
    (torch.Size([3, 1, 2]), {})
    """
    demand_plan(plan, "populate")
    numbers = _checked(seeds)
    model = plan.model if module is None else module
    if not isinstance(model, nn.Module):
        subject, given = ("plan", "of a state_dict") if module is None else ("module", type(model).__name__)
        fact = "it has no module." if model is None else f"it is {given}, which is no module."
        raise ResolveError(Problem(subject, fact, fix="Pass one: populate(plan, seeds, module)."))
    seen = current_survey(plan, model)
    writes, problems = prepared(plan, model, seen, None, "stream")
    named = dict(chain(model.named_parameters(), model.named_buffers()))
    if problems := [*problems, *without_memory(writes), *_unstackable(named)]:
        raise ResolveError(*problems)
    with torch.no_grad():
        stacked = {name: _repeated(tensor, len(numbers)) for name, tensor in named.items()}
        if _are_apart(writes, named):
            _fill_members(stacked, writes, named, numbers)
        else:
            _fill_in_turn(stacked, writes, named, numbers, seen)
    if plan.recipe.companions == "warn" and plan.asks:
        warn(unheeded(plan.asks, plan.recipe.name))
    params = {name: stacked.pop(name).requires_grad_(tensor.requires_grad) for name, tensor in model.named_parameters()}
    return params, stacked


def _checked(seeds: Iterable[int]) -> list[int]:
    """Give the seeds as a list, or say which is none."""
    fix = "Give one seed for each member, as in range(8)."
    if isinstance(seeds, Integral | str) or not isinstance(seeds, Iterable):
        raise ResolveError(Problem("seeds", f"got {seeds!r}.", fix=fix))
    if not (numbers := [checked_seed(seed) for seed in seeds]):
        raise ResolveError(Problem("seeds", "there are none.", fix=fix))
    return numbers


def _unstackable(named: Mapping[str, Tensor]) -> list[Problem]:
    """Name tensors that cannot be stacked whole."""
    kinds = {"sharded": is_distributed, "made of other tensors": is_composite, "of no one shape": is_shapeless}
    fix = "Populate a plain module whose tensors have their memory on one device."
    return [
        Problem(name, f"it is {words}.", fix=fix)
        for name, tensor in named.items()
        for words, is_so in kinds.items()
        if is_so(tensor)
    ]


def _repeated(tensor: Tensor, count: int) -> Tensor:
    """Stack a tensor onto itself: every member starts with the module's values."""
    return tensor.detach().unsqueeze(0).repeat(count, *[1] * tensor.dim())


def _are_apart(writes: Sequence[Write], named: Mapping[str, Tensor]) -> bool:
    """Whether all that is written or copied is one entry of the state each, on memory of its own."""
    known = set(map(id, named.values()))
    storages = [tensor.untyped_storage().data_ptr() for tensor in named.values() if tensor.numel()]
    places = [place for write in writes for place in (write.place, write.source) if place]
    entries = (place.computed is None and [id(tensor) in known for tensor in place.held] == [True] for place in places)
    return all(entries) and len(storages) == len(set(storages))


def _demand_writable(writes: Sequence[Write], seed: int) -> None:
    if problems := unwritable(writes, seed, "stream"):
        raise ResolveError(*problems)


def _fill_members(stacked: Stack, writes: Sequence[Write], named: Mapping[str, Tensor], seeds: Sequence[int]) -> None:
    """Fill each member in its row of the stacked tensors, which holds the module's values."""
    names = {id(tensor): name for name, tensor in named.items()}

    def there(place: Place, row: int) -> Place:
        return Place((stacked[names[id(place.held[0])]][row],), owners=place.owners)

    for row, seed in enumerate(seeds):
        _demand_writable(writes, seed)
        member = [
            write._replace(place=there(write.place, row), source=write.source and there(write.source, row))
            for write in writes
        ]
        write_all(member, seed, "stream", lambda _: None)


def _fill_in_turn(
    stacked: Stack, writes: Sequence[Write], named: Mapping[str, Tensor], seeds: Sequence[int], seen: Survey
) -> None:
    """Fill the module with one seed after the other, copy its state, and put back what it held.

    Tensors that are computed from others, or that share memory, follow each other as the module says.
    """
    backup = Backup()
    with exclusive(memory_of([write.place for write in writes if not write.kept])):
        backup.take(writes, [])
        try:
            for row, seed in enumerate(seeds):
                _demand_writable(writes, seed)
                write_all(writes, seed, "stream", lambda _: None)
                refresh(writes, seen)
                for name, tensor in named.items():
                    stacked[name][row].copy_(tensor)
                backup.put_back()
        finally:
            backup.put_back()
            refresh(writes, seen)
