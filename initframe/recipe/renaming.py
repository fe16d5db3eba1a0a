"""Names made from names: the k-th ``*`` of one pattern is what the k-th ``*`` of another matched."""

from __future__ import annotations

import fnmatch
import functools
import re

from initframe.errors import Problem, RecipeError, shown
from initframe.recipe.patterns import MAX_LENGTH, refusal

_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_UNKNOWN = re.compile(r"[?\[\]{}]")


def rename(name: str, pattern: str, target: str) -> str | None:
    """Rename a name by a pair of patterns.

    Args:
        name: a tensor's name.
        pattern: a glob over names; a leading ``*.`` may stand for nothing, as in ``match``.
        target: the new name, with at most as many ``*``: the k-th is what the k-th of ``pattern`` matched.

    Returns:
        The new name; ``None`` if the pattern does not match.

    Raises:
        RecipeError: they are no such pair.

    >>> rename("encoder.3.norm.weight", "encoder.*.norm.*", "layers.*.ln.*")
    'layers.3.ln.weight'
    >>> rename("norm.weight", "*.weight", "*.gamma"), rename("weight", "*.weight", "*.gamma")
    ('norm.gamma', 'gamma')
    """
    regex, pieces = _compiled(pattern, target)
    if (found := regex.match(name)) is None:
        return None
    stars = iter(found.groups(""))
    renamed = ""
    for piece in pieces:
        value = next(stars) if piece == "*" else piece
        nothing_before = not renamed or renamed.endswith(".")
        renamed += value.removeprefix(".") if nothing_before else value  # a segment of nothing has no dot
    return renamed


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str, target: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Make a regular expression with one group per star, and the pieces of the target."""
    if len(pattern) > MAX_LENGTH or len(target) > MAX_LENGTH:
        raise refusal(max(pattern, target, key=len), f"it is longer than {MAX_LENGTH} characters")
    if _UNKNOWN.search(target):
        raise RecipeError(Problem("", f"{shown(target)} is not a new name.", "Only * has a meaning there."))
    pieces = tuple(re.sub(r"\*+", "*", piece) for piece in re.findall(r"\*+|[^*]+", target))
    tokens = _TOKEN.findall(pattern)
    stars = sum(token.startswith("*") for token in tokens)
    if pieces.count("*") > stars:
        fact = f"{shown(target)} has more * than {shown(pattern)}."
        raise RecipeError(Problem("", fact, fix="Each * of the new name is what the * of the same place matched."))
    return re.compile(_expression(tokens)), pieces


def _expression(tokens: list[str]) -> str:
    """Write a glob as a regular expression; all stars but the last take as little as possible, and keep it."""
    runs: list[str] = [""]  # what stands before the first star, between stars, and after the last
    for token in tokens:
        if token.startswith("*"):
            runs.append("")
        else:
            runs[-1] += token
    first, *others = [_literal(run) for run in runs]
    if not others:
        return f"(?s:{first})\\Z"
    groups = ["(.*?)"] * (len(others) - 1) + ["(.*)"]
    if not runs[0] and runs[1].startswith("."):  # the star of a leading "*." and the dot may stand for nothing
        groups[0] = "(?:(.*?)\\.)??" if len(others) > 1 else "(?:(.*)\\.)?"
        others[0] = _literal(runs[1][1:])
    steps = [f"(?>{group}{run})" for group, run in zip(groups[:-1], others[:-1], strict=True)]
    return f"(?s:{first}{''.join(steps)}{groups[-1]}{others[-1]})\\Z"


def _literal(run: str) -> str:
    """Translate a glob without stars."""
    return fnmatch.translate(run).removeprefix("(?s:").removesuffix("\\Z").removesuffix("\\z").removesuffix(")")
