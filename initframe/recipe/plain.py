"""What a recipe may hold: mappings, lists, texts, finite numbers, bools and nulls, within bounds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from initframe.errors import Problem, RecipeError, shown
from initframe.limits import RECIPE_DEPTH, RECIPE_VALUES

CODE_KEYS = frozenset({"_target_", "target", "_args_", "_partial_", "_recursive_", "_convert_"})
"""Keys by which a config tells a library to call code. No key of a recipe's language is one of them."""
NAMES = {"target": ("rules", "vars", "base")}
"""Those that are ordinary words, and where they are allowed because a user's own names stand there."""


_USUAL = frozenset({str, int, float, bool, type(None), dict, list})
"""Classes that need no look at what they derive from, which takes longer."""


def check_size(data: object) -> None:
    """Refuse data that is too large or too deep to walk, cycles included.

    Args:
        data: anything.

    Raises:
        RecipeError: it has more than ``RECIPE_VALUES`` values, counted wherever they occur, or more than
            ``RECIPE_DEPTH`` levels.
    """
    waiting: deque[tuple[Any, int]] = deque([(data, 1)])
    count = 0
    while waiting:
        value, depth = waiting.popleft()
        count += 1
        if depth > RECIPE_DEPTH:
            raise _too_large(f"it is nested deeper than {RECIPE_DEPTH} levels.")
        if isinstance(value, Mapping):
            value = list(value.values())
        if is_list(value):
            waiting.extend((child, depth + 1) for child in value)
        if count + len(waiting) > RECIPE_VALUES:
            raise _too_large(f"it holds more than {RECIPE_VALUES} values.")


def _too_large(fact: str) -> RecipeError:
    return RecipeError(Problem("recipe", fact, fix="Write fewer rules; use patterns."))


def strangers(data: object, path: str = "") -> Iterator[Problem]:
    r"""Find what has no place in a recipe.

    Args:
        data: data that passed :func:`check_size`.
        path: where the data stands, for the messages.

    Yields:
        One problem for each.

    >>> print(*strangers({"std": float("nan"), "gain": {"_target_": "os.system"}}), sep="\n")
    std is nan. Write a finite number.
    '_target_' is refused: a recipe is data, it names initializers and no code. Remove it from gain.
    """
    here = path or "the value"
    match data:
        case Mapping():
            for key, value in data.items():
                yield from _key_strangers(key, path, is_empty=value is None)
                yield from strangers(value, f"{path}.{key}" if path else f"{key}")
        case list() | tuple():
            for index, value in enumerate(data):
                yield from strangers(value, f"{path}[{index}]")
        case str() if not _is_unicode(data):
            yield Problem("", f"{here} is {shown(data)}, which has half of a character.", fix="Write it as UTF-8.")
        case str() if "${" in data:
            fact = f"{here} is {shown(data)}; a recipe reads nothing from outside."
            yield Problem("", fact, fix="Write the value, or use vars.")
        case float() if not math.isfinite(data):
            yield Problem("", f"{here} is {data}.", fix="Write a finite number.")
        case None | bool() | int() | float() | str():
            pass
        case _:
            fix = named_instead(data) or "Use mappings, lists, texts, numbers and bools only."
            if hasattr(data, "tolist"):
                fix = "Write .tolist() after it: a recipe has lists and numbers of Python only."
            yield Problem("", f"{here} is of type {type(data).__name__}.", fix=fix)


def named_instead(value: object) -> str:
    """Say what to write instead of a function, as of torch.nn.init, that was given for an initializer's name."""
    name = getattr(value, "__name__", None)
    return f"Write a name: {name.removesuffix('_')!r}." if callable(value) and isinstance(name, str) else ""


