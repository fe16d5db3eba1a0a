"""Recipes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from initframe.errors import printable

WIDTH = 110


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: every value is written where it stands."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Always."""
        return True


def to_yaml(name: str, settings: Mapping[str, Any], rules: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Write a recipe with comments.

    Args:
        name: the recipe's, which becomes the first line.
        settings: what it says besides rules, as plain data.
        rules: by name, as plain data.
        comments: by the name of the rule.

    Returns:
        The text.
    """
    lines = [*_comment(name, ""), *_dumped(settings), "rules:" if rules else "rules: {}"]
    for rule_name, rule in rules.items():
        lines += _comment(comments.get(rule_name, ""), "  ")
        lines += [f"  {line}" for line in _dumped({rule_name: rule})]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(printable(text), WIDTH, break_long_words=False)]


def _dumped(data: Mapping[str, Any]) -> list[str]:
    if not data:
        return []
    text = _dump(data, allow_unicode=True)
    if not text.replace("\n", "").isprintable():  # marks of text direction and the like, which YAML takes for letters
        text = _dump(data, allow_unicode=False)
    return text.rstrip("\n").split("\n")


def _dump(data: Mapping[str, Any], *, allow_unicode: bool) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode, width=10_000)
