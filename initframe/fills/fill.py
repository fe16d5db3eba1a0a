"""What every fill answers: its moments, its reach, the shape it needs, and what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain
from numbers import Real
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from initframe import stream
from initframe.errors import Problem, shown
from initframe.model.slot import Slot

Shape = tuple[int, ...]

_PYTHONS = frozenset({int, float, bool})
"""The classes of Python's own numbers."""

FARTHEST = 6.67
"""A bound on the stream's largest normal, in standard deviations: √(2·32·ln 2) = 6.66."""

TORCH_FUNCTIONS = {"uniform": "uniform_", "normal": "normal_", "truncated_normal": "trunc_normal_"}
"""The functions of torch.nn.init that draw the stream's distributions, with the same arguments."""


@dataclass(frozen=True)
class Fill:
    """What a tensor will hold, as data. A fill answers for itself; ``apply`` asks it and knows no kinds.

    A fill of your own is a frozen dataclass that derives from the face that says how its values are made:

    ============================================  ===============================================================
    :class:`~initframe.fills.Mapped`              ``transform(drawn)``: each element from its own random number
    :class:`~initframe.fills.Whole`               ``build(draw)``: the whole tensor at once
    :class:`~initframe.fills.Scattered`           ``elements(draw)``: the elements that are not zero
    :class:`~initframe.fills.Fixed`               ``values()``: the whole tensor, without randomness
    :class:`~initframe.fills.OnCurrent`           ``apply(current, normal)``: from the values that are there
    ============================================  ===============================================================

    and has ``mean`` and ``std``, as fields or properties. Everything else below has an answer that can be overridden.
    Fields are numbers, texts and tuples of them, so that fills can be compared, printed, pickled and recorded; a field
    with ``repr=False`` is part of the fill and is not shown. A float field must hold a real number.

    Attributes:
        mean: the population's mean; NaN if it depends on the current values.
        std: the population's standard deviation, likewise.
        distribution: the stream's name of the distribution, if the fill is one distribution over all elements, with
            the fields as its arguments; else ``None``.

    >>> from initframe.fills import Uniform
    >>> fill = Uniform(-2.0, 1.0)
    >>> fill.reach, fill.needs_current, fill.torch_init
    (2.0, False, ('uniform_', (-2.0, 1.0)))
    >>> print(fill.problem((3, 3), torch.float16))
    None
    """

    distribution: ClassVar[str | None] = None
    layout: ClassVar[bool] = False
    """Whether the values depend on which dimensions are outputs, inputs and kernel."""
    lapack: ClassVar[bool] = False
    """Whether a library factorizes a matrix for it, whose last bits differ from library to library."""

    if TYPE_CHECKING:  # declared for the type checker only: a field of the same name must not inherit a default

        @property
        def mean(self) -> float: ...  # noqa: D102

        @property
        def std(self) -> float: ...  # noqa: D102

    def __post_init__(self) -> None:
        """Make Python's numbers of numpy's, so that fills compare, print and are recorded alike."""
        kind: type = type(self)
        for name in _float_fields(kind):
            value: Any = getattr(self, name, None)
            if type(value) not in _PYTHONS and isinstance(value, Real):
                object.__setattr__(self, name, float(value))

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def reach(self) -> float:
        """The largest absolute value that the fill can write, current values taken as 0; infinite if not known."""
        return max((fill.reach for fill in self.inner), default=math.inf)

    @property
    def needs_current(self) -> bool:
        """Whether the fill reads the values that are there."""
        return any(fill.needs_current for fill in self.inner)

    @property
    def args(self) -> tuple[float, ...]:
        """The arguments of the distribution, in the stream's order: the fields."""
        kind: type = type(self)
        return _arguments(kind)(self)

    @property
    def inner(self) -> tuple[Fill, ...]:
        """The fills directly inside this one."""
        return ()

    def inner_shapes(self, shape: Shape) -> tuple[Shape, ...]:
        """The shapes that the inner fills cover in a tensor of a shape."""
        return (shape,) * len(self.inner)

    def parts(self) -> Iterator[Fill]:
        """Give this fill and all fills inside it."""
        if type(self).inner is Fill.inner:  # as most, it holds no other
            return iter((self,))
        return chain((self,), *(fill.parts() for fill in self.inner))

    @property
    def torch_init(self) -> tuple[str, tuple[Any, ...]] | None:
        """The function of torch.nn.init that writes the fill, and its arguments after the tensor; ``None`` if none."""
        return (TORCH_FUNCTIONS[self.distribution], self.args) if self.distribution in TORCH_FUNCTIONS else None

    # --- what is wrong with it ---------------------------------------------------------------------------------------

    def suits(self, slot: Slot) -> bool:  # noqa: ARG002
        """Tell whether a slot that takes no drawn numbers (``slot.blocked``) takes this fill all the same."""
        return False

    def problem(self, shape: Shape, dtype: torch.dtype) -> Problem | None:
        """Say why no tensor of a shape and dtype can hold the fill.

        Args:
            shape: the tensor's.
            dtype: the tensor's.

        Returns:
            The first problem, the fills inside included; ``None`` if there is none.

        >>> from initframe.fills import Normal
        >>> print(Normal(0.0, 1e6).problem((2, 2), torch.float16))
        normal(0, 1e+06): it reaches 6.67e+06; torch.float16 ends at 6.55e+04.
        """
        if found := self._not_numbers():
            return found
        if fact := self.misshapen(shape):
            return Problem(str(self), fact)
        if type(self).inner is not Fill.inner:
            for fill, own in zip(self.inner, self.inner_shapes(shape), strict=True):
                if found := fill.problem(own, dtype):
                    return found
        if fact := self.undrawable():
            return Problem(str(self), fact)
        return self._overflow(dtype)

    def misshapen(self, shape: Shape) -> str | None:  # noqa: ARG002
        """Say why a tensor of a shape cannot hold the fill, as a sentence; ``None`` if it can."""
        return None

    def undrawable(self) -> str | None:
        """Say why the values cannot be made, as a sentence; ``None`` if they can."""
        if self.distribution is None:
            return "it does not say how its values are made. Derive it from Mapped, Whole, Fixed or OnCurrent."
        found = stream.check(self.distribution, self.args)
        return f"it cannot be drawn: {found}" if found else None

    def trial(self, device: torch.device) -> Problem | None:
        """Try code of the user's own, and look at files again, before the first tensor is written.

        Args:
            device: where the fill will be written.

        Returns:
            What goes wrong; ``None`` if nothing does.
        """
        for fill in self.inner:
            if found := fill.trial(device):
                return found
        return None

    def _not_numbers(self) -> Problem | None:
        """Refuse what stands for a number and is none: an initializer of one's own may return anything."""
        kind: type = type(self)
        for name in _float_fields(kind):
            value = getattr(self, name)
            if type(value) is not float and not _is_number(value):
                return Problem(self.kind, f"{name} is {shown(value)}.", fix="Give a real number.")
            if type(value) is int and not -(2**63) <= value < 2**63:
                fact = f"{name} is {shown(value)}, an integer that torch has no type for."
                return Problem(self.kind, fact, fix="Write it as a float.")
        return None

    def _overflow(self, dtype: torch.dtype) -> Problem | None:
        """Refuse a dtype that ends before the fill does; an infinite constant is on purpose."""
        largest, reach = _largest(dtype), self.reach
        if largest < reach < math.inf:
            return Problem(str(self), f"it reaches {reach:.3g}; {dtype} ends at {largest:.3g}.")
        return None

    # --- how it is shown ---------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The fill's name in plans and manifests: the class name in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def to_dict(self) -> dict[str, Any]:
        """Return the fill as plain data, for manifests.

        >>> from initframe.fills import Uniform
        >>> Uniform(0, 3).to_dict()
        {'kind': 'uniform', 'low': 0, 'high': 3}
        """
        shown = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.repr}
        return {"kind": self.kind, **shown}

    def __str__(self) -> str:
        shown = ", ".join(short(getattr(self, f.name)) for f in fields(self) if f.repr)
        return f"{self.kind}({shown})"


