"""Formulas that may stand behind a number: a documented family, tried one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache

from initframe.recipe.expressions import FUNCTIONS, ExpressionError, number, parse

SIZES = ("fan_in", "fan_out", "d0", "d1", "d2")
"""Facts of the tensor itself."""
WIDTHS = (
    *("hidden_size", "d_model", "n_embd", "embed_dim", "embedding_dim", "embedding_size", "dim", "in_features"),
    *("out_features", "out_channels", "in_channels", "head_dim", "num_heads", "intermediate_size", "width"),
)
"""Names of widths in configurations and layers."""
DEPTHS = ("layers", "num_hidden_layers", "n_layer", "num_layers", "depth")
STDS = ("initializer_range", "init_std", "initializer_std", "init_values", "init_value", "eps")
"""Numbers of configurations that are written as they are."""

Facts = Mapping[str, float]


def formulas(value: float, facts: Facts) -> Iterator[str]:
    """Give the formulas that have a value, up to float32's rounding, for one tensor.

    Args:
        value: the number.
        facts: what an expression on the tensor may name, and ``layer`` and ``layers`` where its name has an index.

    Yields:
        Texts of expressions.

    >>> next(formulas(0.25, {"fan_in": 16, "fan_out": 8}))
    '1 / sqrt(fan_in)'
    """
    if not value or not math.isfinite(value):
        return
    known = tuple(sorted((name, facts[name]) for name in (*SIZES, *WIDTHS, *DEPTHS, *STDS, "layer") if name in facts))
    for text, expected in _family(known):
        if abs(expected - abs(value)) <= 1e-6 * abs(value):
            yield text if value > 0 else f"-({text})"


@lru_cache(maxsize=4096)
def _family(known: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """The whole family on one tensor's facts, with values."""
    facts = dict(known)
    texts: list[str] = [name for name in STDS if name in facts]
    sizes = [name for name in (*SIZES, *WIDTHS) if facts.get(name, 0) > 0]
    for size in sizes:
        texts += [f"1 / sqrt({size})", f"sqrt(2 / {size})", f"1 / {size}", f"sqrt(3 / {size})", f"sqrt(6 / {size})"]
        texts += [f"0.02 / sqrt({size})", f"2 / sqrt({size})", f"0.5 / sqrt({size})"]
        texts += [f"sqrt(2 / (5 * {size}))", f"sqrt({size})", f"2 / {size}", f"0.1 / sqrt({size})"]
    for fan in (size for size in ("fan_in", "fan_out") if size in sizes):
        texts += [f"1 / sqrt(3 * {fan})"]
    if "fan_in" in facts and "fan_out" in facts:
        texts += ["sqrt(2 / (fan_in + fan_out))", "sqrt(6 / (fan_in + fan_out))"]
    for depth in (name for name in DEPTHS if facts.get(name, 0) > 0):
        above = ("0.02", "1", *(name for name in STDS[:3] if name in facts), *(f"1 / sqrt({s})" for s in sizes))
        texts += [f"{_bracketed(a)} / sqrt({times}{depth})" for a in above for times in ("2 * ", "")]
    if "layer" in facts:
        above = ("0.02", "1", *(name for name in STDS[:3] if name in facts), *(f"1 / sqrt({s})" for s in sizes[:4]))
        texts += [f"{_bracketed(a)} / sqrt({times}(layer + 1))" for a in above for times in ("2 * ", "")]
    return tuple(_valued(dict.fromkeys(texts), facts))


def _bracketed(text: str) -> str:
    return f"({text})" if " " in text else text


def _valued(texts: Mapping[str, None], facts: Facts) -> Iterator[tuple[str, float]]:
    names = {**FUNCTIONS, **facts}
    for text in texts:
        try:
            yield text, number(parse(text), names)
        except ExpressionError:
            continue
