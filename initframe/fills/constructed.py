"""What a constructor does to one parameter, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from initframe.fills.fill import Fill


@dataclass(frozen=True)
class Origin:
    """Where a parameter got its values.

    Attributes:
        file: relative to its package's parent, as in ``timm/layers/mlp.py``; a file of no package is its bare name.
        line: the line that was running, in the innermost frame that is not torch's own.
        function: the function's qualified name.
        overwritten: how often the parameter was written whole before, in vain.

    >>> print(Origin("timm/layers/mlp.py", 7, "Mlp.__init__"))
    timm/layers/mlp.py:7 in Mlp.__init__
    """

    file: str
    line: int
    function: str
    overwritten: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"

    def to_dict(self) -> dict[str, Any]:
        """The origin as plain data."""
        return {"file": self.file, "line": self.line, "function": self.function, "overwritten": self.overwritten}


@dataclass(frozen=True)
class Constructed:
    """The distribution that a constructor gave to a parameter, or why it cannot be read.

    Attributes:
        shape: of the parameter.
        fill: what the constructor writes; ``None`` if that cannot be read.
        reason: why not, as a sentence; empty if there is a fill.
        origin: where it was written last; ``None`` if nothing was recorded.
        drawn: numbers of the draws that the values come from. Parameters that share one start equal.
    """

    shape: tuple[int, ...]
    fill: Fill | None = None
    reason: str = ""
    origin: Origin | None = None
    drawn: frozenset[int] = frozenset()
