"""Fills whose values come from a file: names and shapes are read for a plan, values when it is applied."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from initframe.errors import Problem, ResolveError
from initframe.files.archive import Archive
from initframe.fills.whole import Fixed
from initframe.model.slot import Slot


@dataclass(frozen=True)
class Stored(Fixed):
    """A tensor of a file, as it is; mean, std and reach are not known before it is read.

    Attributes:
        path: of the file or the folder.
        key: the tensor's name there.
        archive: the files as they were when the plan was made.
        others: further names in the file of the same tensor, if it is tied in the model.
        verbatim: whether the values are not real numbers, or coarse ones, and are taken in the file's own dtype.
    """

    path: str
    key: str
    archive: Archive = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False, kw_only=True)
    verbatim: bool = field(default=False, repr=False, kw_only=True)

    mean = std = math.nan  # not known before the values are read
    reach = math.inf

    def suits(self, slot: Slot) -> bool:
        """Values of a tensor's own kind can be stored, if nothing can be drawn for it."""
        return self.verbatim and slot.storable

    def trial(self, device: torch.device) -> Problem | None:  # noqa: ARG002
        """Look at the files again: whether they changed, are damaged, or have several values for a tied tensor."""
        if found := self.archive.fault():
            return found
        for other in self.others:
            if not torch.equal(self.archive.read(self.key), self.archive.read(other)):
                fact = f"{self.key} and {other} differ in the file, and are one tensor in the model."
                return Problem(self.path, fact, fix=f"Give it a rule of its own, with keys: {{…: {other}}}.")
        return None

    def values(self) -> Tensor:
        """Read the values, and make them fit.

        Raises:
            ResolveError: they cannot be read, or the file has changed since the plan was made.
        """
        source = self.source()
        values = self.fitted(source if self.verbatim or source.dtype == torch.float64 else source.float())
        if tuple(values.shape) != self.shape:  # a write would stretch them
            fact = f"it gives values of shape {list(values.shape)} for {list(self.shape)}."
            raise ResolveError(Problem(str(self), fact))
        return values

    def source(self) -> Tensor:
        """Read what the values are made of."""
        return self.archive.read(self.key)

    def fitted(self, source: Tensor) -> Tensor:
        """Return the file's values in the tensor's shape."""
        return source

    def to_dict(self) -> dict[str, Any]:
        """Return the fill as plain data, with the SHA-256 of what is read."""
        entry = {} if self.archive.entry is None else {"entry": self.archive.entry}
        return super().to_dict() | entry | {"sha256": self.archive.digest()}


@dataclass(frozen=True)
class Inflated(Stored):
    """A 2-D kernel w for every step of time, divided by their number (Carreira & Zisserman 2017, I3D)."""

    def fitted(self, source: Tensor) -> Tensor:
        """Return w/k_t, k_t times along dimension 2."""
        steps = self.shape[2]
        return (source / steps).unsqueeze(2).expand(self.shape)


@dataclass(frozen=True)
class Resampled(Stored):
    """A table of positions for a square grid of another size, bicubic with antialiasing (timm/layers/pos_embed.py)."""

    class_tokens: int = 1

    def fitted(self, source: Tensor) -> Tensor:
        """Return the tokens before the grid as they are, and the grid resampled."""
        table = source.reshape(source.shape[-2:])
        first, grid = table[: self.class_tokens], table[self.class_tokens :]
        old, new = math.isqrt(len(grid)), math.isqrt(self.shape[-2] - self.class_tokens)
        image = grid.T.reshape(1, -1, old, old)
        if old != new:
            image = torch.nn.functional.interpolate(image, size=(new, new), mode="bicubic", antialias=True)
        return torch.cat([first, image.reshape(-1, new * new).T]).reshape(self.shape)


@dataclass(frozen=True)
class Selected(Stored):
    """Evenly spaced elements of a larger tensor, in every dimension (Xu et al. 2024)."""

    def source(self) -> Tensor:
        """Read the elements that are taken, and no others: the file's tensor may be much larger than the model.

        They are every (T/S)-th index if S divides T, else S indices evenly from the first to the last.
        """
        source = self.archive.read(self.key, mapped=True)
        shrinking = sorted(range(source.ndim), key=lambda dim: self.shape[dim] / max(source.shape[dim], 1))
        for dim in shrinking:
            if self.shape[dim] != source.shape[dim]:
                source = source.index_select(dim, _spread(source.shape[dim], self.shape[dim]))
        return source


def _spread(old: int, new: int) -> Tensor:
    """Return ``new`` indices of ``old``."""
    if new and old % new == 0:
        return torch.arange(0, old, old // new, device="cpu")
    return torch.linspace(0, old - 1, new, dtype=torch.float32, device="cpu").round().long()


@dataclass(frozen=True)
class Rechanneled(Stored):
    """A convolution's kernel for images of three channels, made for others (timm/models/_manipulate.py).

    Attributes:
        channels: ``"sum"`` adds the three channels up, for images of one. ``"repeat"`` repeats them and multiplies by
            3/n, for images of n.
    """

    channels: str

    def fitted(self, source: Tensor) -> Tensor:
        """Return the kernel for as many channels as the tensor has."""
        count = self.shape[1]
        if self.channels == "sum":
            return source.reshape(source.shape[0], count, 3, *source.shape[2:]).sum(2)
        repeats = [1, -(-count // 3), *[1] * (source.ndim - 2)]
        return source.repeat(repeats)[:, :count] * (3 / count)
