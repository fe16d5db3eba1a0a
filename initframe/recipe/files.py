"""Recipe files: YAML without surprises, read within bounds into plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from initframe.errors import RecipeError
from initframe.recipe.loader import Loader
from initframe.recipe.plain import shown

MAX_BYTES = 1 << 20

_FIX = "correct the text there; a pattern that starts with *, [, {, ! or & needs quotes"


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Args:
        path: a file of at most ``MAX_BYTES`` bytes, in UTF-8.

    Returns:
        What it holds: plain data, or ``None`` where it is empty.

    Raises:
        RecipeError: there is no such file, it cannot be read, or it is not one YAML document of at most
            ``MAX_NODES`` values with distinct keys; the message names file, line and column.
    """
    text = _read_text(path)
    try:
        return yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_described(path, error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{path}, line {line}: {error.reason}. Fix: remove the character.") from None
    except RecursionError:
        raise RecipeError(f"{path}: the values are nested too deeply. Fix: flatten them.") from None


def _read_text(path: Path) -> str:
    """Read a bounded, regular file, or say why not."""
    label = f"recipe {shown(str(path))}"
    try:
        if not path.is_file():
            fact = "is a directory" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
            raise RecipeError(f"{label} {fact}. Fix: give a preset's name, or the path of a YAML file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError(f"{label} is larger than {MAX_BYTES} bytes. Fix: use patterns; a recipe is a few rules.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{label} is not UTF-8 text (byte {error.start}). Fix: save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"{label} cannot be read: {reason}. Fix: give a readable YAML file.") from None


def _described(path: Path, error: yaml.MarkedYAMLError) -> str:
    """Put an error of PyYAML, or of our loader (which brings its own fix), into our form."""
    mark = error.problem_mark or error.context_mark
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if error.note:
        return f"{path}{place}: {error.problem}. Fix: {error.note}."
    fact = " ".join(part for part in (error.context, error.problem) if part)
    return f"{path}{place}: malformed YAML: {fact}. Fix: {_FIX}."
