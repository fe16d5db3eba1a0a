"""Manifest → tensors: the same bits again, without the model's code and without a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from initframe import stream
from initframe.applying.draw import paint
from initframe.applying.paint_files import Item, paint_files, place_for_files
from initframe.applying.piece import Piece
from initframe.applying.regions import Region
from initframe.errors import InitframeError, Problem, RecipeError, ResolveError, SourceError, closest, shown
from initframe.files.shards import open_checkpoint
from initframe.fills import Fill, Whole
from initframe.limits import machine_memory
from initframe.recipe.patterns import compile_pattern
from initframe.verification.read import Given, Promised, Record, read_manifest

WIDE = 16
"""Bytes that a whole fill takes per element while it is built: float64, twice."""


def regenerate(
    manifest: Given,
    names: Sequence[str] | str | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    max_shard_size: int | str = "5GB",
    check: bool = True,
    on_progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Make the tensors of a manifest again, bit for bit, without the model's code and without a checkpoint.

    A manifest is read as data of a stranger: no plugin is imported, and no file that it names is opened.

    Args:
        manifest: as :func:`initframe.manifest` gives it, its file, or the folder of a run.
        names: names or patterns of the tensors that are wanted, as in ``only``; by default everything under
            ``tensors``, each under all of its names.
        path: a folder, or a file that ends in ``.safetensors``, to write to: as :func:`initframe.write_checkpoint`
            does, chunk by chunk, so that tensors may be larger than memory.
        max_shard_size: of one file, in bytes or as ``"5GB"``.
        check: whether to compare every tensor with its digest. A factorization (orthogonal matrices) may have other
            last bits with another LAPACK; ``check=False`` gives them as they are.
        on_progress: told how many elements were made since it was last told.

    Returns:
        The tensors by name, on the CPU; with ``path``, they are mapped from the files.

    Raises:
        SourceError: the manifest is damaged or was changed, a digest differs, or memory or disk is too small.
        ResolveError: a name is not in it, or its values need more than the manifest (``others``), with what they need.

    >>> from torch import nn
    >>> from initframe import manifest, reinit
    >>> model = nn.Linear(3, 2)
    >>> record = manifest(reinit(model, {"rules": {"weight": "xavier_uniform"}}, seed=7, measure=True))
    >>> torch.equal(regenerate(record)["weight"], model.weight)
    True
    """
    place = None if path is None else place_for_files(path)
    record = read_manifest(manifest)
    if record.altered:
        raise SourceError(Problem(place_of(record), record.altered))
    chosen = _chosen(record, names)
    wanted = list({one.name: one for one in chosen.values()}.values())
    laws = fills_of(wanted)
    if place is not None:
        items = [item_of(one, laws[one.name], name) for name, one in chosen.items()]
        metadata = {"run": record.run} if record.run else {}
        files = paint_files(items, place, record.seed or 0, max_shard_size, metadata, on_progress)
        made = dict(open_checkpoint(files[-1]).values())
    else:
        made = _in_memory(record, chosen, wanted, laws, on_progress)
    if check:
        _demand_digests(record, chosen, made)
    return made


def fills_of(wanted: Iterable[Promised]) -> dict[str, Fill]:
    """Return the fills of tensors, each of which can be drawn.

    Args:
        wanted: tensors that a manifest names.

    Raises:
        ResolveError: some cannot; with every problem.
    """
    laws: dict[str, Fill] = {}
    problems: list[Problem] = []
    for one in wanted:
        try:
            laws[one.name] = one.law()
        except InitframeError as error:
            problems += error.problems
            continue
        if _is_whole(laws[one.name]) and one.numel * WIDE > machine_memory():
            fact = f"it is computed as a whole, which takes {one.numel * WIDE / 2**30:.0f} GiB."
            problems.append(Problem(one.name, fact))
    if problems:
        raise ResolveError(*problems)
    return laws


def item_of(one: Promised, fill: Fill, name: str = "") -> Item:
    """Return a tensor as an item of a checkpoint.

    Args:
        one: the tensor.
        fill: what it holds.
        name: under which of its names.
    """
    return Item(name or one.name, one.shape or (), one.dtype or torch.float32, one.stream, fill)


def _is_whole(fill: Fill) -> bool:
    return any(isinstance(part, Whole) for part in fill.parts())


def _in_memory(
    record: Record,
    chosen: Mapping[str, Promised],
    wanted: Sequence[Promised],
    laws: Mapping[str, Fill],
    on_progress: Callable[[int], None],
) -> dict[str, Tensor]:
    """Make tensors in memory, all of them together."""
    size = sum(one.numel * one.dtype.itemsize for one in wanted if one.dtype)
    if size > machine_memory():
        fact = f"its tensors take {size / 2**30:.0f} GiB, and this machine has {machine_memory() / 2**30:.0f}."
        raise SourceError(Problem(place_of(record), fact, fix="Write them to files, path=…, or name some of them."))
    made = {one.name: torch.empty(one.shape or (), dtype=one.dtype, device="cpu") for one in wanted}
    with torch.no_grad():
        pieces = [Piece(laws[one.name], made[one.name], Region.whole(one.shape or ()), one.stream) for one in wanted]
        paint(pieces, record.seed or 0, on_progress)
    return {name: made[one.name] for name, one in chosen.items()}


def place_of(record: Record) -> str:
    """Return the subject of problems with a manifest."""
    return str(record.place or "manifest")


def _chosen(record: Record, names: Sequence[str] | str | None) -> dict[str, Promised]:
    """Find the tensors that are wanted, by those of their names that are, in the manifest's order."""
    if names is None:
        return {name: one for one in record.tensors for name in one.names}
    known = {name: one for one in record.every for name in one.names}
    problems: list[Problem] = []
    meant: set[str] = set()
    if not isinstance(names, Iterable):
        raise ResolveError(Problem("names", f"got {shown(names)}.", "It takes names or patterns of tensors."))
    for text in [names] if isinstance(names, str) else names:
        try:
            found = _matches(text, known)
        except RecipeError as error:
            problems += [problem.on("names") for problem in error.problems]
            continue
        if not found:
            fact = f"{shown(text)} matches no tensor of the manifest."
            problems.append(Problem("names", fact, closest(text, known)))
        meant |= found
    if problems:
        raise ResolveError(*problems)
    return {name: one for name, one in known.items() if name in meant}


def _matches(text: object, known: Mapping[str, Promised]) -> set[str]:
    if not isinstance(text, str):
        raise RecipeError(Problem("", f"got {shown(text)}.", "It takes names or patterns of tensors."))
    return {text} if text in known else set(filter(compile_pattern(text).regex.match, known))


def _demand_digests(record: Record, chosen: Mapping[str, Promised], made: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose digests are not the promised ones; what was not measured cannot be compared."""
    once = {one.name: name for name, one in chosen.items() if one.digest is not None}
    differ = [chosen[name] for name in once.values() if stream.digest(made[name]) != chosen[name].digest]
    if differ:
        is_lapack = any("LAPACK" in one.rests_on for one in differ)
        rests = "this machine's LAPACK" if is_lapack else "these versions of initframe and torch"
        names = ", ".join(one.name for one in differ[:8])
        more = f" and {len(differ) - 8} more" if len(differ) > 8 else ""
        fix = f"They rest on {rests}; check=False gives what comes out."
        raise SourceError(Problem(place_of(record), f"made again, {names}{more} have other digests.", fix=fix))
