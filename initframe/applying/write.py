"""Writing: every target is painted where it lives, or beside it and then brought there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from initframe.applying import torch_init
from initframe.applying.draw import Piece, Progress, paint
from initframe.applying.locate import Target
from initframe.applying.placements import held
from initframe.model.memory import is_distributed

BATCH = 1 << 26
"""Elements that are drawn together: enough to keep every core busy, few enough to bound temporaries."""

Generator = Literal["stream", "torch"]


def write(targets: Sequence[Target], seed: int | None, generator: Generator, tell: Progress) -> None:
    """Fill all targets, those of a batch together; parametrized ones last, whose way in leads through other tensors.

    Args:
        targets: what was found sound.
        seed: of the generator; ``None`` lets torch's go on from where it is.
        generator: ``"stream"`` or ``"torch"``.
        tell: told how many elements were filled since it was last told.
    """
    if generator == "stream":
        for batch in _batches(sorted(targets, key=_is_computed)):
            _paint_batch(batch, seed or 0, tell)
    else:
        with torch_init.seeded(seed, {target.place.held[0].device for target in targets}):
            drawn = list(_drawn_in_turn(targets, tell))
        for target, logical in drawn:
            _settle(target, logical)


def _drawn_in_turn(targets: Sequence[Target], tell: Progress) -> Iterator[tuple[Target, Tensor]]:
    """Draw with torch.nn.init in the order of the state_dict; give what does not lie where it belongs yet.

    A tied tensor is drawn as often as it stands there, as by a loop over it, unless it starts from its values.
    """
    turns = sorted((turn, i) for i, t in enumerate(targets) for turn in t.turns[: 1 if t.fill.needs_current else None])
    beside: dict[int, Tensor] = {}
    for turn, i in turns:
        logical = _write_classic(targets[i])
        if logical is not None:
            beside[i] = logical
        if turn == targets[i].turns[0]:
            tell(targets[i].slot.numel)
    yield from ((targets[i], logical) for i, logical in beside.items())


def _is_computed(target: Target) -> bool:
    """Whether a target is parametrized."""
    return target.place.direct is None


def no_way_in(targets: Sequence[Target], seed: int) -> list[str]:
    """Say what parametrized tensors do not take through their right_inverse, tried with the values themselves."""
    computed = [target for target in targets if _is_computed(target) and not target.kept]
    tried = ((t, t.place.check(_painted(t, seed))) for t in computed)
    return [f"{target.slot.name}: it {fact}" for target, fact in tried if fact]


def _batches(targets: Sequence[Target]) -> Iterator[list[Target]]:
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


def _paint_batch(batch: Sequence[Target], seed: int, tell: Progress) -> None:
    logicals = [(target, _logical(target)) for target in batch if not target.kept]
    paint([Piece(target.fill, *held(logical), target.name) for target, logical in logicals], seed, tell)
    for target, logical in logicals:
        _settle(target, logical)
    if kept := sum(target.slot.numel for target in batch if target.kept):
        tell(kept)


def _logical(target: Target) -> Tensor:
    """The tensor to paint: the live one, or one beside those that it is computed from."""
    direct = target.place.direct
    return _whole(target) if direct is None else direct


def _whole(target: Target) -> Tensor:
    """A whole plain tensor like the target's, with its values where the fill starts from them."""
    if target.fill.needs_current:
        tensor: Any = target.place.tensor()
        return tensor.full_tensor().clone() if is_distributed(tensor) else tensor.clone()  # type: ignore[no-any-return]
    return torch.empty(target.slot.shape, dtype=target.slot.dtype, device=target.place.held[0].device)


def _painted(target: Target, seed: int) -> Tensor:
    """The whole value of a parametrized tensor, on memory of its own."""
    logical = _whole(target)
    paint([Piece(target.fill, *held(logical), target.name)], seed)
    return logical


def _settle(target: Target, logical: Tensor) -> None:
    """Bring what was painted on a copy to where it is computed from."""
    if _is_computed(target):
        for original, value in target.place.targets(logical):
            original.copy_(value)


def _write_classic(target: Target) -> Tensor | None:
    """Draw with torch.nn.init; a sharded tensor whole, in every process the same, of which the shard is kept.

    Returns:
        Of a parametrized tensor what was drawn, which is not yet where it belongs.
    """
    logical = None
    if not target.kept:
        logical = _whole(target) if is_sharded(target) else _logical(target)
        torch_init.write(target.fill, logical)
        if is_sharded(target):
            local, region = held(target.place.held[0])
            local.copy_(region.pick(logical))
    return logical if _is_computed(target) else None


def is_sharded(target: Target) -> bool:
    """Whether a target is a DTensor."""
    return target.place.direct is not None and is_distributed(target.place.direct)
