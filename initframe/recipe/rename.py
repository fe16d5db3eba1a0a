"""From a name to another by two patterns: what a ``*`` of the first matches, the ``*`` of the second stands for."""

from __future__ import annotations

import functools
import re

from initframe.errors import Problem, RecipeError

_TOKEN = re.compile(r"\[!?\]?[^\]]*\]|\{[^{}]*\}|\*|\?")


def rename(name: str, pattern: str, template: str) -> str | None:
    """Name what a template means for a name: its k-th ``*`` is what the k-th ``*`` of the pattern matched.

    A ``{layer}`` of the template is what that of the pattern matched.

    Args:
        name: a tensor's full name.
        pattern: a glob, as ``match`` takes it.
        template: the other name, with no more ``*`` than the pattern.

    Returns:
        The other name; ``None`` if the pattern does not match.

    Raises:
        RecipeError: the template asks for more than the pattern has.

    >>> rename("target.fc.weight", "target.*", "online.*")
    'online.fc.weight'
    >>> rename("head.weight", "*.head.{k}.weight", "*.old.{k}") is None
    True
    """
    regex, names = _groups(pattern)
    if (found := regex.fullmatch(name)) is None:
        return None
    stars = iter([text or "" for text, group in zip(found.groups(), names, strict=True) if group == "*"])
    captured = {group: text for text, group in zip(found.groups(), names, strict=True) if group != "*"}

    def stands_for(token: re.Match[str]) -> str:
        text = next(stars, None) if token[0] == "*" else captured.get(token[0])
        if text is None and token[0][0] in "*{":
            fact = f"{template!r} has a {token[0]} that {pattern!r} has not."
            raise RecipeError(Problem("", fact, fix="The k-th * stands for what the k-th * of the pattern matched."))
        return token[0] if text is None else text

    other = _TOKEN.sub(stands_for, template)
    return re.sub(r"\.{2,}", ".", other).strip(".") if other != template else other


@functools.lru_cache(maxsize=1024)
def _groups(pattern: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Turn a glob into a regular expression whose groups are its stars and captures; as short as they fit."""
    names: list[str] = []
    parts: list[str] = []
    end = 0
    for token in _TOKEN.finditer(pattern):
        parts.append(re.escape(pattern[end : token.start()]))
        end = token.end()
        text = token[0]
        if text == "?":
            parts.append(".")
        elif text.startswith("["):
            parts.append(f"[^{text[2:]}" if text.startswith("[!") else text.replace("\\", "\\\\"))
        else:
            names.append(text)
            is_leading = text == "*" and token.start() == 0 and pattern.startswith("*.")
            parts.append("(.*?)" if text == "*" else r"(?<![^.])([0-9]{1,15})(?![^.])")
            if is_leading:  # a leading "*." also matches nothing
                parts[-1], end = r"(?:(.*?)\.)?", end + 1
    parts.append(re.escape(pattern[end:]))
    return re.compile("".join(parts), re.DOTALL), tuple(names)
