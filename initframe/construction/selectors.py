"""Which tensors a rule may mean together: globs over names, classes of modules, numbers of dimensions."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from initframe.model.slot import Slot
from initframe.recipe.patterns import compile_pattern

_INDEX = re.compile(r"[0-9]+")
_BEGINNING, _END = re.compile(r"[^*?\[{]*"), re.compile(r"[^*?\]}]*\Z")
"""A pattern before its first wildcard and after its last one; all of it if there are none."""
_DEEP = 4
"""Classes around a tensor that a rule may name."""


class Cell(NamedTuple):
    """Tensors that no rule tells apart: of one name but for its numbers, one class and one number of dimensions.

    Attributes:
        template: the name, with ``*`` for whole numbers.
        slots: the tensors.
        around: the classes of the nearest modules around, nearest first, without their bases.
        inside: the classes of all modules around, and their bases.
    """

    template: str
    slots: tuple[Slot, ...]
    around: tuple[str, ...] = ()
    inside: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """A few of the tensors' names, which stand for all of them."""
        few = (self.slots[0], self.slots[-1])
        return tuple(name for slot in few for name in (slot.name, *slot.aliases))


class Selector(NamedTuple):
    """Keys of a rule that say which tensors it is about.

    Attributes:
        keys: ``match`` and others.
        cells: which cells it means, as bits.
        cost: how much there is to read.
        captures: whether its pattern captures ``layer``.
    """

    keys: tuple[tuple[str, Any], ...]
    cells: int
    cost: float
    captures: bool = False


def templated(name: str) -> str:
    """Put ``*`` for the whole numbers of a name.

    >>> templated("h.3.mlp.0.weight")
    'h.*.mlp.*.weight'
    """
    return ".".join("*" if _INDEX.fullmatch(part) else part for part in name.split("."))


def cells_of(slots: Iterable[Slot], around: Callable[[str], Iterator[tuple[str, ...]]]) -> list[Cell]:
    """Sort tensors into cells.

    Args:
        slots: the tensors.
        around: gives the classes of the modules around a tensor.
    """
    groups: dict[Any, list[Slot]] = {}
    classes: dict[Any, list[tuple[str, ...]]] = {}
    for slot in slots:
        key = templated(slot.name), slot.module_types[:1], slot.ndim, slot.part_of is None, bool(slot.aliases)
        groups.setdefault(key, []).append(slot)
        if key not in classes:
            classes[key] = list(around(slot.name))
    return [
        Cell(
            key[0],
            tuple(several),
            tuple(dict.fromkeys(types[0] for types in classes[key][: _DEEP + 1] if types)),
            frozenset(name for types in classes[key] for name in types),
        )
        for key, several in groups.items()
    ]


def selectors_of(cells: Sequence[Cell]) -> list[Selector]:
    """Give everything that a rule may say to choose among cells, simplest first.

    Args:
        cells: of the whole model.
    """
    found: dict[tuple[tuple[str, Any], ...], Selector] = {}
    hits = _Hits(cells)
    for keys, cost in _written(cells):
        written = tuple(keys.items())
        mask = hits.of(keys)
        if mask and written not in found:
            found[written] = Selector(written, mask, cost, "{layer}" in keys["match"])
    best: dict[tuple[int, bool], Selector] = {}
    for selector in sorted(found.values(), key=lambda s: s.cost):
        best.setdefault((selector.cells, selector.captures), selector)
    return list(best.values())


