"""Recipes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from initframe.errors import printable
from initframe.recipe.plain import plain_copy

WIDTH = 110
_USUAL = {"unused": "error", "unmatched": "keep", "fans": "torch", "companions": "warn"}


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: every value is written where it stands."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Always."""
        return True


def to_yaml(data: Mapping[str, Any], name: str, comments: Mapping[str, str]) -> str:
    """Write a recipe with comments.

    Args:
        data: the recipe as plain data.
        name: the recipe's, which becomes the first line.
        comments: by the name of the rule.

    Returns:
        The text; settings that are as usual are left out.
    """
    settings = {key: value for key, value in data.items() if key != "rules" and value and value != _USUAL.get(key)}
    lines = [*_comment(name, ""), *_dumped(settings)]
    lines.append("rules:" if data["rules"] else "rules: {}")
    for rule_name, rule in data["rules"].items():
        lines += _comment(comments.get(rule_name, ""), "  ")
        lines += [f"  {line}" for line in _dumped({rule_name: rule})]
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
