"""What can go wrong, said once: rule → fact → options → fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InitframeError(Exception):
    """The base of every error that initframe raises on purpose.

    Args:
        *problems: the messages, one per problem. All problems of a call are reported together, and
            nothing has been written when they are.

    Attributes:
        problems: the same messages, as a tuple.

    >>> print(InitframeError("rule 'a' is wrong.", "rule 'b' is wrong."))
    2 problems:
      1. rule 'a' is wrong.
      2. rule 'b' is wrong.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(*problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        numbered = (f"  {i}. " + text.replace("\n", "\n     ") for i, text in enumerate(self.problems, 1))
        return "\n".join([f"{len(self.problems)} problems:", *numbered])


class RecipeError(InitframeError):
    """A recipe is wrong by itself, whatever the model."""


class ResolveError(InitframeError):
    """A recipe and a model do not fit together."""


class SourceError(InitframeError):
    """A model, a checkpoint or an output folder cannot be had as asked."""


def closest(word: str, options: Iterable[str], count: int = 3) -> str:
    """Name the options most like a misspelt word, as the end of a message.

    Args:
        word: what was written.
        options: what could have been meant.
        count: how many to name at most.

    Returns:
        ``"Closest: a, b."``; all options where few exist and none is close; ``""`` where there are none.

    >>> closest("xavier_unifrom", ["xavier_uniform", "zeros"])
    'Closest: xavier_uniform.'
    >>> closest("?", ["fan_in", "fan_out"])
    'Options: fan_in, fan_out.'
    """
    known = sorted(set(options))
    near = difflib.get_close_matches(word, known, n=count, cutoff=0.5)
    if near:
        return f"Closest: {', '.join(near)}."
    if known and len(known) <= 12:
        return f"Options: {', '.join(known)}."
    return ""