def _written(cells: Sequence[Cell]) -> Iterator[tuple[dict[str, Any], float]]:
    """Keys of rules, each with how much there is to read."""
    ndims = {cell.slots[0].ndim for cell in cells}
    conditions = ["ndim > 1", "ndim == 1"] if max(ndims, default=0) > 1 and min(ndims) < 2 else []
    yield {"match": "*"}, 0.0
    yield from (({"match": "*", "where": condition}, 0.3) for condition in conditions)
    for cell in cells:
        parts, slot = cell.template.split("."), cell.slots[0]
        attribute = f"*.{parts[-1]}" if parts[-1] != "*" else "*"
        classes = [name for name in slot.module_types if name != "Module"]
        yield {"match": attribute}, 0.1
        yield from (({"match": attribute, "where": condition}, 0.4) for condition in conditions)
        for i, cls in enumerate(classes):
            yield {"match": "*", "module": cls}, 0.2 + 0.05 * i
            yield {"match": attribute, "module": cls}, 0.25 + 0.05 * i
        for i, cls in enumerate(cell.around[1:]):
            yield {"match": attribute, "inside": cls}, 0.5 + 0.1 * i
            yield {"match": "*", "inside": cls}, 0.5 + 0.1 * i
            yield from (({"match": attribute, "module": c, "inside": cls}, 0.7 + 0.1 * i) for c in classes[:1])
        for pattern, cost in _patterns(parts):
            yield {"match": pattern}, cost
            yield from (({"match": pattern, "module": cls}, cost + 0.3) for cls in classes[:1])
            yield from (({"match": pattern, "where": condition}, cost + 0.4) for condition in conditions)


def _patterns(parts: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Globs for a name: its end, its beginning, and all of it; the first number may be captured."""
    for length in range(2, len(parts) + 1):
        tail = parts[-length:]
        head = "" if length == len(parts) else "*."
        text = head + ".".join(tail)
        if tail[0] != "*" or length == len(parts):
            yield text, 0.3 + 0.05 * length
        if "*" in tail and tail[0] != "*":
            captured = list(tail)
            captured[captured.index("*")] = "{layer}"
            yield head + ".".join(captured), 0.4 + 0.05 * length
            inner = captured.index("{layer}")
            yield f"{head}{'.'.join(captured[: inner + 1])}.*.{tail[-1]}", 0.35
            yield from (
                (f"{head}{'.'.join(captured[: inner + 1])}.*.{'.'.join(tail[-n:])}", 0.4)
                for n in (2, 3)
                if n < length - inner
            )
    for length in (1, 2, 3):
        if length < len(parts):
            yield ".".join(parts[:length]) + ".*", 0.3 + 0.05 * length
            yield ".".join(parts[:length]) + f".*{parts[-1]}", 0.4 + 0.05 * length
    yield ".".join(parts), 0.5


class _Hits:
    """Which cells keys of a rule mean, key by key."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._known: dict[tuple[str, str], int] = {}
        named = [(name, i) for i, cell in enumerate(cells) for name in cell.names]
        self._forwards = sorted(named)
        self._backwards = sorted((name[::-1], i) for name, i in named)

    def of(self, keys: dict[str, Any]) -> int:
        mask = -1
        for key, value in keys.items():
            mask &= self._one(key, value)
        return mask

    def _one(self, key: str, value: str) -> int:
        if (key, value) not in self._known:
            some = self._near(value) if key == "match" else range(len(self._cells))
            self._known[key, value] = sum(1 << i for i in some if _means(key, value, self._cells[i]))
        return self._known[key, value]

    def _near(self, pattern: str) -> set[int]:
        """The cells with a name that begins or ends like a pattern: of the two, the fewer."""
        end = _END.search(pattern)[0].removeprefix(".")  # type: ignore[index]  # each matches everywhere
        begin = _BEGINNING.match(pattern)[0]  # type: ignore[index]
        return {i for _, i in min(_starting(self._forwards, begin), _starting(self._backwards, end[::-1]), key=len)}


def _starting(ordered: list[tuple[str, int]], text: str) -> list[tuple[str, int]]:
    """The entries whose text starts with another."""
    return ordered[bisect_left(ordered, (text,)) : bisect_left(ordered, (text + chr(sys.maxunicode),))]


def _means(key: str, value: str, cell: Cell) -> bool:
    slot = cell.slots[0]
    if key == "module":
        return any(value in types for types in (slot.module_types, *slot.alias_types))
    if key == "inside":
        return value in cell.inside
    if key == "where":
        return (slot.ndim > 1) == (value == "ndim > 1")
    if slot.part_of is not None and not value.endswith(f".{slot.attribute}"):
        return False
    regex = compile_pattern(value).regex
    return any(regex.match(name) for name in cell.names)
