"""What a tensor's dimensions mean (inputs of the batch, positions in an input, channels), through every view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

Role = Literal["batch", "position", "channel"]
ROLES: tuple[Role, ...] = ("batch", "position", "channel")


class Factor(NamedTuple):
    """A part of a dimension: its meaning and its size."""

    role: Role
    size: int


@dataclass(frozen=True)
class Layout:
    """The meaning of each dimension, as the factors that it is made of.

    >>> layout = plain((2, 6, 4), ("batch", "position", "channel"))
    >>> sorted(layout.view((12, 2, 2)).roles(0))
    ['batch', 'position']
    """

    dims: tuple[tuple[Factor, ...], ...]

    def roles(self, dim: int) -> set[Role]:
        """The meanings of a dimension; empty for one of size 1."""
        return {factor.role for factor in self.dims[dim] if factor.size > 1} if self.dims else set()

    def count(self, role: Role, dims: Sequence[int] | None = None) -> int:
        """The number of elements along a role, in some dimensions or in all."""
        chosen = self.dims if dims is None else [self.dims[d] for d in dims]
        return math.prod(factor.size for dim in chosen for factor in dim if factor.role == role)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple([dim[0].size if len(dim) == 1 else math.prod([f.size for f in dim]) for dim in self.dims])

    def view(self, shape: Sequence[int]) -> Layout:
        """The layout of another shape of the same elements; where a factor cannot be cut, its neighbours' roles mix."""
        left = [factor for dim in self.dims for factor in dim if factor.size > 1]
        dims = []
        for size in shape:
            taken, need = [], size
            while need > 1 and left:
                factor = left.pop(0)
                share = (
                    math.gcd(factor.size, need) if factor.size % need and need % factor.size else min(factor.size, need)
                )
                if share <= 1:  # the sizes have nothing in common: count all of it
                    taken.append(Factor(factor.role, need))
                    need = 1
                    continue
                taken.append(Factor(factor.role, share))
                need //= share
                if factor.size > share:
                    left.insert(0, Factor(factor.role, factor.size // share))
            dims.append(tuple(taken))
        return Layout(tuple(dims))

    def permute(self, order: Sequence[int]) -> Layout:
        """The layout with its dimensions in another order."""
        return Layout(tuple(self.dims[d] for d in order))

    def with_dim(self, dim: int, factors: tuple[Factor, ...]) -> Layout:
        """The layout with one dimension replaced."""
        dims = list(self.dims)
        dims[dim] = factors
        return Layout(tuple(dims))

    def sized(self, dim: int, size: int) -> Layout:
        """The layout with one dimension of another size and the same meaning."""
        roles = [factor.role for factor in self.dims[dim]] or ["channel"]
        return self.with_dim(dim, (Factor(roles[-1], size),))

    def fitted(self, shape: Sequence[int]) -> Layout:
        """The layout for a shape of as many dimensions, sizes changed if they differ; else all channels."""
        if len(shape) != len(self.dims):
            return channels(shape)
        fitted = self
        for dim, (size, own) in enumerate(zip(shape, self.shape, strict=True)):
            fitted = fitted if size == own else fitted.sized(dim, size)
        return fitted


def plain(shape: Sequence[int], roles: Sequence[Role]) -> Layout:
    """One role for each dimension."""
    return Layout(tuple((Factor(role, size),) for role, size in zip(roles, shape, strict=True)))


def sequence(shape: Sequence[int]) -> Layout:
    """Positions, and channels in the last dimension."""
    roles: list[Role] = ["channel" if d == len(shape) - 1 else "position" for d in range(len(shape))]
    return plain(shape, roles)


def channels(shape: Sequence[int]) -> Layout:
    """All dimensions are channels, as a weight's are."""
    return Layout(tuple((Factor("channel", size),) for size in shape))


def usual(shape: Sequence[int], *, channels_last: bool = False) -> Layout:
    """The layout that inputs usually have: images are (batch, channel, …), sequences (batch, …, channel).

    Args:
        shape: of the input.
        channels_last: whether images are (batch, …, channel).

    >>> [sorted(usual((2, 3, 8, 8)).roles(d)) for d in range(4)]
    [['batch'], ['channel'], ['position'], ['position']]
    """
    if len(shape) >= 4 and not channels_last:
        return images(shape)
    if len(shape) >= 4:
        return plain(shape, ["batch", *(["position"] * (len(shape) - 2)), "channel"])  # type: ignore[list-item]
    roles: list[list[Role]] = [[], ["batch"], ["batch", "channel"], ["batch", "position", "channel"]]
    return plain(shape, roles[len(shape)])


def images(shape: Sequence[int]) -> Layout:
    """Images, or what a convolution makes of other inputs: (batch, channel, places …)."""
    roles: list[Role] = ["batch", "channel", *(["position"] * (len(shape) - 2))]  # type: ignore[list-item]
    return plain(shape, roles)
