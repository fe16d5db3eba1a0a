"""Recipe files: YAML without surprises, read within bounds into plain data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from initframe.errors import Problem, RecipeError, shown
from initframe.limits import NUMBER_CHARACTERS, RECIPE_BYTES, RECIPE_DEPTH, RECIPE_VALUES

MERGE = "tag:yaml.org,2002:merge"
TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:binary")

Pair: TypeAlias = tuple[yaml.ScalarNode, yaml.Node]


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Args:
        path: a file of at most ``RECIPE_BYTES`` bytes, in UTF-8.

    Returns:
        What it holds: plain data, or ``None`` if it is empty.

    Raises:
        RecipeError: there is no such file, it cannot be read, or it is not one YAML document of at most
            ``RECIPE_VALUES`` values with distinct keys; the subject names file, line and column.
    """
    text = _read_text(path)
    try:
        return yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    except RecipeError as error:
        raise RecipeError(*(replace(p, subject=f"{path}, {p.subject}") for p in error.problems)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        subject = f"{path}, {_place(mark)}" if mark else str(path)
        fact = f"malformed YAML: {', '.join(part for part in (error.context, error.problem) if part)}."
        lines = text.split("\n")
        fix = _likely_fix(lines[mark.line] if mark and mark.line < len(lines) else "")
        raise RecipeError(Problem(subject, fact, fix=fix)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(Problem(f"{path}, line {line}", f"{error.reason}.", fix="Remove the character.")) from None
    except RecursionError:
        raise RecipeError(Problem(str(path), "the values are nested too deeply.", fix="Flatten them.")) from None


def _likely_fix(line: str) -> str:
    """Say what is mostly meant by a line that is no YAML."""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "Indent with spaces, not with tabs."
    if '"' in line and "\\" in line:
        return "Between double quotes, a backslash begins an escape. Use single quotes, or / in a path."
    return "Correct the text there; a pattern that starts with *, [, {, ! or & needs quotes."


def _read_text(path: Path) -> str:
    """Read a bounded, regular file, or say why not."""
    label = f"recipe {shown(str(path))}"
    try:
        if not path.is_file():
            fact = "is a directory" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
            fix = "Give a preset's name, or the path of a YAML file."
            raise RecipeError(Problem("", f"{label} {fact}.", fix=fix))
        with path.open("rb") as file:
            content = file.read(RECIPE_BYTES + 1)
        if len(content) > RECIPE_BYTES:
            fix = "Use patterns; a recipe is a few rules."
            raise RecipeError(Problem("", f"{label} is larger than {RECIPE_BYTES} bytes.", fix=fix))
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fact = f"{label} is not UTF-8 text (byte {error.start})."
        raise RecipeError(Problem("", fact, fix="Save it as UTF-8.")) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        fix = "Give a readable YAML file."
        raise RecipeError(Problem("", f"{label} cannot be read: {reason}.", fix=fix)) from None


class Loader(yaml.SafeLoader):
    """A safe loader that counts what it reads, aliases expanded, and refuses repeated keys."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._count = self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node; an alias counts as all that it stands for."""
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._count
        self._depth += 1
        if self._depth > RECIPE_DEPTH + 1:  # check_size counts what aliases nest
            here = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _refusal(here, f"more than {RECIPE_DEPTH} levels.", "Flatten the values.")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if is_alias and node not in self._sizes:
            raise _refusal(node.start_mark, "an alias of this stands inside of it.", "Write the values out.")
        self._count += self._sizes[node] if is_alias else 1
        self._sizes.setdefault(node, self._count - before)
        if self._count > RECIPE_VALUES:
            fact = f"more than {RECIPE_VALUES} values, aliases expanded."
            raise _refusal(node.start_mark, fact, "Write fewer rules; use patterns.")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, and refuse it if a key repeats."""
        mapping = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal(key.start_mark, "a key is not a text.", "Put the key in quotes.")
            if earlier := first.get((key.tag, key.value)):
                fact = f"key {shown(key.value)} is there already, in line {earlier.line + 1}."
                raise _refusal(key.start_mark, fact, "Rename or remove one of the two.")
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
                    fact = "'<<' merges mappings, and this is not one."
                    raise _refusal(source.start_mark, fact, "Merge an alias of a mapping.")
                self.flatten_mapping(source)
                for pair in source.value:
                    merged.setdefault((pair[0].tag, pair[0].value), pair)
        node.value = list((merged | own).values())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct one value; a scalar that its type cannot read is an error of the file."""
        if node.tag not in TEXTS and isinstance(node, yaml.ScalarNode) and len(node.value) > NUMBER_CHARACTERS:
            fact = f"a number of more than {NUMBER_CHARACTERS} characters."
            raise _refusal(node.start_mark, fact, "Put the value in quotes if it is a text.")
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            raise _refusal(node.start_mark, "a value does not fit its type.", "Put the value in quotes.") from None


def _refusal(mark: yaml.Mark, fact: str, fix: str) -> RecipeError:
    return RecipeError(Problem(_place(mark), fact, fix=fix))


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
