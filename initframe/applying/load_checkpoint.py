"""Trained values from a file into a whole model."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn

from initframe.errors import Problem, SourceError, closest
from initframe.files.reading import open_file
from initframe.files.safetensors import TensorInfo


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load trained values into a model, in place.

    The file is safetensors, or a ``.pt`` of plain tensors as ``torch.save`` has written it since torch 1.6: no other
    reader is tried, because a pickle can run code. From a training state, ``state_dict`` or ``model`` is taken. A
    prefix that all names share, and the model's names lack (``module.``, ``_orig_mod.``, Lightning's ``model.``), is
    removed.

    Args:
        model: its tensors keep their identity and dtype.
        path: the file.

    Raises:
        SourceError: there is no such file, it is of no kind that is read here, or it does not fit; the model is as
            it was.
    """
    contents = open_file(path)
    held = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    prefix = _prefix(contents.entries, held)
    found = {name.removeprefix(prefix): entry for name, entry in contents.entries.items()}
    if misfits := list(_misfits(found, held)):
        more = [f"and {len(misfits) - 8} more."] if len(misfits) > 8 else []
        fact = "\n  ".join([f"it does not fit {type(model).__name__}:", *map(str, misfits[:8]), *more])
        raise SourceError(Problem(str(path), fact, fix=_ways_out(path)))
    values = contents.values()
    model.load_state_dict({name: values[prefix + name] for name in held if name in found}, strict=False)


def _ways_out(path: Path) -> str:
    """Say what to do about a file that does not fit."""
    return (
        "Build the model as the file has it, as with +model.arguments.num_classes=10, or take what fits by a rule, "
        f'{{match: "*", init: pretrained, path: {path}, shapes: decline}}, which also knows prefix and keys.'
    )


def _prefix(entries: Iterable[str], held: Container[str]) -> str:
    """Return the prefix of every name of a file without which one of them is the model's."""
    names = list(entries)
    parts = next(iter(names), "").split(".")
    beginnings = ("".join(f"{part}." for part in parts[:count]) for count in range(len(parts)))
    shared = takewhile(lambda beginning: all(name.startswith(beginning) for name in names), beginnings)
    return next((p for p in shared if any(name.removeprefix(p) in held for name in names)), "")


def _misfits(found: Mapping[str, TensorInfo], held: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Yield everything that keeps a file from filling a model wholly."""
    foreign = found.keys() - held.keys()
    for name, tensor in held.items():
        if name not in found:
            if not name.endswith("num_batches_tracked"):  # younger than many checkpoints, and of no effect
                yield Problem("", f"it has no {name}.", closest(name, foreign))
            continue
        info = found[name]
        if info.shape != tuple(tensor.shape):
            yield Problem("", f"{name} is {list(info.shape)} in it, {list(tensor.shape)} in the model.")
        elif _number_kind(info.dtype) != _number_kind(tensor.dtype):
            yield Problem("", f"{name} is {info.dtype} in it, {tensor.dtype} in the model.")
    for name in found:
        if name in foreign:
            yield Problem("", f"the model has no {name}.", closest(name, held.keys() - found.keys()))


def _number_kind(dtype: torch.dtype) -> tuple[bool, bool]:
    return dtype.is_floating_point, dtype.is_complex
