"""The faces of fills that are computed for the full tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor

from initframe.errors import Problem
from initframe.fills.elementwise import wrong_values
from initframe.fills.fill import Fill, Shape, is_built_in

Index: TypeAlias = tuple[int | slice | Tensor, ...]
"""What stands in the brackets of ``tensor[index]``: numbers and whole dimensions, or numbers and lists."""
ALL = slice(None)


class Sampler(Protocol):
    """A source of random numbers, given to a whole fill when it is built."""

    def __call__(
        self,
        distribution: str,
        args: Sequence[float],
        purpose: str = "",
        *,
        name: str | None = None,
        shape: Shape | None = None,
    ) -> Tensor:
        """Draw a distribution of the stream at every element.

        Args:
            distribution: ``"uniform"``, ``"normal"``, ``"truncated_normal"``, or ``"bits"`` for whole words.
            args: its arguments, in the stream's order.
            purpose: what it is drawn for; every purpose has numbers of its own.
            name: under which name; by default the tensor's. Tensors that share a name share the numbers.
            shape: of what is drawn; by default the fill's.

        Returns:
            A float32 tensor, int32 for ``"bits"``, on the device of the tensor that is filled.
        """
        ...


@dataclass(frozen=True)
class Whole(Fill):
    """The face of fills that are computed for the full tensor; of a sharded one, in every process the same.

    Derive a frozen dataclass from it, with ``build``, ``mean`` and ``std``; ``reach`` if it is known. ``apply`` builds
    a fill of your own once on trial, with other numbers, before it writes the first tensor.

    Attributes:
        shape: of the tensor, the first argument.

    >>> @dataclass(frozen=True)
    ... class Centered(Whole):
    ...     std: float = 1.0
    ...     mean = 0.0
    ...     def build(self, draw):
    ...         normal = draw("normal", (0.0, self.std))
    ...         return normal - normal.mean(dim=-1, keepdim=True)
    >>> print(Centered((2, 8), 0.02))
    centered(0.02)
    """

    shape: Shape = field(repr=False)
    asks: ClassVar[tuple[str, tuple[float, ...], str] | None] = None
    """What ``build`` draws at every element, if it draws nothing else: distribution, arguments, purpose. The numbers of
    many small tensors are then drawn together, before the first one is built."""
    dims: ClassVar[Sequence[int]] = range(65)
    """How many dimensions the tensor may have."""

    def build(self, draw: Sampler) -> Tensor:
        """Compute the full tensor.

        Args:
            draw: gives random numbers, the same wherever and however the tensor is stored.

        Returns:
            The values, in float32 or float64; rounded to the tensor's dtype by the one who writes them.
        """
        raise NotImplementedError

    @property
    def on_one_thread(self) -> bool:
        """Whether one thread builds the tensor, while others build other tensors.

        True for what LAPACK factorizes: it gains little by more threads, and its last bits depend on their number.
        """
        return False

    def misshapen(self, shape: Shape) -> str | None:
        """Say that the fill is made for another shape, or for other dimensions; ``None`` if it is not."""
        if self.shape != shape:
            return f"it is made for the shape {list(self.shape)}; the tensor has {list(shape)}."
        if len(shape) not in self.dims:
            return f"it needs {dimensions(self.dims)}; the tensor has {len(shape)}."
        return None

    def undrawable(self) -> str | None:
        """Nothing is known before the fill is built."""
        return None

    def trial(self, device: torch.device) -> Problem | None:
        """Build the fill with other numbers; initframe's own kinds are left to its tests."""
        if found := super().trial(device):
            return found
        if is_built_in(self):
            return None
        try:
            return _trial(self, device)
        except TypeError:  # it has a field that cannot be hashed
            return _trial.__wrapped__(self, device)


@lru_cache(maxsize=64)
def _trial(fill: Whole, device: torch.device) -> Problem | None:
    """Build a fill; layers that repeat are tried once."""
    generator = torch.Generator(device).manual_seed(0)

    def sample(
        distribution: str, args: Sequence[float], purpose: str = "", *, name: str | None = None, shape: Any = None
    ) -> Tensor:
        del purpose, name
        size = fill.shape if shape is None else shape
        if distribution == "bits":
            return torch.randint(-(2**31), 2**31, size, dtype=torch.int32, device=device, generator=generator)
        if distribution == "normal":
            normal = torch.randn(size, dtype=torch.float32, device=device, generator=generator)
            return normal * args[1] + args[0]
        low, high = args[-2:]
        return torch.rand(size, dtype=torch.float32, device=device, generator=generator) * (high - low) + low

    try:
        values: Any = fill.build(sample)
    except Exception as error:  # noqa: BLE001  # code of the user's own may raise anything
        return Problem(str(fill), f"it fails with {type(error).__name__}: {error}.")
    return wrong_values(fill, values, fill.shape, "Return one value for each element.")


@dataclass(frozen=True)
class Scattered(Whole):
    """The face of whole fills that are zero but for some elements: these alone are computed."""

    def elements(self, draw: Sampler) -> tuple[Index, Tensor]:
        """Compute the elements that are not zero.

        Args:
            draw: as for :meth:`Whole.build`.

        Returns:
            Their index, lists on the CPU, and their values in float32 or float64.
        """
        raise NotImplementedError

    def build(self, draw: Sampler) -> Tensor:
        """Compute the full tensor, which nobody needs who can write to the elements where they are."""
        index, values = self.elements(draw)
        whole = torch.zeros(self.shape, dtype=values.dtype, device=values.device)
        whole[index] = values
        return whole


@dataclass(frozen=True)
class Fixed(Whole):
    """The face of whole fills that draw nothing; their moments and reach are those of the one tensor that they are."""

    def values(self) -> Tensor:
        """Compute the full tensor, in float32 or float64."""
        raise NotImplementedError

    def build(self, draw: Sampler) -> Tensor:  # noqa: ARG002
        """Compute the full tensor; nothing is drawn."""
        return self.values()

    @property
    def mean(self) -> float:
        """Of the tensor's elements."""
        return self._facts[0]

    @property
    def std(self) -> float:
        """Of the tensor's elements."""
        return self._facts[1]

    @property
    def reach(self) -> float:
        """Of the tensor's elements."""
        return self._facts[2]

    @cached_property
    def _facts(self) -> tuple[float, float, float]:
        values = self.values().double()
        if not values.numel():
            return math.nan, math.nan, 0.0
        std, mean = torch.std_mean(values, correction=0)
        return mean.item(), std.item(), values.abs().max().item()


def dimensions(dims: Sequence[int]) -> str:
    """Say how many dimensions are needed.

    >>> dimensions((2,)), dimensions((3, 4, 5)), dimensions(range(2, 65))
    ('2 dimensions', '3 to 5 dimensions', '2 or more dimensions')
    """
    first, last = min(dims), max(dims)
    if first == last:
        return f"{first} dimensions"
    return f"{first} or more dimensions" if last > 5 else f"{first} to {last} dimensions"


def nothing(*_: object, **__: object) -> Tensor:
    """Stand in for the sampler of a fill that draws nothing."""
    raise NotImplementedError


def centre(shape: Shape) -> Shape:
    """Return the centre k//2 of a convolution's kernel, which is all dimensions but two.

    >>> centre((8, 4, 3, 2))
    (1, 1)
    """
    return tuple(size // 2 for size in shape[2:])
