"""Recipes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from initframe.errors import printable
from initframe.recipe.plain import plain_copy

if TYPE_CHECKING:
    from initframe.recipe.recipe import Recipe

WIDTH = 110
_USUAL = {"unused": "error", "unmatched": "keep", "fans": "torch", "companions": "warn"}


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: every value is written where it stands."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Always."""
        return True


def to_yaml(recipe: Recipe) -> str:
    """Write a recipe with its rules' comments.

    Args:
        recipe: any.

    Returns:
        The text; settings that are as usual are left out.
    """
    data = recipe.to_dict()
    rules = data.pop("rules")
    settings = {key: value for key, value in data.items() if value and value != _USUAL.get(key)}
    lines = [*_comment(recipe.name, ""), *_dumped(settings)]
    lines.append("rules:" if rules else "rules: {}")
    comments = {rule.name: rule.comment for rule in recipe.rules}
    for name, rule in rules.items():
        lines += _comment(comments[name], "  ")
        lines += [f"  {line}" for line in _dumped({name: rule})]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(printable(text), WIDTH, break_long_words=False)]


def _dumped(data: Mapping[str, Any]) -> list[str]:
    if not data:
        return []
    texts = (
        yaml.dump(plain_copy(data), Dumper=_Dumper, sort_keys=False, allow_unicode=readable, width=10_000)
        for readable in (True, False)
    )
    text = next(texts)
    if not text.replace("\n", "").isprintable():  # marks of text direction and the like, which YAML takes for letters
        text = next(texts)
    return text.rstrip("\n").split("\n")
