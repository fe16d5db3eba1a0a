"""Compare the digests of all processes' tensors; no tensor is sent."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from initframe.applying.locate import Model, Write, current_survey
from initframe.applying.measure import bits, combine
from initframe.errors import InitframeError, Problem
from initframe.model.survey import Survey
from initframe.plan import Plan
from initframe.plan.report import Measured
from initframe.stream.formulas import signed64

SHOWN = 4
"""Tensors that are told one by one."""


def demand_agreement(digests: Mapping[str, int], names: Sequence[str]) -> None:
    """Compare the digests of whole tensors over all processes; a tensor may be missing on some (pipeline stages).

    Two collectives of one number per tensor, and one more where something differs. Without processes there is nothing
    to compare.

    Args:
        digests: of the tensors that this process has, or has a shard of, by name.
        names: of all tensors of the plan, on every process the same.

    Raises:
        InitframeError: processes hold different values, or different plans; on all of them alike.
    """
    import torch.distributed as dist  # noqa: PLC0415  # as light as torch where it is not used

    if not (dist.is_available() and dist.is_initialized()):
        return
    if _differing([zlib.crc32("\n".join(names).encode()), len(names)]):
        fix = "Resolve the whole model on every one, for instance on the meta device, and apply(plan, module=stage)."
        raise InitframeError(Problem("verify_replicas", "processes have different plans.", fix=fix))
    own = [signed64(digests[name]) if name in digests else None for name in names]
    if wrong := [names[i] for i in _differing(own)]:
        raise InitframeError(*_disagreements({name: digests.get(name) for name in wrong[:SHOWN]}, len(wrong)))


def _differing(numbers: Sequence[int | None]) -> list[int]:
    """The indices at which processes have different numbers; those that have none do not count."""
    import torch.distributed as dist  # noqa: PLC0415

    limits = torch.iinfo(torch.int64)
    device = "cpu" if "cpu:" in dist.get_backend_config() else torch.accelerator.current_accelerator()
    low = torch.tensor([limits.max if n is None else n for n in numbers], device=device)
    high = torch.tensor([limits.min if n is None else n for n in numbers], device=device)
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    return torch.nonzero(low < high).flatten().tolist()


def _disagreements(own: Mapping[str, int | None], count: int) -> list[Problem]:
    """Say which processes hold what of some tensors."""
    import torch.distributed as dist  # noqa: PLC0415

    everyone: list[Mapping[str, int | None]] = [{}] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    problems = [Problem(name, f"replicas differ. {_holders([one[name] for one in everyone])}") for name in own]
    more = [Problem("", f"{count - len(own)} more tensors differ.")] if count > len(own) else []
    return [*problems, *more]


def _holders(digests: Sequence[int | None]) -> str:
    ranks: dict[int, list[str]] = defaultdict(list)
    for rank, digest in enumerate(digests):
        if digest is not None:
            ranks[digest].append(str(rank))
    return " ".join(f"Digest {digest:016x} on rank {', '.join(held)}." for digest, held in ranks.items())


def demand_equal_replicas(
    plan: Plan, model: Model, seen: Survey, writes: Sequence[Write], after: Sequence[Measured | None]
) -> None:
    """Compare the tensors of all processes: those of the plan, and all others that the model has, buffers included.

    Args:
        plan: the whole model's.
        model: the model, or the stage of it, that this process has.
        seen: its survey.
        writes: what was written here.
        after: what each of these tensors holds now.

    Raises:
        InitframeError: processes hold different values, or different plans; on all of them alike.
    """
    digests = {write.name: one.digest for write, one in zip(writes, after, strict=True) if one}
    known = seen if model is plan.model or plan.model is None else current_survey(plan, plan.model)
    slots = [*(a.slot for a in plan.assignments), *known.every]
    first = {name: slot.name for slot in slots for name in (slot.name, *slot.aliases)}  # in every stage the same
    places = {first[name]: place for name, place in seen.places.items() if name in first}
    rest = {name: place.direct for name, place in places.items() if place.direct is not None and name not in digests}
    found = combine([bits(tensor) for tensor in rest.values()])
    digests |= {name: one.digest for name, one in zip(rest, found, strict=True) if one}
    demand_agreement(digests, sorted({*first.values()}))
