"""The common face of all fills."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar


@dataclass(frozen=True)
class Fill:
    """The common face of all fills.

    Attributes:
        mean: the population's mean, a property or field of every fill; NaN where it depends on the current values.
        std: the population's standard deviation, likewise.
        law: the stream's name of the law, for fills that are one law over all elements; else ``None``.
    """

    law: ClassVar[str | None] = None

    if TYPE_CHECKING:  # declared for the type checker only: a field of the same name must not inherit a default

        @property
        def mean(self) -> float: ...  # noqa: D102

        @property
        def std(self) -> float: ...  # noqa: D102

    @property
    def needs_current(self) -> bool:
        """Whether the fill reads the values that are there."""
        return False

    @property
    def args(self) -> tuple[float, ...]:
        """The numbers of the law, in the stream's order."""
        names: tuple[str, ...] = self.__match_args__  # every fill is a dataclass
        return tuple(getattr(self, name) for name in names)

    @property
    def kind(self) -> str:
        """The fill's name in plans and manifests: the class name in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def parts(self) -> Iterator[Fill]:
        """This fill and all fills inside it."""
        yield self

    def to_dict(self) -> dict[str, Any]:
        """The fill as plain data, for manifests.

        >>> from initframe.fills import Uniform
        >>> Uniform(0, 3).to_dict()
        {'kind': 'uniform', 'low': 0, 'high': 3}
        """
        shown = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.repr}
        return {"kind": self.kind, **shown}

    def __str__(self) -> str:
        shown = ", ".join(short(getattr(self, f.name)) for f in fields(self) if f.repr)
        return f"{self.kind}({shown})"


def plain(value: Any) -> Any:
    """A field as JSON-ready data."""
    if isinstance(value, Fill):
        return value.to_dict()
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return value


def short(value: Any) -> str:
    """A field as a reader wants it: four digits tell one fill from another."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(short(v) for v in value) + "]"
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return str(value)
