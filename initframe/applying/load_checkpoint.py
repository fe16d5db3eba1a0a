"""Trained values from a file into a whole model."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from itertools import islice, repeat
from pathlib import Path

import torch
from torch import Tensor, nn

from initframe.errors import Problem, SourceError, closest, harmless
from initframe.files.older_names import other_names
from initframe.files.reading import Contents
from initframe.files.safetensors import TensorInfo
from initframe.files.shards import open_checkpoint
from initframe.limits import COMPARED_NAMES
from initframe.model.memory import footprint

Found = Mapping[str, TensorInfo | Tensor]
"""What a file has, by the model's names."""

_LOG = logging.getLogger(__name__)


def load_checkpoint(model: nn.Module, path: Path, entry: str | None = None) -> None:
    """Load trained values into a model, in place.

    The checkpoint is safetensors, or a ``.pt`` of plain tensors as ``torch.save`` has written it since torch 1.6: no
    other reader is tried, because a pickle can run code. It may be sharded. A prefix without which most names are the
    model's (``module.``, ``_orig_mod.``, Lightning's ``model.``) is removed, and what does not begin with it is not
    the model's. Names of older versions are recognized, and the model's own load hooks run before anything is refused.
    A tied tensor needs one of its names. Which of several entries is read, and which tensors are not, is logged.

    Args:
        model: its tensors keep their identity and dtype.
        path: a file, a folder of safetensors files, or the index of a sharded checkpoint.
        entry: the part of a training state to read; by default ``state_dict``, ``model_state_dict`` or ``model``.

    Raises:
        SourceError: there is no such file, it is of no kind that is read here, or it does not fit; the model is as
            it was.
    """
    contents = open_checkpoint(path, entry)
    held = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    prefix = _prefix(contents.entries, held)
    names = _names(contents.entries, prefix, held)
    found: Found = {name: contents.entries[key] for name, key in names.items()}
    hooked = _has_load_hooks(model)
    if hooked:
        found = _after_hooks(model, path, {name: contents.mapped(key) for name, key in names.items()})
    if misfits := [*_misfits(found, held), *_untied(names, held, contents)]:
        whole = Problem(str(path), f"it does not fit {type(model).__name__}.", fix=_ways_out(path))
        raise SourceError(whole, *misfits)
    values = contents.values()
    model.load_state_dict({name: values[key] for name, key in names.items()}, strict=False)
    _tell(path, contents if entry is None else None, [key for key in contents.entries if not key.startswith(prefix)])


def _ways_out(path: Path) -> str:
    """Say what to do about a file that does not fit."""
    return (
        "Build the model as the file has it, as with +model.arguments.num_classes=10, or take what fits by a rule, "
        f'{{match: "*", init: pretrained, path: {path}, shapes: decline}}, which also knows prefix and keys.'
    )


def _tell(path: Path, contents: Contents | None, outside: list[str]) -> None:
    """Log which part of the file was read, if nobody chose it, and what was left out."""
    if contents is not None and contents.entry is not None and contents.others:
        entry, others = map(harmless, (contents.entry, ", ".join(contents.others)))
        _LOG.warning("%s: %s was read; the file also has %s. model.entry chooses.", path, entry, others)
    if outside:
        more = f" and {len(outside) - 8} more" if len(outside) > 8 else ""
        named = ", ".join(map(harmless, outside[:8]))
        _LOG.warning("%s: not taken, as they are outside of the model: %s%s.", path, named, more)


# --- names -----------------------------------------------------------------------------------------------------------


def _prefix(entries: Iterable[str], held: Container[str]) -> str:
    """Return the prefix without which most names of a file are the model's; the shortest of several."""
    counts: Counter[str] = Counter()
    for name in entries:
        parts = name.split(".")
        cuts = ("".join(f"{part}." for part in parts[:count]) for count in range(len(parts)))
        counts.update(cut for cut in cuts if name[len(cut) :] in held)
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default="")


def _names(entries: Iterable[str], prefix: str, held: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the names that a model may know to those of a file; names of older versions become today's."""
    names = {key.removeprefix(prefix): key for key in entries if key.startswith(prefix)}
    for name in held:
        if name not in names:
            older = next((old for old in other_names(name) if old in names and old not in held), None)
            if older is not None:
                names[name] = names.pop(older)
    return names


def _has_load_hooks(model: nn.Module) -> bool:
    return any(module._load_state_dict_pre_hooks for module in model.modules())  # noqa: SLF001


def _after_hooks(model: nn.Module, path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the hooks that a model runs before it loads make of a state_dict."""
    for name, module in model.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        for hook in module._load_state_dict_pre_hooks.values():  # noqa: SLF001
            try:
                hook(state, prefix, {}, True, [], [], [])  # as load_state_dict calls it
            except Exception as error:
                fact = f"a load hook of {name or type(module).__name__} fails with {type(error).__name__}: {error}."
                raise SourceError(Problem(str(path), fact)) from error
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


# --- what does not fit -----------------------------------------------------------------------------------------------


def _misfits(found: Found, held: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Yield everything that keeps a file from filling a model wholly."""
    foreign, unfilled = found.keys() - held.keys(), held.keys() - found.keys()
    compared = islice(repeat(True), COMPARED_NAMES)  # the closest names of more problems than that are not read
    reached = {name for names in _ties(held) if any(name in found for name in names) for name in names}
    for name, tensor in held.items():
        if name not in found:
            # The counter is younger than many checkpoints, and of no effect.
            if name not in reached and not name.endswith("num_batches_tracked"):
                yield Problem("", f"it has no {name}.", closest(name, foreign) if next(compared, False) else "")
            continue
        info = found[name]
        if tuple(info.shape) != tuple(tensor.shape):
            yield Problem("", f"{name} is {list(info.shape)} in it, {list(tensor.shape)} in the model.")
        elif _number_kind(info.dtype) != _number_kind(tensor.dtype):
            yield Problem("", f"{name} is {info.dtype} in it, {tensor.dtype} in the model.")
    for name in found:
        if name in foreign:
            options = closest(name, unfilled) if next(compared, False) else ""
            yield Problem("", f"the model has no {name}.", options)


def _ties(held: Mapping[str, Tensor]) -> list[list[str]]:
    """Group the names of the same tensor; names of untied tensors are left out."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, tensor in held.items():
        if tensor.numel():
            groups[footprint(tensor)].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _untied(names: Mapping[str, str], held: Mapping[str, Tensor], contents: Contents) -> Iterator[Problem]:
    """Yield the tied tensors for which a file has several values: one of them would be lost."""
    for tied in _ties(held):
        first, *others = [names[name] for name in tied if name in names] or [""]
        for other in others:
            shapes = {contents.entries[name].shape for name in (first, other)}
            if shapes == {tuple(held[tied[0]].shape)} and not torch.equal(contents.value(first), contents.value(other)):
                yield Problem("", f"{first} and {other} differ in it, and are one tensor in the model.")


def _number_kind(dtype: torch.dtype) -> tuple[bool, bool]:
    return dtype.is_floating_point, dtype.is_complex
