"""Patterns over tensor names: shell globs, and ``{layer}`` for a whole integer segment.

A pattern becomes one regular expression by way of the standard library's own translation, so a plain glob
means exactly what :func:`fnmatch.fnmatchcase` says. The two additions travel through that translation as
control characters, which no pattern may hold, and are replaced in its result. Backtracking stays harmless:
between two stars everything is as long as it is at the leftmost place where it fits (a capture takes its whole
segment), so the translation's atomic groups lose no match and find the leftmost captures.
"""

from __future__ import annotations

import fnmatch
import functools
import keyword
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from initframe.errors import Problem, RecipeError, shown
from initframe.limits import PATTERN_CHARACTERS

CAPTURE, _BOUNDARY = "\0", "\1"
"""What stands in a glob for a capture, and for the place after a leading ``*.``."""
_BEGIN, _END = r"(?<![^.])", r"(?![^.])"
INTEGER = f"{_BEGIN}([0-9]{{1,15}}+){_END}"
"""What a capture matches; with 15 digits every integer is exact in float64."""
_SET_OR_BRACE = re.compile(r"\[!?+\]?+[^\]]*+\]|\{([^{}]*)\}|[{}]")
_SPECIAL = re.compile(r"[*?\[{]")
_WILD = re.compile(rf"[*?\[\]{CAPTURE}{_BOUNDARY}]")
_INSIDE_SEGMENT = re.compile(rf"[\w{CAPTURE}-]{CAPTURE}|{CAPTURE}[\w-]")


class Capture(NamedTuple):
    """What one ``{layer}`` of a pattern stands for in one name.

    Attributes:
        name: the capture's own name, ``"layer"``.
        value: the integer that stands there.
        prefix: the name's text before that integer, ``"encoder.h."``.
    """

    name: str
    value: int
    prefix: str


@dataclass(frozen=True)
class Pattern:
    """A glob over full tensor names, made by :func:`compile_pattern`.

    Attributes:
        text: the pattern as written.
        captures: the names of its captures, in order.
        is_literal: whether it is a name rather than a glob, and matches that name only.
        ending: how every name ends that it matches, as far as that is written out.

    >>> compile_pattern("fc.weight").is_literal, compile_pattern("fc.*").is_literal
    (True, False)
    >>> compile_pattern("*.weight").ending, compile_pattern("fc.{layer}.bia[ts]").ending
    ('weight', '')
    """

    text: str
    captures: tuple[str, ...]
    regex: re.Pattern[str] = field(repr=False, compare=False)
    is_literal: bool = field(repr=False, compare=False)
    ending: str = field(repr=False, compare=False)

    def match(self, name: str) -> tuple[Capture, ...] | None:
        """Match one full name.

        Args:
            name: a tensor's full name; ``*`` crosses its dots.

        Returns:
            One :class:`Capture` per capture of the pattern, or ``None`` where the name does not match.

        >>> compile_pattern("*.h.{layer}.*.weight").match("decoder.h.3.mlp.weight")
        (Capture(name='layer', value=3, prefix='decoder.h.'),)
        >>> compile_pattern("*.weight").match("weight")
        ()
        >>> compile_pattern("*.weight").match("fc.bias") is None
        True
        """
        found = self.regex.match(name)
        if found is None:
            return None
        return tuple(
            Capture(capture, int(found[group]), name[: found.start(group)])
            for group, capture in enumerate(self.captures, 1)
        )


