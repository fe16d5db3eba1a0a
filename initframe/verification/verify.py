"""Manifest × tensors: what is as promised, what is not, and how far it has moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from initframe.applying.measure import bits, combine, nonfinite
from initframe.errors import InitframeError, Problem, SourceError, shown
from initframe.files.facts import file_facts, header_facts
from initframe.files.safetensors import unsavable
from initframe.files.shards import open_checkpoint
from initframe.model.memory import is_distributed
from initframe.model.names import bare_names, without_wrappers
from initframe.model.survey import survey
from initframe.verification.movement import Movement, moved_from, moved_from_law
from initframe.verification.read import MANIFEST, Given, Promised, Record, read_manifest
from initframe.verification.result import Row, State, Verification

MODEL = "model.safetensors"

Against = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str] | None
Progress = Callable[[int], None]


def verify(
    manifest: Given, against: Against = None, *, movement: bool = True, on_progress: Progress = lambda _: None
) -> Verification:
    """Compare tensors with what a manifest promises, bit for bit.

    Of a run's folder, its other files are compared, too. A manifest is read as data of a stranger: no plugin is
    imported, and no file that it names elsewhere is opened.

    Args:
        manifest: as :func:`initframe.manifest` gives it, its file, or the folder of a run.
        against: a model, a state_dict, or a checkpoint (a file, a folder, an index); by default the run's own
            ``model.safetensors``.
        movement: whether to compute how far changed tensors are from their start, which is made again for it, or read
            from the run's own ``model.safetensors``.
        on_progress: told how many bytes were compared since it was last told.

    Returns:
        One row per tensor and file; ``ok`` only if everything is as promised, and nothing is there besides.

    Raises:
        SourceError: the manifest or the checkpoint cannot be read.

    >>> from initframe import manifest, reinit
    >>> model = nn.Linear(3, 2)
    >>> record = manifest(reinit(model, {"rules": {"weight": "xavier_uniform", "bias": "zeros"}}, measure=True))
    >>> verify(record, model).ok
    True
    >>> verify(record, {"weight": model.weight + 1, "more": model.bias}).rows[1].state
    'missing'
    """
    record = read_manifest(manifest)
    folder = None if record.place is None else record.place.parent
    is_own = against is None
    if against is None:
        if folder is None:
            fix = "Give a model, a state_dict or a checkpoint."
            raise SourceError(Problem("against", "it is missing, and the manifest is in no folder of a run.", fix=fix))
        against = folder / MODEL
    rows: list[Row] = []
    tensors: Mapping[str, Tensor] | None = None
    try:
        tensors = _tensors(record, against)
    except SourceError as error:
        if not is_own:
            raise
        state: State = "changed" if (folder or Path()).joinpath(MODEL).exists() else "missing"
        rows.append(Row(MODEL, state, " ".join(problem.fact for problem in error.problems), "file"))
    if tensors is not None:
        start = _Start(record, None if is_own else folder, movement)
        is_module = isinstance(against, nn.Module)
        rows += _rows(
            record, tensors, start, is_module=is_module, all_names=is_module or is_own, on_progress=on_progress
        )
    if record.altered:
        rows.append(Row(record.place.name if record.place else MANIFEST, "changed", record.altered, "file"))
    if folder is not None:
        told = {row.name for row in rows if row.kind == "file"}
        rows += [row for row in _file_rows(record, folder, has_model=is_own) if row.name not in told]
    name = type(against).__name__ if isinstance(against, nn.Module | Mapping) else str(against)
    return Verification(f"{name} × manifest of {record.title or 'a model'}", tuple(rows), tuple(_rests(record)))


# --- tensors ---------------------------------------------------------------------------------------------------------


def _tensors(record: Record, against: Any) -> Mapping[str, Tensor]:
    """Find the tensors to be compared, by the names that a manifest has."""
    if isinstance(against, nn.Module):
        bare = bare_names(against)
        state = against.state_dict().items()
        found = _unwrapped(record, {bare.get(name, name): value for name, value in state if isinstance(value, Tensor)})
        inside = [one for one in record.every if not one.persistent]
        places = survey(against).places if inside else {}
        return found | {one.name: places[one.name].tensor() for one in inside if one.name in places}
    if isinstance(against, Mapping):
        return _unwrapped(record, {name: value for name, value in against.items() if isinstance(value, Tensor)})
    if not isinstance(against, str | os.PathLike):
        options = "It is a model, a state_dict, or the path of a checkpoint."
        raise SourceError(Problem("against", f"got {shown(against)}.", options))
    return _unwrapped(record, open_checkpoint(Path(against)).values())


def _unwrapped(record: Record, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take out of the names what wrappers put into them."""
    bare = without_wrappers(tensors, {name for one in record.every for name in one.names})
    return {bare[name]: tensor for name, tensor in tensors.items()}


def _rows(
    record: Record,
    tensors: Mapping[str, Tensor],
    start: _Start,
    *,
    is_module: bool,
    all_names: bool,
    on_progress: Progress,
) -> Iterator[Row]:
    """Compare every tensor; what nobody promised comes last.

    Libraries save a tied tensor under one of its names, so unless ``all_names``, one of them is enough.
    """
    expected = {name: one for one in record.every if one.persistent or is_module for name in one.names}
    extra = {name: None for name in tensors if name not in expected}
    shared = [name for name in expected if name in tensors]
    renamed = _renamed([name for name in expected if name not in tensors], extra)
    digests = _digests(shared, tensors, on_progress)
    for name, one in expected.items():
        if name in tensors:
            yield _row(name, one, tensors[name], digests[name], start)
        elif all_names or tensors.keys().isdisjoint(one.names):
            yield Row(name, "missing", f"{renamed(name)} is there instead." if renamed else "")
    for name in extra:
        yield Row(name, "extra")


