"""Trained values from a file into a whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from initframe.errors import SourceError, closest
from initframe.fills.files import Entry, open_file


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load trained values into a model, in place.

    The file is safetensors, or a ``.pt`` of plain tensors as ``torch.save`` has written it since torch 1.6: no other
    reader is tried, because a pickle can run code. Of a training state, ``state_dict`` or ``model`` is taken; names
    that a wrapper prefixed (``module.``, ``_orig_mod.``) lose the prefix.

    Args:
        model: its tensors keep their identity and dtype.
        path: the file.

    Raises:
        SourceError: there is no such file, it is of no kind that is read here, or it does not fit; the model is as
            it was.
    """
    contents = open_file(path)
    held = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    prefix = _wrapper_prefix(contents.entries, held)
    found = {name.removeprefix(prefix): entry for name, entry in contents.entries.items()}
    if misfits := list(_misfits(found, held)):
        more = [f"and {len(misfits) - 8} more."] if len(misfits) > 8 else []
        raise SourceError("\n  ".join([f"{path} does not fit {type(model).__name__}:", *misfits[:8], *more]))
    values = contents.values()
    model.load_state_dict({name: values[prefix + name] for name in held if name in found}, strict=False)


def _wrapper_prefix(entries: Iterable[str], held: Iterable[str]) -> str:
    """What wrappers put in front of every name, where the model has no such names of its own."""
    names, prefix = list(entries), ""
    while names:
        wrappers = (w for w in ("module.", "_orig_mod.") if all(name.startswith(prefix + w) for name in names))
        if not (wrapper := next(wrappers, "")):
            break
        prefix += wrapper
    return "" if any(name.startswith(prefix) for name in held) else prefix


def _misfits(found: Mapping[str, Entry], held: Mapping[str, Tensor]) -> Iterator[str]:
    """Everything that keeps a file from filling a model wholly."""
    strangers = found.keys() - held.keys()
    for name, tensor in held.items():
        if name not in found:
            if not name.endswith("num_batches_tracked"):  # younger than many checkpoints, and of no effect
                yield f"it has no {name}. {closest(name, strangers)}".rstrip()
            continue
        shape, dtype = found[name]
        if shape != tuple(tensor.shape):
            yield f"{name} is {list(shape)} in it, {list(tensor.shape)} in the model."
        elif (dtype.is_floating_point, dtype.is_complex) != (tensor.is_floating_point(), tensor.is_complex()):
            yield f"{name} is {dtype} in it, {tensor.dtype} in the model."
    yield from (
        f"the model has no {name}. {closest(name, held.keys() - found.keys())}".rstrip()
        for name in found
        if name in strangers
    )
