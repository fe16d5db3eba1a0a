"""What one rule knows of a grid and another one asks for, as small records that say which changes they outlive.

A rule that knows more of its result than a grid tells attaches a :class:`Remark` of its own class to it; a rule that
can use it asks for that class. Grids know none of these classes: a new pair of rules needs a class, and no field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, eq=False)
class Remark:
    """What is known of a grid beyond its moments.

    Attributes:
        outlives: what may be different in a grid of which it is still true: ``"law"`` (an element as a function of its
            normal), ``"source"`` (that normal), ``"layout"``, and ``"elements"`` (others of the same kind).
    """

    outlives: ClassVar[frozenset[str]] = frozenset()

    def scaled(self, factor: Any, shift: Any) -> Self | None:  # noqa: ARG002  # for those that follow
        """What is true of the grid times a number, plus a number; ``None`` if nothing is.

        Args:
            factor: one number, or one for each class of positions.
            shift: likewise.
        """
        return self if "law" in self.outlives else None
