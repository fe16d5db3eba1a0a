"""A manifest read as data of a stranger: bounded, checked, and nothing that it names is opened or imported."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from initframe import limits
from initframe.errors import InitframeError, Problem, SourceError, about, shown
from initframe.files.dtypes import DTYPES
from initframe.fills import Fill
from initframe.fills.record import KINDS, NEEDS, from_record
from initframe.plan.manifest import FORMAT, SUM, sum_of, to_text
from initframe.plan.report import Report

MANIFEST = "manifest.json"

Given = Mapping[str, Any] | str | os.PathLike[str]
"""A manifest: the mapping, its file, or the folder of a run."""

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
_FORMAT_1 = "the values that were there: format 1 has no digest of what no rule matched"


@dataclass(frozen=True)
class Promised:
    """A tensor that a manifest names.

    Attributes:
        name: its name.
        aliases: further names of the same tensor.
        shape: its shape; ``None`` if the manifest does not say it (format 1, untouched tensors).
        dtype: its dtype, likewise; ``None`` also if files have no such dtype.
        digest: of its bits; ``None`` if it was not measured.
        stream: the name that addresses its numbers.
        fill: the fill's data; empty if no rule matched.
        needs: what makes the values, if it is not the fill's data, the seed and the name; else empty.
        rests_on: what the bits rest on besides the stream.
        persistent: whether a state_dict holds it.
    """

    name: str
    aliases: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    digest: int | None = None
    stream: str = ""
    fill: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    rests_on: tuple[str, ...] = ()
    persistent: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return (self.name, *self.aliases)

    @property
    def numel(self) -> int:
        """The number of elements; 0 if the shape is not known."""
        return math.prod(self.shape) if self.shape is not None else 0

    def law(self) -> Fill:
        """Return the fill, checked for the tensor.

        Raises:
            InitframeError: the data make no fill, or the tensor cannot hold it.
        """
        shape, dtype = self.shape, self.dtype
        if self.needs:
            raise InitframeError(Problem(self.name, f"a manifest does not hold its values; they need {self.needs}."))
        if shape is None or dtype is None:
            raise InitframeError(Problem(self.name, "the manifest does not say its shape and dtype."))
        try:
            found = from_record(self.fill, shape)
            problem = found.problem(shape, dtype) or found.trial(torch.device("cpu"))
        except InitframeError as error:
            raise InitframeError(*(problem.on(self.name) for problem in error.problems)) from error
        except Exception as error:  # a stranger's numbers may break any formula
            fact = f"its fill cannot be drawn: {type(error).__name__}: {error}."
            raise InitframeError(Problem(self.name, fact)) from error
        if problem:
            raise InitframeError(problem.on(self.name))
        return found


@dataclass(frozen=True)
class Record:
    """A manifest, read.

    Attributes:
        place: the file; ``None`` if it was given as a mapping.
        format: 1 or 2.
        run: the run's number; empty in format 1.
        seed: of the stream; ``None`` if torch's generator drew.
        title: the model's name.
        tensors: what can be made again.
        others: the rest.
        files: the run's other files, with what is known of each.
        altered: how the record differs from what was written, as a sentence; empty if it does not, or nobody can know.
    """

    place: Path | None
    format: int
    run: str
    seed: int | None
    title: str
    tensors: tuple[Promised, ...]
    others: tuple[Promised, ...]
    files: Mapping[str, Mapping[str, Any]]
    altered: str = ""

    @property
    def every(self) -> tuple[Promised, ...]:
        """All tensors."""
        return self.tensors + self.others


def read_manifest(given: Given) -> Record:
    """Read a manifest of any format.

    Args:
        given: the mapping, its file, or the folder of a run.

    Raises:
        SourceError: it cannot be read, or is no manifest.

    >>> read_manifest({"format": 1, "seed": 0, "tensors": [], "untouched": ["w"]}).others[0].name
    'w'
    """
    if isinstance(given, Mapping):
        return _record(given, None, None)
    if not isinstance(given, str | os.PathLike):
        raise SourceError(_no_manifest(given))
    place = Path(given)
    if place.is_dir():
        place = place / MANIFEST
        if not place.is_file():
            fact = f"it has no {MANIFEST}: its run did not finish, or it is not the folder of one."
            runs = sorted(found.parent.name for found in place.parent.glob(f"*/{MANIFEST}"))[:3]
            options = f"Runs in it: {', '.join(runs)}." if runs else ""
            raise SourceError(Problem(str(place.parent), fact, options))
    text = _read(place)
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise SourceError(Problem(str(place), f"it is damaged, or no manifest: {error}.")) from None
    return _record(data, place, text)


def _no_manifest(given: object) -> Problem:
    options = "It is a mapping, a file, or a run's folder."
    fix = "initframe.manifest(report) makes one." if isinstance(given, Report) else ""
    return Problem("manifest", f"got {type(given).__name__}.", options, fix)


def _read(place: Path) -> str:
    try:
        if not place.is_file():
            raise SourceError(Problem(str(place), "it is no regular file." if place.exists() else "it does not exist."))
        if place.stat().st_size > limits.MANIFEST_BYTES:
            raise SourceError(Problem(str(place), f"it is larger than {limits.MANIFEST_BYTES} bytes."))
        with place.open("rb") as file:
            data = file.read(limits.MANIFEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(Problem(str(place), f"it cannot be read: {reason}.")) from None
    if len(data) > limits.MANIFEST_BYTES:
        raise SourceError(Problem(str(place), f"it is larger than {limits.MANIFEST_BYTES} bytes."))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SourceError(Problem(str(place), f"it is damaged, or no manifest: {error}.")) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _record(data: Any, place: Path | None, text: str | None) -> Record:
    at = str(place or "manifest")
    try:
        return _checked(data, place, text)
    except InitframeError as error:
        raise SourceError(*(problem.on(at) for problem in error.problems)) from None
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        fact = f"it is damaged, or no manifest: {type(error).__name__}: {error}."
        raise SourceError(Problem(at, fact)) from None


def _checked(data: Any, place: Path | None, text: str | None) -> Record:
    if not isinstance(data, Mapping) or data.get("format") not in (1, FORMAT) or type(data["format"]) is not int:
        known = f"It has format: 1 or {FORMAT}."
        raise InitframeError(Problem("", "it is no manifest that this version knows.", known))
    number = data["format"]
    seed = data.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**64):
        raise InitframeError(Problem("seed", f"it is {shown(seed)}."))
    drawn = data.get("stream")
    if isinstance(drawn, Mapping) and drawn.get("version") != 1:
        raise InitframeError(Problem("stream.version", f"it is {shown(drawn.get('version'))}; this version has 1."))
    generator = data.get("generator", "stream")
    lists = [_list(data, "tensors"), _list(data, "others")]
    entries = [
        _tensor(entry, generator, is_other=i == 1, number=number) for i, own in enumerate(lists) for entry in own
    ]
    if number == 1:
        untouched = [_name(name) for name in _list(data, "untouched")]
        entries += [Promised(name, needs=_FORMAT_1) for name in untouched]
    _demand_unique(name for entry in entries for name in entry.names)
    return Record(
        place,
        number,
        _text(data.get("run", "")),
        seed,
        _text(data.get("model", "")),
        tuple(entry for entry in entries if not entry.needs),
        tuple(entry for entry in entries if entry.needs),
        dict(_files(data.get("files", {}))),
        _altered(data, text) if number > 1 else "",
    )


def _altered(data: Mapping[str, Any], text: str | None) -> str:
    """Say how a record is not what was written; a file must have its very bytes."""
    if data.get(SUM) != sum_of(data):
        return "its sum is not that of its content: it was changed after it was written."
    if text is not None and text != to_text(data):
        fix = "To save a manifest, write json.dumps(record, indent=2, ensure_ascii=False) and a line break."
        return f"its text is not as it was written, although it says the same. {fix}"
    return ""


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    found = data.get(key, [])
    if not isinstance(found, list | tuple):
        raise InitframeError(Problem(key, f"it is {shown(found)}.", "It is a list."))
    if len(found) > limits.TENSORS:
        raise InitframeError(Problem(key, f"it has {len(found)} entries; {limits.TENSORS} is the limit."))
    return list(found)


def _demand_unique(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InitframeError(Problem(name, "it is there twice."))
        seen.add(name)


def _tensor(entry: Any, generator: str, *, is_other: bool, number: int) -> Promised:
    if not isinstance(entry, Mapping):
        raise InitframeError(Problem("tensors", f"an entry is {shown(entry)}.", "It is a mapping."))
    name = _name(entry.get("name"))
    with about(name, InitframeError):
        return _promised(name, entry, generator, is_other, number)


def _promised(name: str, entry: Mapping[str, Any], generator: str, is_other: bool, number: int) -> Promised:
    digest, fill = _digest(entry.get("digest")), entry.get("fill") or {}
    if not isinstance(fill, Mapping):
        raise InitframeError(Problem("fill", f"it is {shown(fill)}.", "It is a mapping."))
    needs = _text(entry.get("needs", "what it does not say" if is_other else ""))
    if not needs and not is_other and generator != "stream":
        needs = "torch's generator"
    if number == 1 and not needs:
        needs = _needs(fill) or ("" if digest or not _is_partly_told(fill) else "a digest that confirms their layout")
    return Promised(
        name,
        tuple(map(_name, _list(entry, "aliases"))),
        _shape(entry.get("shape")),
        _dtype(entry.get("dtype")),
        digest,
        _name(entry.get("stream", name)),
        fill,
        needs,
        tuple(map(_text, _list(entry, "rests_on"))),
        entry.get("persistent", True) is True,
    )


def _digest(digest: Any) -> int | None:
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{16}", digest)):
        raise InitframeError(Problem("digest", f"it is {shown(digest)}.", "It is 16 hexadecimal digits."))
    return None if digest is None else int(digest, 16)


def _needs(fill: Mapping[str, Any]) -> str:
    """Say what a fill of format 1 needs beyond its data."""
    kind = fill.get("kind")
    if kind not in KINDS:
        return NEEDS.get(str(kind), f"the code of {kind!r:.80}")
    inside = [value for value in fill.values() if isinstance(value, Mapping) and "kind" in value]
    inside += [one for one in fill.get("fills", []) if isinstance(one, Mapping)]
    return next(filter(None, map(_needs, inside)), "")


def _is_partly_told(fill: Mapping[str, Any]) -> bool:
    """Tell whether a record of format 1 leaves something to be guessed, which only a digest confirms."""
    return fill.get("kind") in ("blocks", "copied", "delta_orthogonal", "dirac", "partial_hadamard")


def _name(name: Any) -> str:
    if not isinstance(name, str) or len(name) > limits.NAME_CHARACTERS:
        raise InitframeError(
            Problem("name", f"it is {shown(name)}.", f"It is a text of up to {limits.NAME_CHARACTERS} characters.")
        )
    return name


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise InitframeError(Problem("", f"{shown(text)} should be a text."))
    return text


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple) or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise InitframeError(Problem("shape", f"it is {shown(shape)}.", "It is a list of sizes."))
    if len(shape) > limits.DIMENSIONS or math.prod(shape) * 8 > limits.TENSOR_BYTES:
        raise InitframeError(Problem("shape", f"it is {shown(shape)}, more than any file holds."))
    return tuple(shape)


def _dtype(name: Any) -> torch.dtype | None:
    if not isinstance(name, str):
        raise InitframeError(Problem("dtype", f"it is {shown(name)}.", f"Options: {', '.join(_DTYPES)}."))
    return _DTYPES.get(name)


def _files(files: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The files next to a manifest: bare names, so that no path leads elsewhere."""
    if not isinstance(files, Mapping) or len(files) > limits.MANIFEST_FILES:
        raise InitframeError(Problem("files", f"it is {shown(files)}.", "It is a mapping of names to facts."))
    for name, facts in files.items():
        if not isinstance(name, str) or Path(name).name != name or not isinstance(facts, Mapping):
            raise InitframeError(Problem("files", f"{shown(name)} is no file next to the manifest."))
        yield name, facts
