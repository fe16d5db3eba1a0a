"""Values from a trained model's file: as they are, or made to fit another shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from initframe.errors import Problem, ResolveError
from initframe.files.archive import Archive, is_readable, open_archive
from initframe.fills import Fill
from initframe.fills.pretrained import Inflated, Resampled, Selected, Stored
from initframe.initializers.demands import refuse
from initframe.initializers.table import Declined, initializer
from initframe.model.slot import Slot

Keys = Mapping[str, str] | None

FROM_FILES = ("pretrained", "inflate_2d_to_3d", "resample_pos_embed", "weight_selection")
"""The initializers whose tensor comes from a file as a whole, whatever its dimensions mean."""

MAX_ELEMENTS = 1 << 32
"""The limit of one tensor of a file."""


@initializer("pretrained")
def pretrained(
    slot: Slot, *, path: str, prefix: str = "", keys: Keys = None, shapes: Literal["error", "decline"] = "error"
) -> Fill:
    """The tensor of that name in a file; a tensor that is not in the file is left to the rules above.

    Use it to start from trained weights in part: ``match: "*"`` above, and rules for what is new over or under it.

    Args:
        slot: any floating-point tensor.
        path: a .safetensors file, a folder of them, or a .pt of plain tensors that ``torch.save`` wrote.
        prefix: what the file's names begin with before the model's (``model.``).
        keys: renames beginnings of names, the model's to the file's: ``{encoder.: backbone.}``; the longest that fits.
        shapes: whether another shape in the file is an error, or leaves the tensor to the rules above.

    Returns:
        A fill that reads the values when it is applied.

    Raises:
        ResolveError: the file cannot be read, or has the tensor in another shape.
        Declined: the file has no such tensor.

    >>> pretrained(Slot("w", (2,)), path="missing.safetensors")
    Traceback (most recent call last):
    initframe.errors.ResolveError: missing.safetensors: it cannot be read: No such file or directory. ...
    """
    archive, key, shape = _find(slot, path, prefix, keys)
    if shape == slot.shape:
        return Stored(slot.shape, path, key, archive)
    fact = f"{path} has {key} in the shape {list(shape)}, the model in {list(slot.shape)}"
    if shapes == "decline":
        raise Declined(f"{fact}.")
    raise refuse(f"{fact}.", "Set shapes: decline to leave it to the rules above, or exclude it.")


@initializer("inflate_2d_to_3d")
def inflate_2d_to_3d(slot: Slot, *, path: str, prefix: str = "", keys: Keys = None) -> Fill:
    """A 2-D convolution's kernel, divided by k_t, at each of k_t steps of time (Carreira & Zisserman 2017, I3D).

    Use it for video models from image models (hassony2/inflated_convnets_pytorch, src/inflate.py): a video that stands
    still gives what the image gives.

    Args:
        slot: a 3-D convolution's weight, (o, i, k_t, k, k).
        path: as ``pretrained`` has it, with the weight as (o, i, k, k).
        prefix: as ``pretrained`` has it.
        keys: as ``pretrained`` has it.

    Returns:
        A fill that reads the values when it is applied.

    Raises:
        ResolveError: the file cannot be read, or the shapes do not go together.
        Declined: the file has no such tensor.

    >>> inflate_2d_to_3d(Slot("w", (2, 3, 3, 5, 5)), path="missing.safetensors")
    Traceback (most recent call last):
    initframe.errors.ResolveError: missing.safetensors: it cannot be read: No such file or directory. ...
    """
    archive, key, shape = _find(slot, path, prefix, keys)
    if slot.ndim != 5 or shape != (*slot.shape[:2], *slot.shape[3:]):
        raise refuse(f"inflate_2d_to_3d: {key} of {list(shape)} is no slice of {list(slot.shape)}.")
    return Inflated(slot.shape, path, key, archive)


@initializer("resample_pos_embed")
def resample_pos_embed(slot: Slot, *, path: str, prefix: str = "", keys: Keys = None, class_tokens: int = 1) -> Fill:
    """A table of patch positions, resampled bicubically to another square grid (timm/layers/pos_embed.py).

    Use it to start from a Vision Transformer of another image size; the same size is the same table.

    Args:
        slot: a table (…, class_tokens + side², dim).
        path: as ``pretrained`` has it.
        prefix: as ``pretrained`` has it.
        keys: as ``pretrained`` has it.
        class_tokens: how many tokens come before the grid; they are copied.

    Returns:
        A fill that reads the values when it is applied.

    Raises:
        ResolveError: the file cannot be read, the tokens after the first ones are no squares, or their number is
            negative.
        Declined: the file has no such tensor.

    >>> resample_pos_embed(Slot("w", (1, 5, 8)), path="missing.safetensors")
    Traceback (most recent call last):
    initframe.errors.ResolveError: missing.safetensors: it cannot be read: No such file or directory. ...
    """
    if class_tokens < 0:
        raise refuse(f"class_tokens counts tokens, got {class_tokens}.")
    archive, key, shape = _find(slot, path, prefix, keys)
    tables = [(s[-2] - class_tokens, s[-1]) for s in (shape, slot.shape) if len(s) in (2, 3) and math.prod(s[:-2]) == 1]
    squares = all(n > 0 and math.isqrt(n) ** 2 == n for n, _ in tables)
    if len(tables) != 2 or not squares or tables[0][1] != tables[1][1]:
        raise refuse(
            f"resample_pos_embed needs {class_tokens} + side² tokens of the same width, not {key} of {list(shape)} for "
            f"{list(slot.shape)}."
        )
    return Resampled(slot.shape, path, key, archive, class_tokens)


@initializer("weight_selection")
def weight_selection(slot: Slot, *, path: str, prefix: str = "", keys: Keys = None) -> Fill:
    """Evenly spaced elements of a larger model's tensor (Xu et al. 2024; OscarXZQ/weight-selection).

    Use it for a small model of a trained model's family; leave the classifier out: ``exclude: head.*``.

    Args:
        slot: any floating-point tensor.
        path: as ``pretrained`` has it, with tensors of the same or larger shapes.
        prefix: as ``pretrained`` has it.
        keys: as ``pretrained`` has it.

    Returns:
        A fill that reads the values when it is applied.

    Raises:
        ResolveError: the file cannot be read, or its tensor is smaller in some dimension.
        Declined: the file has no such tensor.

    >>> weight_selection(Slot("w", (2,)), path="missing.safetensors")
    Traceback (most recent call last):
    initframe.errors.ResolveError: missing.safetensors: it cannot be read: No such file or directory. ...
    """
    archive, key, shape = _find(slot, path, prefix, keys)
    if len(shape) != slot.ndim or any(old < new for old, new in zip(shape, slot.shape, strict=False)):
        raise refuse(f"weight_selection: {key} of {list(shape)} is no larger than {list(slot.shape)}.")
    return Selected(slot.shape, path, key, archive)


def _find(slot: Slot, path: str, prefix: str, keys: Keys) -> tuple[Archive, str, tuple[int, ...]]:
    """Find the file, and the slot's name and shape in it."""
    if keys is not None and not (isinstance(keys, Mapping) and all(isinstance(v, str) for v in keys.values())):
        raise refuse(f"keys maps beginnings of names, the model's to the file's; got {keys!r}.")
    archive = open_archive(path)
    held = archive.entries
    wanted = [prefix + _renamed(name, keys or {}) for name in (slot.name, *slot.aliases) if name not in slot.views]
    key = next((name for name in wanted if name in held), None)
    if key is None:
        near = archive.nearest(wanted[0])
        raise Declined(f"{path} has no {wanted[0]}." + (f" Closest: {', '.join(near)}." if near else ""))
    info = held[key]
    if math.prod(info.shape) > MAX_ELEMENTS:
        raise ResolveError(Problem(f"{path}: {key}", f"it has more than {MAX_ELEMENTS} elements."))
    if not is_readable(info.dtype):
        fact = f"its dtype is {info.dtype}, which has no real numbers."
        raise ResolveError(Problem(f"{path}: {key}", fact, fix="Exclude it."))
    return archive, key, info.shape


def _renamed(name: str, keys: Mapping[str, str]) -> str:
    """Replace the longest beginning of a name that fits."""
    fitting = max((begin for begin in map(str, keys) if name.startswith(begin)), key=len, default=None)
    return name if fitting is None else keys[fitting] + name.removeprefix(fitting)
