"""Values from a trained model's file: as they are, or made to fit another shape."""

from __future__ import annotations

import math
from typing import Any, Literal

from initframe.fills import Fill
from initframe.fills.pretrained import Inflated, Rechanneled, Resampled, Selected, Stored
from initframe.initializers.demands import refuse
from initframe.initializers.lookup import Found, Keys, find
from initframe.initializers.table import Declined, initializer
from initframe.limits import RESAMPLED
from initframe.model.slot import Slot


@initializer("pretrained", restores=True)
def pretrained(
    slot: Slot,
    *,
    path: str,
    entry: str | None = None,
    prefix: str = "",
    keys: Keys = None,
    shapes: Literal["error", "decline"] = "error",
    channels: Literal["sum", "repeat"] | None = None,
) -> Fill:
    """The tensor of that name in a file; a tensor that is not in the file is left to the rules above.

    Use it to start from trained weights in part: ``match: "*"`` above, and rules for what is new over or under it. If
    the rule says no ``kind``, it also takes the buffers that a state_dict has (the statistics of BatchNorm), and what
    parametrizations compute a weight from (weight_norm, spectral_norm, orthogonal, pruning masks).

    Args:
        slot: any tensor; whole numbers and complex ones must have their kind in the file, too.
        path: a .safetensors file, a folder of them, the index of a sharded checkpoint, or a .pt of plain tensors that
            ``torch.save`` wrote.
        entry: which part of a training state to read; by default ``state_dict``, ``model_state_dict`` or ``model``.
        prefix: what the file's names begin with before the model's (``model.``).
        keys: renames the model's names to the file's. A key without ``*`` is the beginning of a name:
            ``{encoder.: backbone.}``; a key with ``*`` is a whole name, and the k-th ``*`` of the new one is what its
            k-th matched: ``{"*.norm.weight": "*.ln.gamma"}``. Of several that fit, the longest counts; each must fit.
        shapes: whether another shape in the file is an error, or leaves the tensor to the rules above.
        channels: makes a convolution for images of three channels fit others, as timm does it: ``sum`` for images of
            one, ``repeat`` for those of more.

    Returns:
        A fill that reads the values when it is applied.

    Raises:
        ResolveError: the file cannot be read, or has the tensor in another shape.
        Declined: the file has no such tensor.

    >>> pretrained(Slot("w", (2,)), path="missing.safetensors")
    Traceback (most recent call last):
    initframe.errors.ResolveError: missing.safetensors: it cannot be read: No such file or directory. ...
    """
    found = find(slot, path, entry, prefix, keys)
    if found.shape == slot.shape:
        return _filled(Stored, slot, path, found)
    if channels is not None and _is_for_colors(found.shape, slot.shape):
        if (channels == "sum") == (found.shape[1] == 3 * slot.shape[1]):
            return _filled(Rechanneled, slot, path, found, channels)
        word = "sum" if channels == "repeat" else "repeat"
        fact = f"channels: {channels} makes no {list(slot.shape)} of {found.key}, {list(found.shape)}."
        raise refuse(fact, f"Set channels: {word}.")
    fact = f"{path} has {found.key} in the shape {list(found.shape)}, the model in {list(slot.shape)}"
    if shapes == "decline":
        raise Declined(f"{fact}.")
    raise refuse(f"{fact}.", "Set shapes: decline to leave it to the rules above, or exclude it.")


def _filled(kind: type[Stored], slot: Slot, path: str, found: Found, *more: Any) -> Stored:
    """Make a fill of a file's tensor; ``more`` are the arguments that its kind has of its own."""
    return kind(slot.shape, path, found.key, found.archive, *more, others=found.others, verbatim=found.verbatim)


def _is_for_colors(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether one shape is that of a convolution of three channels, and the other differs in the channels only."""
    alike = len(old) == len(new) >= 3 and (old[0], *old[2:]) == (new[0], *new[2:])
    return alike and (old[1] == 3 or old[1] == 3 * new[1])


@initializer("inflate_2d_to_3d", restores=True)
def inflate_2d_to_3d(slot: Slot, *, path: str, entry: str | None = None, prefix: str = "", keys: Keys = None) -> Fill:
    """A 2-D convolution's kernel, divided by k_t, at each of k_t steps of time (Carreira & Zisserman 2017, I3D).

    Use it for video models from image models (hassony2/inflated_convnets_pytorch, src/inflate.py): a video that stands
    still gives what the image gives.

    Args:
        slot: a 3-D convolution's weight, (o, i, k_t, k, k).
        path: as ``pretrained`` has it, with the weight as (o, i, k, k).
        entry: as ``pretrained`` has it.
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
    found = find(slot, path, entry, prefix, keys)
    if slot.ndim != 5 or found.shape != (*slot.shape[:2], *slot.shape[3:]):
        raise refuse(f"inflate_2d_to_3d: {found.key} of {list(found.shape)} is no slice of {list(slot.shape)}.")
    return _filled(Inflated, slot, path, found)


@initializer("resample_pos_embed", restores=True)
def resample_pos_embed(
    slot: Slot,
    *,
    path: str,
    entry: str | None = None,
    prefix: str = "",
    keys: Keys = None,
    class_tokens: int = 1,
) -> Fill:
    """A table of patch positions, resampled bicubically to another square grid (timm/layers/pos_embed.py).

    Use it to start from a Vision Transformer of another image size; the same size is the same table.

    Args:
        slot: a table (…, class_tokens + side², dim).
        path: as ``pretrained`` has it.
        entry: as ``pretrained`` has it.
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
    found = find(slot, path, entry, prefix, keys)
    shapes = found.shape, slot.shape
    tables = [(s[-2] - class_tokens, s[-1]) for s in shapes if len(s) in (2, 3) and math.prod(s[:-2]) == 1]
    squares = all(n > 0 and math.isqrt(n) ** 2 == n for n, _ in tables)
    if len(tables) != 2 or not squares or tables[0][1] != tables[1][1]:
        raise refuse(
            f"resample_pos_embed needs {class_tokens} + side² tokens of the same width, not {found.key} of "
            f"{list(found.shape)} for {list(slot.shape)}."
        )
    if math.prod(found.shape) > RESAMPLED:
        raise refuse(f"resample_pos_embed: {found.key} of {list(found.shape)} has more than {RESAMPLED} elements.")
    return _filled(Resampled, slot, path, found, class_tokens)


@initializer("weight_selection", restores=True)
def weight_selection(slot: Slot, *, path: str, entry: str | None = None, prefix: str = "", keys: Keys = None) -> Fill:
    """Evenly spaced elements of a larger model's tensor (Xu et al. 2024; OscarXZQ/weight-selection).

    Use it for a small model of a trained model's family; leave the classifier out: ``exclude: head.*``.

    Args:
        slot: any floating-point tensor.
        path: as ``pretrained`` has it, with tensors of the same or larger shapes.
        entry: as ``pretrained`` has it.
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
    found = find(slot, path, entry, prefix, keys)
    if len(found.shape) != slot.ndim or any(old < new for old, new in zip(found.shape, slot.shape, strict=False)):
        raise refuse(f"weight_selection: {found.key} of {list(found.shape)} is no larger than {list(slot.shape)}.")
    return _filled(Selected, slot, path, found)