@functools.lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Read a pattern: ``fnmatch.fnmatchcase`` with two additions.

    A leading ``*.`` may also stand for nothing. ``{layer}``, for any identifier, stands for one whole integer
    segment, between dots or at an end, leftmost where several fit.

    Args:
        text: the pattern as written.

    Returns:
        The pattern; the same object for the same text.

    Raises:
        RecipeError: the text is not a pattern.

    >>> compile_pattern("blocks.{stage}.{block}.*").captures
    ('stage', 'block')
    >>> compile_pattern("block{index}.weight")
    Traceback (most recent call last):
    initframe.errors.RecipeError: 'block{index}.weight' is not a pattern: '{index}' must be a whole segment of ...
    """
    if not text:
        raise refusal(text, "it is empty")
    if len(text) > PATTERN_CHARACTERS:
        raise refusal(text, f"it is longer than {PATTERN_CHARACTERS} characters")
    if CAPTURE in text or _BOUNDARY in text:
        raise refusal(text, "it holds a control character")
    captures: list[str] = []

    def hide(token: re.Match[str]) -> str:
        """Put a capture's stand-in into the glob; leave sets as they are."""
        if token[0].startswith("["):
            return token[0]
        captures.append(_capture_name(text, token))
        return CAPTURE

    glob = _SET_OR_BRACE.sub(hide, text)
    _check_captures(text, captures, glob)
    if glob.startswith("*."):
        glob = f"*{_BOUNDARY}{glob[2:]}"
    regex = fnmatch.translate(glob).replace(_BOUNDARY, _BEGIN).replace(CAPTURE, INTEGER)
    return Pattern(text, tuple(captures), re.compile(regex), not _SPECIAL.search(text), _WILD.split(glob)[-1])


def layer_counts(found: Iterable[Sequence[Capture]]) -> dict[tuple[str, str], int]:
    """Count the distinct integers at each capture: the fact ``layers`` of a capture ``{layer}``.

    Integers count together where the same text stands before them, so an encoder's and a decoder's layers
    count apart.

    Args:
        found: what :meth:`Pattern.match` gives for the names of the whole model that it matches.

    Returns:
        The count for each capture's name and prefix.

    >>> names = ["encoder.0.weight", "encoder.1.weight", "encoder.1.bias", "decoder.0.weight"]
    >>> layer_counts(map(compile_pattern("*.{layer}.*").match, names))
    {('layer', 'encoder.'): 2, ('layer', 'decoder.'): 1}
    """
    integers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for captures in found:
        for name, value, prefix in captures:
            integers[name, prefix].add(value)
    return {place: len(values) for place, values in integers.items()}


def plural(capture: str) -> str:
    """Name the fact that counts a capture's integers.

    >>> plural("layer")
    'layers'
    """
    return f"{capture}s"


def is_plain_name(text: str) -> bool:
    """Whether an expression can hold this text as a name: an ASCII identifier, and no keyword.

    >>> is_plain_name("layer"), is_plain_name("for"), is_plain_name("2x")
    (True, False, False)
    """
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def refusal(text: str, reason: str, fix: str = "") -> RecipeError:
    """Say why a text is not a pattern.

    >>> print(refusal("", "it is empty"))
    '' is not a pattern: it is empty.
    """
    return RecipeError(Problem("", f"{shown(text)} is not a pattern: {reason}.", fix=fix))


def _capture_name(text: str, token: re.Match[str]) -> str:
    """Read the name in a brace token, or say what is wrong with the brace."""
    if token[1] is None:
        raise refusal(
            text, f"'{token[0]}' stands alone", f"Write a capture as {{layer}}, a plain brace as [{token[0]}]."
        )
    if not is_plain_name(token[1]):
        raise refusal(text, f"'{token[0]}' is not a capture", "Write one identifier between the braces, as in {layer}.")
    return token[1]


def _check_captures(text: str, captures: list[str], glob: str) -> None:
    """Refuse captures that share a name, and captures that are part of a segment."""
    facts = [fact for capture in captures for fact in (capture, plural(capture))]
    if repeated := next((fact for fact in facts if facts.count(fact) > 1), None):
        raise refusal(text, f"two captures give the fact '{repeated}'", "Give them different names.")
    if inside := _INSIDE_SEGMENT.search(glob):
        index = glob.count(CAPTURE, 0, inside.end()) - 1
        fact = f"'{{{captures[index]}}}' must be a whole segment of the name, between dots or at an end"
        raise refusal(text, fact)