def _renamed(missing: Sequence[str], extra: Collection[str]) -> Callable[[str], str] | None:
    """Say how names differ if what is missing is all there with more, or with less, in front of its names."""
    if not missing:
        return None
    first = missing[0]
    for prefix in [name.removesuffix(first) for name in extra if name.endswith(f".{first}")]:
        if all(f"{prefix}{name}" in extra for name in missing):
            return partial(str.__add__, prefix)
    for prefix in [first.removesuffix(name) for name in extra if first.endswith(f".{name}")]:
        if all(name.startswith(prefix) and name.removeprefix(prefix) in extra for name in missing):
            return lambda name: name.removeprefix(prefix)
    return None


def _digests(names: Iterable[str], tensors: Mapping[str, Tensor], on_progress: Progress) -> dict[str, int | None]:
    """Digest tensors, those that are one only once; parts of a mesh are added up over it."""
    samples, known = {}, {}
    for name in names:
        tensor = tensors[name]
        key = id(tensor)
        if key not in known:
            known[key] = bits(tensor)
        samples[name] = known[key]
        on_progress(tensor.nbytes)
    found = combine(list(samples.values()))
    return {name: None if one is None else one.digest for name, one in zip(samples, found, strict=True)}


def _row(name: str, one: Promised, now: Tensor, digest: int | None, start: _Start) -> Row:
    """Compare one tensor."""
    if one.digest is None:
        unmeasured = "the report was made without measure=True."
        return Row(name, "unverifiable", f"its values came from {one.needs}." if one.needs else unmeasured)
    if digest is None:
        return Row(name, "unverifiable", "its format has no digest, or it has no memory here.")
    if one.shape is not None and tuple(now.shape) != one.shape:
        return Row(name, "changed", f"its shape is {list(now.shape)}; promised was {list(one.shape)}.")
    if digest == one.digest and (one.dtype is None or now.dtype == one.dtype):
        return Row(name)
    found = start.moved(name, one, now)
    return Row(name, "changed", _differs(one, now), distance=found and found.distance, cosine=found and found.cosine)


def _differs(one: Promised, now: Tensor) -> str:
    """Say what else than bits is not as promised: the dtype, and values that no training should leave."""
    facts = []
    if one.dtype is not None and now.dtype != one.dtype:
        facts.append(f"its dtype is {now.dtype}; promised was {one.dtype}.")
    if not is_distributed(now) and (strange := nonfinite(now)):
        facts.append(f"{strange:,} of its {now.numel():,} values {'is' if strange == 1 else 'are'} infinite or NaN.")
    return " ".join(facts)


class _Start:
    """Where changed tensors started: drawn again, or read from the run's own file.

    Args:
        record: the manifest.
        folder: of the run; ``None`` if its file is what is compared.
        wanted: whether anybody wants to know.
    """

    def __init__(self, record: Record, folder: Path | None, wanted: bool) -> None:
        self._record, self._folder, self._wanted = record, folder, wanted

    def moved(self, name: str, one: Promised, now: Tensor) -> Movement | None:
        """Say how far a tensor has moved; ``None`` if its start is not known."""
        if not self._wanted or is_distributed(now) or unsavable(now) or now.is_complex():
            return None
        if not one.needs and self._record.seed is not None:
            try:
                return moved_from_law(now, one, one.law(), self._record.seed)
            except InitframeError:
                return None
        started = self._file.get(name)
        if started is None or started.shape != now.shape or started.is_complex():
            return None
        sample = bits(started)
        return moved_from(now, started) if sample is not None and sample.digest == one.digest else None

    @cached_property
    def _file(self) -> Mapping[str, Tensor]:
        if self._folder is None:
            return {}
        try:
            return open_checkpoint(self._folder / MODEL).values()
        except SourceError:
            return {}


# --- files -----------------------------------------------------------------------------------------------------------


def _file_rows(record: Record, folder: Path, *, has_model: bool) -> Iterator[Row]:
    """Compare the run's other files; if another checkpoint stands for its own, the tensors' file may be gone."""
    for name, promised in record.files.items():
        path = folder / name
        if name == MODEL and not has_model and not path.exists():
            continue
        try:
            if path.is_symlink() or not path.is_file():
                yield Row(name, "missing", "it is no file of this folder." if path.is_symlink() else "", "file")
                continue
            found = header_facts(path) if "header_sha256" in promised else file_facts(path)
        except OSError as error:
            yield Row(name, "changed", f"it cannot be read: {error.strerror}.", "file")
            continue
        differ = [key for key in found if found[key] != promised.get(key)]
        yield Row(name, "changed" if differ else "ok", f"other {' and '.join(differ)}." if differ else "", "file")


def _rests(record: Record) -> Iterator[str]:
    """Say what promises rest on besides digests."""
    for word, meaning in (
        ("constructor", "read from the model's constructor, whose laws are in the manifest"),
        ("LAPACK", "factorized by LAPACK: made again elsewhere, they may have other last bits"),
    ):
        names = [one.name for one in record.tensors if word in one.rests_on]
        if names:
            yield f"Rests on {word}: {len(names)} of {len(record.tensors)} tensors were {meaning}."
