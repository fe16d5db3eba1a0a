"""Names made from names: the k-th ``*`` of one pattern is what the k-th ``*`` of another matched."""

from __future__ import annotations

import fnmatch
import functools
import re

from initframe.errors import Problem, RecipeError, shown
from initframe.limits import PATTERN_CHARACTERS
from initframe.recipe.patterns import CAPTURE, INTEGER, compile_pattern, refusal

_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|\{[^{}]*\}|.", re.DOTALL)
_PIECE = re.compile(r"\*+|\{[^{}]*\}|[^*{]+|\{")


def rename(name: str, pattern: str, target: str) -> str | None:
    """Rename a name by a pair of patterns.

    Args:
        name: a tensor's name.
        pattern: a glob over names, as ``match`` takes it; a leading ``*.`` may stand for nothing.
        target: the new name. Its k-th ``*`` is what the k-th of ``pattern`` matched, its ``{layer}`` what that matched.

    Returns:
        The new name; ``None`` if the pattern does not match.

    Raises:
        RecipeError: the target asks for more than the pattern has, or the pattern is none.

    >>> rename("encoder.3.norm.weight", "encoder.*.norm.*", "layers.*.ln.*")
    'layers.3.ln.weight'
    >>> rename("norm.weight", "*.weight", "*.gamma"), rename("weight", "*.weight", "*.gamma")
    ('norm.gamma', 'gamma')
    """
    regex, groups, pieces = _compiled(pattern, target)
    if (found := regex.match(name)) is None:
        return None
    values = list(zip(groups, found.groups(""), strict=True))
    stars = iter([value for group, value in values if group == "*"])
    captured = dict(values)
    renamed = ""
    for piece in pieces:
        value = next(stars) if piece == "*" else captured.get(piece, piece)
        nothing_before = not renamed or renamed.endswith(".")
        renamed += value.removeprefix(".") if nothing_before else value  # a segment of nothing has no dot
    return renamed


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str, target: str) -> tuple[re.Pattern[str], tuple[str, ...], tuple[str, ...]]:
    """Make a regular expression, what each of its groups stands for, and the pieces of the target."""
    compile_pattern(pattern)  # refuses what is no pattern
    if len(target) > PATTERN_CHARACTERS:
        raise refusal(target, f"it is longer than {PATTERN_CHARACTERS} characters")
    if re.search(r"[?\[\]]", target):
        raise RecipeError(Problem("", f"{shown(target)} is not a new name.", "Only * and {…} have a meaning there."))
    tokens = ["*" if part.startswith("*") else part for part in _TOKEN.findall(pattern)]
    pieces = tuple("*" if piece.startswith("*") else piece for piece in _PIECE.findall(target))
    groups = tuple(part for part in tokens if part == "*" or part.startswith("{"))
    unknown = [piece for piece in pieces if piece.startswith("{") and piece not in groups]
    if unknown or pieces.count("*") > groups.count("*"):
        fact = f"{shown(target)} has more {unknown[0] if unknown else '*'} than {shown(pattern)}."
        raise RecipeError(Problem("", fact, fix="Each * of the new name is what the * of the same place matched."))
    return re.compile(_expression(tokens, may_lack_prefix=pattern.startswith("*."))), groups, pieces


def _expression(tokens: list[str], *, may_lack_prefix: bool) -> str:
    """Write a glob as a regular expression; all stars but the last take as little as possible, and keep it."""
    runs: list[str] = [""]  # what stands before the first star, between stars, and after the last
    for part in tokens:
        if part == "*":
            runs.append("")
        else:
            runs[-1] += CAPTURE if part.startswith("{") else part
    first, *others = [_without_stars(run) for run in runs]
    if not others:
        return f"(?s:{first})\\Z"
    stars = ["(.*?)"] * (len(others) - 1) + ["(.*)"]
    if may_lack_prefix:  # the star of a leading "*." and the dot may stand for nothing
        stars[0] = "(?:(.*?)\\.)??" if len(others) > 1 else "(?:(.*)\\.)?"
        others[0] = _without_stars(runs[1][1:])
    steps = [f"(?>{star}{run})" for star, run in zip(stars[:-1], others[:-1], strict=True)]
    return f"(?s:{first}{''.join(steps)}{stars[-1]}{others[-1]})\\Z"


def _without_stars(run: str) -> str:
    """Translate a glob without stars."""
    regex = fnmatch.translate(run).removeprefix("(?s:").removesuffix("\\Z").removesuffix("\\z").removesuffix(")")
    return regex.replace(re.escape(CAPTURE), INTEGER).replace(CAPTURE, INTEGER)
