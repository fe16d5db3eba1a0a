"""What can go wrong: problems as data, rendered in one place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, as data; its text is rendered here and nowhere else.

    Args:
        subject: what it is about: a rule, a tensor, an argument, a file. Empty if the fact names it.
        fact: what is the case, as a sentence.
        options: what would be possible, as a sentence, often from :func:`closest`.
        fix: what to do about it, as a sentence.

    >>> print(Problem("rule 'head'", "it matches no tensor.", "Closest: classifier.6.", "Fix the pattern."))
    rule 'head': it matches no tensor. Closest: classifier.6. Fix the pattern.
    """

    subject: str
    fact: str
    options: str = ""
    fix: str = ""

    def on(self, subject: str) -> Problem:
        """Name the larger thing that the problem is part of.

        >>> print(Problem("std", "it is negative.").on("rule 'weights'"))
        rule 'weights': std: it is negative.
        """
        return replace(self, subject=": ".join(filter(None, [subject, self.subject])))

    def __str__(self) -> str:
        text = " ".join(filter(None, [self.fact, self.options, self.fix]))
        return f"{self.subject}: {text}" if self.subject else text


class InitframeError(Exception):
    """The base of every error that initframe raises on purpose.

    Args:
        *problems: what is wrong; a text is a problem of which only the fact is known. All problems of a call are
            reported together, and nothing has been written when they are.

    Attributes:
        problems: the same as a tuple of :class:`Problem`.

    >>> print(InitframeError(Problem("rule 'a'", "it is wrong."), Problem("rule 'b'", "it is wrong.")))
    2 problems:
      1. rule 'a': it is wrong.
      2. rule 'b': it is wrong.
    """

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(Problem("", problem) if isinstance(problem, str) else problem for problem in problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        numbered = (f"  {i}. " + str(problem).replace("\n", "\n     ") for i, problem in enumerate(self.problems, 1))
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