def unresolved(data: object, path: str = "") -> Iterator[Problem]:
    """Find interpolations and missing values that a config of OmegaConf still has.

    Args:
        data: plain data.
        path: where it stands.

    >>> print(*unresolved({"std": "${std}"}))
    std: '${std}' is an interpolation that is not resolved; ...
    """
    match data:
        case Mapping():
            for key, value in data.items():
                yield from unresolved(value, f"{path}.{key}" if path else f"{key}")
        case list() | tuple():
            for index, value in enumerate(data):
                yield from unresolved(value, f"{path}[{index}]")
        case "???":
            yield Problem(path, "it is ???, a value that a config calls missing.", fix="Give one.")
        case str() if "${" in data:
            fact = f"{shown(data)} is an interpolation that is not resolved; a recipe reads nothing from outside."
            fix = "Call OmegaConf.resolve(config) first, or give OmegaConf.to_container(config, resolve=True)."
            yield Problem(path, fact, fix=fix)


def laid_over(below: Any, above: Any) -> Any:
    """Lay plain data over other data, as OmegaConf does: mappings key by key, everything else as a whole.

    >>> laid_over({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: laid_over(below[key], value) if key in below else value for key, value in above.items()}}


def plain_copy(data: Any) -> Any:
    """Copy data into dicts and lists of its own, texts and numbers of other classes as Python's own.

    Such classes come from numpy, from readers of YAML that keep comments, and from structured configs: a member of an
    enum is its text or number, or else its name, as OmegaConf writes it. Everything else stays what it is.

    Args:
        data: data that passed :func:`check_size`.

    >>> plain_copy({"sizes": (1, 2)})
    {'sizes': [1, 2]}
    """
    match data:
        case None | bool():
            return data
        case str():
            return str.__str__(data)  # str() of an enum's member would name its class
        case int():
            return int(data)
        case float():
            return float(data)
        case Mapping():
            return {str.__str__(k) if isinstance(k, str) else k: plain_copy(value) for k, value in data.items()}
        case Enum():
            return data.name
    if is_list(data):
        return [plain_copy(value) for value in data]
    return data.item() if _is_numpy_number(data) else data


def is_list(value: object) -> bool:
    """Whether a value is read as a list: lists, tuples, ranges, OmegaConf's lists.

    >>> is_list(range(2)), is_list("ab")
    (True, False)
    """
    if type(value) in _USUAL:
        return type(value) is list
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _is_numpy_number(value: object) -> bool:
    """Whether a value is one number, or bool, of numpy; numpy itself is not imported."""
    kind = type(value)
    if kind.__module__ != "numpy":
        return False
    return not {base.__name__ for base in kind.__mro__}.isdisjoint({"integer", "floating", "bool", "bool_"})


def _key_strangers(key: object, path: str, *, is_empty: bool) -> Iterator[Problem]:
    if not isinstance(key, str):
        is_decimal = is_empty and type(key) is int  # {std: 0,5} has the keys std and 5
        fix = "If it belongs to the number before it, write 0.5, not 0,5." if is_decimal else ""
        yield Problem("", f"key {shown(key)}{f' of {path}' if path else ''} is not a text.", fix=fix or _key_fix(key))
    elif not _is_unicode(key):
        yield Problem("", f"key {shown(key)} has half of a character.", fix="Write it as UTF-8.")
    elif key in CODE_KEYS and path not in NAMES.get(key, ()):
        fact = f"'{key}' is refused: a recipe is data, it names initializers and no code."
        yield Problem("", fact, fix=f"Remove it{f' from {path}' if path else ''}.")
    elif "${" in key:
        fact = f"key {shown(key)} is refused: a recipe reads nothing from outside."
        yield Problem("", fact, fix="Write the key itself.")


def _is_unicode(text: str) -> bool:
    """Whether a text can be written to a file: half of a surrogate pair cannot."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _key_fix(key: object) -> str:
    """Say what YAML read where the user saw a text."""
    if isinstance(key, bool):
        words = "on, yes and true" if key else "off, no and false"
        return f"Put it in quotes; YAML reads {words} as {key}."
    if isinstance(key, int):
        return "Put it in quotes; YAML reads digits as a number (010 as 8)."
    return "Put it in quotes."
