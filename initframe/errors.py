"""What can go wrong: problems as data, rendered in one place."""

from __future__ import annotations

import difflib
import reprlib
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate

from initframe.limits import (
    COMPARED_CHARACTERS,
    COMPARED_OPTIONS,
    MESSAGE_CHARACTERS,
    SHOWN_CHARACTERS,
    SHOWN_PROBLEMS,
)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, as data; its text is rendered here and nowhere else.

    The text is one line without control characters, and no part of it is longer than ``SHOWN_CHARACTERS``: names
    and values come from files of strangers.

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
        *first, last = [harmless(part) for part in (self.fact, self.options, self.fix) if part] or [""]
        text = " ".join([*map(_sentence, first), last])
        return f"{harmless(self.subject)}: {text}" if self.subject else text


class InitframeError(Exception):
    """The base of every error that initframe raises on purpose.

    Args:
        *problems: what is wrong; a text is a problem of which only the fact is known. All problems of a call are
            reported together, and nothing has been written when they are. Inside of initframe there may be none: then
            their cause was reported already.

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
        lines = [f"  {i}. {problem}" for i, problem in enumerate(self.problems[:SHOWN_PROBLEMS], 1)]
        sizes = accumulate(len(line) + 1 for line in lines)
        shown = [line for line, size in zip(lines, sizes, strict=True) if size <= MESSAGE_CHARACTERS]
        more = len(self.problems) - len(shown)
        return "\n".join([f"{len(self.problems)} problems:", *shown, *([f"  … and {more} more"] if more else [])])


class RecipeError(InitframeError):
    """A recipe is wrong by itself, for every model."""


class ResolveError(InitframeError):
    """A recipe and a model do not fit together."""


class SourceError(InitframeError):
    """A model, a checkpoint or an output folder is not available as requested."""


class StreamError(InitframeError, ValueError):
    """The stream cannot draw what a call asks for: its arguments are wrong."""


@contextmanager
def about(subject: str, kind: type[InitframeError] = ResolveError) -> Iterator[None]:
    """Raise what is wrong inside of a ``with`` block as an error of one kind, on the subject that it is a part of.

    Args:
        subject: the larger thing, as for :meth:`Problem.on`.
        kind: the class of the error.

    >>> with about("split"):
    ...     raise InitframeError("7 is not divisible by 2.")
    Traceback (most recent call last):
    initframe.errors.ResolveError: split: 7 is not divisible by 2.
    """
    try:
        yield
    except InitframeError as error:
        raise kind(*(problem.on(subject) for problem in error.problems)) from None


def closest(word: object, options: Iterable[str]) -> str:
    """Name the options most like a misspelt word, for ``Problem.options``.

    Args:
        word: what was written; to what is no text, nothing is close.
        options: what could have been meant.

    Returns:
        ``"Closest: a, b."``, three at most; what is inside, if the word is a module's name; all options if they are few
        and none is close; ``""`` if there are none.

    >>> closest("xavier_unifrom", ["xavier_uniform", "zeros"])
    'Closest: xavier_uniform.'
    >>> closest("head", ["head.weight", "head.bias", "heads.weight"])
    'Inside it: head.bias, head.weight.'
    >>> closest("?", ["fan_in", "fan_out"])
    'Options: fan_in, fan_out.'
    """
    known = sorted(set(options))
    if isinstance(word, str):
        if inside := [option for option in known if option.startswith(f"{word}.")]:
            more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
            return f"Inside it: {', '.join(inside[:3])}{more}."
        if near := nearest(word, known):
            return f"Closest: {', '.join(near)}."
    if known and len(known) <= 12:
        return f"Options: {', '.join(option or repr(option) for option in known)}."
    return ""


def nearest(word: str, options: Iterable[str], count: int = 3, cutoff: float = 0.5) -> list[str]:
    """Return the options most like a word, the best first.

    Of many options, only those are compared that begin or end like the word, so that ten thousand names cost no more
    than a few hundred.

    Args:
        word: what was written.
        options: what could have been meant.
        count: how many to return at most.
        cutoff: how alike they must be, from 0 to 1, as :func:`difflib.get_close_matches` counts.

    >>> nearest("layer.500.wieght", (f"layer.{i}.weight" for i in range(5_000)), count=1)
    ['layer.500.weight']
    """
    if len(word) > COMPARED_CHARACTERS:
        return []
    known = [option for option in options if len(option) <= COMPARED_CHARACTERS]
    if len(known) > COMPARED_OPTIONS:
        backwards = _around(word[::-1], [option[::-1] for option in known])
        known = list(dict.fromkeys([*_around(word, known), *(option[::-1] for option in backwards)]))
    return difflib.get_close_matches(word, known, n=count, cutoff=cutoff)


def _around(word: str, options: Sequence[str]) -> Iterator[str]:
    """Yield the options next to a word in alphabetical order: they begin alike."""
    ordered = sorted(options)
    place, reach = bisect(ordered, word), COMPARED_OPTIONS // 4
    yield from ordered[max(0, place - reach) : place + reach]


def shown(value: object) -> str:
    """Show a value inside a problem as Python writes it, shortened if it is long.

    >>> shown("ndim > 1"), shown(list(range(100)))
    ("'ndim > 1'", '[0, 1, 2, 3, 4, 5, ...]')
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write out very large integers
        return f"a {type(value).__name__} too large to show"


def harmless(text: str) -> str:
    r"""Escape what is not printable (line breaks, terminal codes, marks of text direction), and bound the length.

    Args:
        text: a name or value that may come from a stranger's file.

    >>> harmless("fc.\x1b[31mweight\n")
    'fc.\\x1b[31mweight\\n'
    """
    return _bounded(printable(_bounded(text)))


def printable(text: str, besides: str = "") -> str:
    r"""Escape what is not printable.

    Args:
        text: any.
        besides: characters that stay nevertheless.

    >>> printable("a\tb\nc", besides="\n")
    'a\\tb\nc'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in besides else repr(char)[1:-1] for char in text)


def _sentence(text: str) -> str:
    """End a sentence that others follow; what a library says often has no full stop."""
    return text if text.endswith((".", "!", "?", ":", "…")) else f"{text}."


def _bounded(text: str) -> str:
    half = SHOWN_CHARACTERS // 2
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:half]} … {text[-half:]}"
