"""Where a slot's tensor is in a file: names, renamings, and kinds of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch

from initframe.errors import InitframeError, Problem, ResolveError, about, closest
from initframe.files.archive import Archive, open_archive
from initframe.files.dtypes import is_readable
from initframe.files.older_names import other_names
from initframe.files.safetensors import TensorInfo
from initframe.initializers.demands import refuse
from initframe.initializers.table import Declined
from initframe.limits import ELEMENTS
from initframe.model.slot import Slot
from initframe.recipe.rename import rename

Keys = Mapping[str, str] | None


class Found(NamedTuple):
    """A tensor of a file.

    Attributes:
        archive: the file.
        info: its name there, its shape and its dtype.
        others: its further names there, if it is tied in the model.
        verbatim: whether its values are taken in the file's own dtype.
    """

    archive: Archive
    info: TensorInfo
    others: tuple[str, ...]
    verbatim: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the file."""
        return self.info.shape

    @property
    def key(self) -> str:
        """Its name in the file."""
        return self.info.name


def idle_keys(names: Iterable[str], path: str, entry: str | None, prefix: str, keys: Keys) -> Iterator[Problem]:
    """Say which renamings do nothing.

    Args:
        names: the names of the tensors that a rule matches.
        path: as ``pretrained`` has it.
        entry: as ``pretrained`` has it.
        prefix: as ``pretrained`` has it.
        keys: as ``pretrained`` has it.

    Yields:
        One problem per key that renames no tensor, or none that the file has.
    """
    try:
        held = open_archive(path, entry).entries
    except InitframeError:
        return  # which is reported where a tensor is looked for
    by_key: dict[str, list[str]] = {key: [] for key in keys or {}}
    known = list(names)
    for name in known:
        renamed, key = _renamed(name, keys or {})
        if key is not None:
            by_key[key].append(prefix + renamed)
    for key, renamed_names in by_key.items():
        if not renamed_names:
            fix = "A key without * or {…} is the beginning of a name; with one, it is a whole name."
            yield Problem(f"keys {key!r}", "it renames no tensor that the rule matches.", closest(key, known), fix)
        elif not any(name in held for name in _every(renamed_names)):
            fact = f"it makes {renamed_names[0]}, which {path} does not have."
            yield Problem(f"keys {key!r}", fact, closest(renamed_names[0], held))


def _every(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield name
        yield from other_names(name)


def find(slot: Slot, path: str, entry: str | None, prefix: str, keys: Keys) -> Found:
    """Find the file, and the slot's tensor in it.

    Args:
        slot: the tensor.
        path: as ``pretrained`` has it.
        entry: as ``pretrained`` has it.
        prefix: as ``pretrained`` has it.
        keys: as ``pretrained`` has it.

    Raises:
        ResolveError: the file cannot be read, or its tensor is of another kind of numbers.
        Declined: the file has no such tensor.
    """
    if keys is not None and not (isinstance(keys, Mapping) and all(isinstance(v, str) for v in keys.values())):
        raise refuse(f"keys maps beginnings of names, or patterns, the model's to the file's; got {keys!r}.")
    archive = open_archive(path, entry)
    held = archive.entries
    own = [name for name in (slot.name, *slot.aliases) if name not in slot.views]
    with about("keys"):
        wanted = [prefix + _renamed(name, keys or {})[0] for name in own]
    known = [name for name in wanted if name in held] or [name for name in _every(wanted) if name in held]
    if not known:
        _demand_itself(held, path, wanted)
        near = archive.nearest(wanted[0])
        raise Declined(f"{path} has no {wanted[0]}." + (f" Closest: {', '.join(near)}." if near else ""))
    info = held[known[0]]
    subject = f"{path}: {info.name}"
    if math.prod(info.shape) > ELEMENTS:
        raise ResolveError(Problem(subject, f"it has more than {ELEMENTS} elements."))
    if slot.storable:
        if not _widens(info.dtype, slot.dtype):
            raise ResolveError(Problem(subject, f"it is {info.dtype}, and {slot.dtype} in the model."))
    elif not is_readable(info.dtype):
        fact = f"its dtype is {info.dtype}, which has no real numbers."
        raise ResolveError(Problem(subject, fact, fix="Exclude it."))
    return Found(archive, info, tuple(dict.fromkeys(known[1:])), slot.storable)


def _demand_itself(held: Mapping[str, TensorInfo], path: str, wanted: Iterable[str]) -> None:
    """Refuse a weight of which a file has only what a parametrization computes it from: it would be lost in silence.

    Raises:
        ResolveError: the file has such tensors.
    """
    for name in wanted:
        module, dot, attribute = name.rpartition(".")
        around = f"{module}{dot}parametrizations.{attribute}."
        endings = [f"{name}_{ending}" for ending in ("g", "v", "orig", "mask")]
        parts = [part for part in (*endings, f"{around}original", f"{around}original0") if part in held]
        if len(parts) > 1 or any(part.startswith((around, f"{name}_orig")) for part in parts):
            fact = f"{path} has no {name}, only what it is computed from: {', '.join(parts)}."
            fix = (
                "Save the source without the parametrization (torch.nn.utils.parametrize.remove_parametrizations), or "
                "take it by pretrained into a model that has the same one."
            )
            raise refuse(fact, fix)


def _widens(old: torch.dtype, new: torch.dtype) -> bool:
    """Whether a dtype that holds no real numbers, or coarse ones, holds all numbers of another."""
    if old == new:
        return True
    same_kind = old.is_complex == new.is_complex and old.is_floating_point == new.is_floating_point
    if not same_kind or new.is_floating_point or torch.bool in (old, new):
        return False
    try:
        return torch.promote_types(old, new) == new
    except RuntimeError:
        return False


def _renamed(name: str, keys: Mapping[str, str]) -> tuple[str, str | None]:
    """Rename a name by the longest key that fits, and return that key, too."""
    for key in sorted(map(str, keys), key=len, reverse=True):
        if not {*key} & {"*", "{"}:
            if name.startswith(key):
                return keys[key] + name.removeprefix(key), key
        elif (renamed := rename(name, key, keys[key])) is not None:
            return renamed, key
    return name, None
