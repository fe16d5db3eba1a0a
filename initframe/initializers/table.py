"""The one table of initializers: names, and the functions ``(slot, **kwargs) → Fill`` behind them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any, TypeVar

from initframe.errors import Problem, RecipeError, closest, shown
from initframe.fills import Fill
from initframe.recipe.plain import CODE_KEYS
from initframe.recipe.rule import RULE_KEYS

Initializer = Callable[..., Fill]
AnyInitializer = TypeVar("AnyInitializer", bound=Initializer)


class Declined(Exception):  # noqa: N818  # no error: the next rule is asked
    """An initializer has nothing for a tensor, and leaves it to the rules above; the argument is the reason.

    >>> raise Declined("the file has no such tensor.")
    Traceback (most recent call last):
    initframe.initializers.table.Declined: the file has no such tensor.
    """


_MEANT = {
    **dict.fromkeys(("he_normal", "msra", "msra_fill", "MSRAFill", "kaiming", "he", "c2_msra_fill"), "kaiming_normal"),
    **dict.fromkeys(("he_uniform", "c2_xavier_fill"), "kaiming_uniform"),
    **dict.fromkeys(("glorot_normal", "glorot", "XavierNormal"), "xavier_normal"),
    **dict.fromkeys(("glorot_uniform", "xavier", "xavier_fill"), "xavier_uniform"),
    **dict.fromkeys(("truncated_normal", "truncnormal", "TruncNormal", "trunc_normal_tf"), "trunc_normal"),
    **dict.fromkeys(("gaussian", "random_normal", "randn", "normal_init"), "normal"),
    **dict.fromkeys(("random_uniform", "rand", "uniform_init"), "uniform"),
    **dict.fromkeys(("zero", "zeros_init", "zeros_like"), "zeros"),
    **dict.fromkeys(("one", "ones_init"), "ones"),
    **dict.fromkeys(("fill", "full", "constant_init"), "constant"),
    **dict.fromkeys(("lecun", "lecun_init"), "lecun_normal"),
    **dict.fromkeys(("ortho", "orthogonal_init", "qr"), "orthogonal"),
    **dict.fromkeys(("ema", "clone", "same_as"), "copy"),
    **dict.fromkeys(("none", "skip", "noop", "no_op"), "keep"),
    **dict.fromkeys(("default", "reset_parameters"), "torch_default"),
    **dict.fromkeys(("delta", "orthogonal_conv"), "delta_orthogonal"),
}
"""What other libraries call an initializer, and what it is here: known for messages, not accepted."""

ENTRY_POINTS = "initframe.initializers"

_TABLE: dict[str, Initializer] = {}
_RESTORING: set[str] = set()


def initializer(name: str, *, restores: bool = False) -> Callable[[AnyInitializer], AnyInitializer]:
    """Register a function ``(slot, *, …) → Fill`` under a name that recipes use.

    Args:
        name: what a recipe writes after ``init:``. Defining the same function again (a notebook cell that is run
            twice) replaces it; taking another function's name is refused.
        restores: whether it takes values from a file, so that a rule without ``kind`` matches everything that a
            state_dict holds, and not only parameters. The slot is then all of the tensor, also under ``axes``.

    Returns:
        A decorator that hands the function back unchanged.

    Raises:
        RecipeError: the name is taken, or the function's signature cannot be filled from a recipe.

    >>> from initframe.fills import Constant
    >>> @initializer("three")
    ... def three(slot, *, times: float = 1.0):
    ...     return Constant(3 * times)
    >>> get("three")(None, times=2).value
    6
    """
    if not isinstance(name, str) or not name:
        fact, fix = f"an initializer is registered under a name, got {name!r}.", 'Write @initializer("my_law").'
        raise RecipeError(Problem("", fact, fix=fix))

    def register(function: AnyInitializer) -> AnyInitializer:
        _check_signature(name, function)
        known = _TABLE.get(name)
        if known is not None and _identity(known) != _identity(function):
            raise _refused(name, f"it exists already, in {known.__module__}.", "Choose another name.")
        _TABLE[name] = function
        (_RESTORING.add if restores else _RESTORING.discard)(name)
        return function

    return register


def restores(name: str) -> bool:
    """Whether an initializer takes values from a file.

    >>> restores("pretrained"), restores("zeros")
    (True, False)
    """
    return name in _RESTORING


def find(name: str) -> Initializer | None:
    """Return an initializer by name, from the table or from installed entry points; ``None`` if there is none.

    Raises:
        RecipeError: it is installed, and cannot be imported.

    >>> find("xavier_unifrom") is None
    True
    """
    if name not in _TABLE and name in _installed():
        try:
            initializer(name)(_installed()[name].load())
        except ImportError as error:
            where = _installed()[name].value
            raise _refused(name, f"it is installed as {where}, which fails to import: {error}.") from error
    return _TABLE.get(name)


def get(name: str) -> Initializer:
    """Return an initializer by name, as :func:`find`.

    Raises:
        RecipeError: no initializer has that name; the options are the closest names.

    >>> get("xavier_unifrom")
    Traceback (most recent call last):
    initframe.errors.RecipeError: unknown initializer 'xavier_unifrom'. Closest: xavier_uniform, ...
    """
    found = find(name)
    if found is None:
        own = "Register your own with @initframe.initializer, and name its module in plugins=[…]."
        raise RecipeError(Problem("", f"unknown initializer {shown(name)}.", _closest(name), own))
    return found


def _closest(name: str) -> str:
    """Name the initializer of that meaning, or else the most alike."""
    known = list_initializers()
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).removesuffix("_").lower()
    meant = _MEANT.get(name) or _MEANT.get(snake) or snake
    return f"Closest: {meant}." if meant in known else closest(name, known)


def list_initializers() -> list[str]:
    """Return the names that a recipe can use, sorted.

    >>> "kaiming_normal" in list_initializers()
    True
    """
    return sorted({*_TABLE, *_installed()})


def parameters(function: Initializer) -> dict[str, inspect.Parameter]:
    """Return the keyword arguments of an initializer, with annotations evaluated; the slot is left out."""
    _, *rest = inspect.signature(function, eval_str=True).parameters.values()
    return {p.name: p for p in rest}


def _check_signature(name: str, function: Any) -> None:
    """Refuse what a recipe could not fill by name."""
    kinds = inspect.Parameter
    first, *rest = inspect.signature(function).parameters.values() or (None,)
    if first is None or first.kind not in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
        raise _refused(name, "it takes no slot.", f"Write def {function.__name__}(slot, *, …) -> Fill.")
    if several := next((p for p in rest if p.kind is kinds.VAR_KEYWORD), None):
        fix = "Write out the arguments that a recipe may give, after a *."
        raise _refused(name, f"it takes **{several.name}, any argument at all.", fix)
    if bad := [p.name for p in rest if p.kind is not kinds.KEYWORD_ONLY]:
        fix = "Put a * after slot: recipes name arguments."
        raise _refused(name, f"it takes {', '.join(bad)} by position.", fix)
    if taken := [p.name for p in rest if p.name in (*RULE_KEYS, *CODE_KEYS)]:
        raise _refused(name, f"its argument {taken[0]!r} means something else in a rule.", "Rename it.")
    try:
        parameters(function)
    except Exception as error:  # whatever evaluating someone's annotations may raise
        fix = "Import what they name when the program runs, not only for type checkers."
        raise _refused(name, f"its annotations cannot be read: {error}.", fix) from error


def _refused(name: str, fact: str, fix: str = "") -> RecipeError:
    return RecipeError(Problem(f"initializer {name!r}", fact, fix=fix))


def _identity(function: Initializer) -> tuple[str, str]:
    return function.__module__, function.__qualname__


@cache
def _installed() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