def is_built_in(fill: Fill) -> bool:
    """Tell whether a fill is of a kind of initframe's, whose tests try its code."""
    return type(fill).__module__.partition(".")[0] == __name__.partition(".")[0]


@cache
def needs_no_trial(kind: type[Fill]) -> bool:
    """Tell whether fills of a kind hold no other, read no file and run no code of the user's own: most do none of it.

    >>> from initframe.fills import Constant, Elementwise
    >>> needs_no_trial(Constant), needs_no_trial(Elementwise)
    (True, False)
    """
    own = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return own and kind.trial is Fill.trial and kind.inner is Fill.inner and "fn" not in kind.__match_args__


def has_own_code(fill: Fill) -> bool:
    """Tell whether a fill, or one inside of it, runs code of the user's own, which may fail or give no numbers."""
    kind: type = type(fill)
    if needs_no_trial(kind):
        return False
    return not is_built_in(fill) or hasattr(fill, "fn") or any(map(has_own_code, fill.inner))


def plain(value: Any) -> Any:
    """Return a field as JSON-ready data."""
    if isinstance(value, Fill):
        return value.to_dict()
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return value


def short(value: Any) -> str:
    """Return a field as a reader wants it: four digits tell one fill from another."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(short(v) for v in value) + "]"
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return str(value)


@cache
def _arguments(kind: type[Fill]) -> Callable[[Fill], tuple[float, ...]]:
    """Return what reads the fields of a kind of fills."""
    names: tuple[str, ...] = kind.__match_args__  # every fill is a dataclass
    return attrgetter(*names) if len(names) > 1 else lambda fill: tuple([getattr(fill, name) for name in names])


@cache
def _float_fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.type in ("float", float))


def _is_number(value: object) -> bool:
    """Tell whether float() takes a value: an int may be too large."""
    try:
        return isinstance(value, Real) and isinstance(float(value), float)
    except OverflowError:
        return False


@cache
def _largest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max if dtype.is_floating_point else math.inf
