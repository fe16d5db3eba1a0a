"""A fill for each of several weights that are stacked in one tensor, or whose dimensions have another order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from initframe.fills.composed import Around, Masked
from initframe.fills.elementwise import Constant, Mapped
from initframe.fills.fill import Fill, Shape
from initframe.fills.whole import Sampler, Whole
from initframe.model.axes import ORDER, member_shape


@dataclass(frozen=True)
class Stacked(Around):
    r"""``fill`` for every member of a batch, each drawn apart; a member has the shape (out, in, \*kernel).

    The numbers are those of the whole tensor's elements, so they depend on neither the batch nor a sharding.

    Attributes:
        fill: of one member.
        shape: of the whole tensor.
        axes: what each of its dimensions means: ``out``, ``in``, ``kernel``, ``batch``.

    >>> from initframe.fills import Orthogonal
    >>> fill = Stacked(Orthogonal((64, 32)), (8, 64, 32), ("batch", "out", "in"))
    >>> str(fill), fill.std
    ('8 × orthogonal(1)', 0.125)
    """

    fill: Fill
    shape: Shape = field(repr=False)
    axes: tuple[str, ...]

    def inner_shapes(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the shape of one member."""
        return (member_shape(shape, self.axes),)

    @property
    def members(self) -> int:
        """How many there are."""
        return math.prod(size for size, word in zip(self.shape, self.axes, strict=True) if word == "batch")

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one; ``None`` if it is not."""
        if self.shape != shape or len(self.axes) != len(shape):
            return f"it is made for the shape {list(self.shape)}; the tensor has {list(shape)}."
        return None

    def undrawable(self) -> str | None:
        """Say that members cannot be made one by one; ``None`` if they can."""
        for part in self.fill.parts():
            if not (part.distribution or isinstance(part, Constant | Mapped | Whole | Masked)):
                return f"axes cannot be followed by {part.kind}. Leave axes out of the rule."
        return None

    def __str__(self) -> str:
        return f"{self.members} × {self.fill}" if self.members != 1 else str(self.fill)

    def places(self, shape: Sequence[int]) -> Iterator[tuple[tuple[int, int], ...]]:
        """Yield, per member, its dimensions of the batch and its indices along them."""
        dims = [dim for dim, word in enumerate(self.axes) if word == "batch"]
        for index in itertools.product(*(range(shape[dim]) for dim in dims)):
            yield tuple(zip(dims, index, strict=True))

    def to_member(self, values: Tensor) -> Tensor:
        r"""Bring values in the tensor's own layout (size 1 along the batch) into a member's, (out, in, \*kernel)."""
        order = self._order
        return values.permute(order).reshape(member_shape(values.shape, self.axes))

    def from_member(self, values: Tensor, shape: Shape) -> Tensor:
        """Bring a member's values back into the tensor's own layout, whose shape (1 along the batch) is given."""
        order = self._order
        back = sorted(range(len(order)), key=order.__getitem__)
        return values.reshape([shape[dim] for dim in order]).permute(back)

    @property
    def _order(self) -> list[int]:
        """The dimensions of the batch, then the outputs, the inputs and the kernel."""
        words = ("batch", *ORDER)
        return sorted(range(len(self.axes)), key=lambda dim: words.index(self.axes[dim]))


def values_of(fill: Fill, shape: Shape, draw: Sampler) -> Tensor:
    """Compute a fill as a full tensor from a sampler that draws in its shape.

    Args:
        fill: one that :meth:`Stacked.undrawable` does not refuse.
        shape: of what is computed.
        draw: gives random numbers in that shape.

    >>> import torch
    >>> values_of(Constant(2.0), (2,), lambda *_, **__: torch.zeros(2)).tolist()
    [2.0, 2.0]
    """
    if fill.distribution:
        return draw(fill.distribution, fill.args)
    match fill:
        case Mapped():
            return fill.transform(draw(*fill.draws))
        case Whole():
            return fill.build(draw)
        case Masked(inner, index=index, value=value):
            values = values_of(inner, shape, draw).clone()
            values[index] = value
            return values
        case Constant(value):
            return draw("uniform", (0.0, 1.0)).fill_(value)
    raise NotImplementedError(fill)
