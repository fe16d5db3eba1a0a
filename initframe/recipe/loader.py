"""PyYAML's safe loader, made strict: no repeated keys, no alias bombs, no surprises from scalars."""

from __future__ import annotations

from typing import Any, TypeAlias

import yaml

from initframe.recipe.plain import MAX_NODES

MERGE = "tag:yaml.org,2002:merge"
Pair: TypeAlias = tuple[yaml.ScalarNode, yaml.Node]


class Loader(yaml.SafeLoader):
    """A safe loader that counts what it reads, aliases expanded, and refuses repeated keys."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._count = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node; an alias counts as all that it stands for."""
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._count
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if is_alias and node not in self._sizes:
            raise _error(node.start_mark, "an alias of this stands inside of it", "write the values out")
        self._count += self._sizes[node] if is_alias else 1
        self._sizes.setdefault(node, self._count - before)
        if self._count > MAX_NODES:
            raise _error(
                node.start_mark, f"more than {MAX_NODES} values, aliases expanded", "write fewer rules; use patterns"
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, and refuse it where a key repeats."""
        mapping = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key.start_mark, "a key is not a text", "put the key in quotes")
            if earlier := first.get((key.tag, key.value)):
                fact = f"key '{key.value}' is there already, in line {earlier.line + 1}"
                raise _error(key.start_mark, fact, "rename or remove one of the two")
            first[key.tag, key.value] = key.start_mark
        return mapping

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what a mapping merges before what it says itself: its own keys win, then the first mapping's in ``<<``.

        PyYAML's version of this gives other values since 6.0.4: it goes by the identity of keys' texts.
        """
        merged: dict[tuple[str, str], Pair] = {}
        own: dict[tuple[str, str], Pair] = {}
        for key, value in node.value:
            if key.tag != MERGE:
                own[key.tag, key.value] = key, value
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise _error(source.start_mark, "'<<' merges mappings, this is none", "merge an alias of a mapping")
                self.flatten_mapping(source)
                for pair in source.value:
                    merged.setdefault((pair[0].tag, pair[0].value), pair)
        node.value = list((merged | own).values())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct one value; a scalar that its type cannot read is an error of the file."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise _error(node.start_mark, "a value does not fit its type", "put the value in quotes") from None


def _error(mark: yaml.Mark, problem: str, fix: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark, note=fix)
