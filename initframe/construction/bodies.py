"""What may stand under a rule's patterns: initializers and arguments that make a tensor's fill."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from initframe.construction.formulas import formulas
from initframe.construction.numbers import is_short, plain
from initframe.fills import (
    Blocks,
    Constant,
    Dirac,
    Fill,
    Identity,
    Masked,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from initframe.initializers.variance import TRUNCATED_STD
from initframe.recipe.expressions import parse

Argument = Any
Facts = Mapping[str, float]


class Body(NamedTuple):
    """A rule without its patterns.

    Attributes:
        init: the initializer's name.
        arguments: its arguments, as written in a recipe.
        split: the number of blocks, if there are several, or their sizes.
        padding: ``"fill"`` where an embedding's row of padding is filled like the others.
    """

    init: str
    arguments: tuple[tuple[str, Argument], ...] = ()
    split: int | tuple[int, ...] | None = None
    padding: str | None = None

    @property
    def captures(self) -> bool:
        """Whether an expression in it names ``layer`` or ``layers``."""
        texts = (value for _, value in self.arguments if isinstance(value, str))
        return any(not parse(text).names.isdisjoint({"layer", "layers"}) for text in texts)

    def written(self) -> dict[str, Any]:
        """The body as keys of a rule."""
        split = list(self.split) if isinstance(self.split, tuple) else self.split
        extra = {"split": split, "padding": self.padding}
        arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in self.arguments}
        return {**{k: v for k, v in extra.items() if v is not None}, "init": self.init, **arguments}


Priced: TypeAlias = tuple[Body, float]
"""A body, and how much there is to read in it."""


def bodies(fill: Fill, facts: Facts) -> Iterator[Priced]:
    """Give what a rule may say to make a fill; whether it does is for the resolver to tell.

    Args:
        fill: what a tensor holds.
        facts: what expressions on the tensor may name.

    Yields:
        Bodies with their costs, in no order; ``torch_default`` and ``constructor``, which say nothing of the fill, are
        not among them.
    """
    match fill:
        case Masked(inner, padding=True):
            yield from bodies(inner, facts)
        case Constant(value):
            yield from _constants(value, facts)
        case Uniform(low, high):
            yield from _uniforms(low, high, facts)
        case Normal(mean, std):
            yield from _normals(mean, std, facts)
        case TruncatedNormal():
            yield from _truncated(fill, facts)
        case Orthogonal(gain=gain):
            yield _body("orthogonal", **({} if gain == 1 else {"gain": plain(gain)})), 0.5 + (gain != 1)
        case Identity():
            yield Body("eye"), 0.5
        case Dirac(groups=groups):
            yield _body("dirac", **({} if groups == 1 else {"groups": groups})), 0.5 + (groups != 1)
        case Sparse(sparsity=sparsity, scale=scale):
            yield _body("sparse", sparsity=plain(sparsity), std=plain(scale)), 1.5
        case Blocks(fills, sizes, _):
            yield from _blocks(fills, sizes, facts)


def _body(init: str, **arguments: Argument) -> Body:
    return Body(init, tuple(arguments.items()))


def _numbers(value: float, facts: Facts) -> Iterator[tuple[Argument, float]]:
    """A number, and the formulas for it, each with how much there is to read."""
    short = is_short(value)
    yield plain(value), 0.5 if short else 4.0
    for text in formulas(value, facts):
        yield text, (1.0 if not short else 1.5) + len(text) / 40


def _constants(value: float, facts: Facts) -> Iterator[Priced]:
    if value == 0:
        yield Body("zeros"), 0.0
    elif value == 1:
        yield Body("ones"), 0.0
    else:
        yield from ((_body("constant", val=number), cost) for number, cost in _numbers(value, facts))


def _gains(std: float, facts: Facts) -> Iterator[tuple[dict[str, Any], float]]:
    """Gains of xavier that give a std."""
    gain = std / math.sqrt(2 / (facts["fan_in"] + facts["fan_out"]))
    for name, known in (("", 1.0), ("relu", math.sqrt(2)), ("tanh", 5 / 3)):
        if math.isclose(gain, known, rel_tol=1e-6):
            yield ({"gain": name} if name else {}), 0.2 + 0.3 * bool(name)
            return
    if is_short(float(f"{gain:.6g}")):
        yield {"gain": plain(float(f"{gain:.6g}"))}, 1.0
    elif math.isclose(gain, 1 / math.sqrt(2), rel_tol=1e-6):
        yield {"gain": "1 / sqrt(2)"}, 1.0


def _scaled(std: float, distribution: str, facts: Facts) -> Iterator[Priced]:
    """Xavier, Kaiming and LeCun, with uniform or normal numbers."""
    fan_in, fan_out = facts.get("fan_in", 0), facts.get("fan_out", 0)
    if facts.get("ndim", 0) < 2 or fan_in <= 0 or fan_out <= 0 or std <= 0:
        return

    def is_root(square: float) -> bool:
        return math.isclose(std, math.sqrt(square), rel_tol=1e-6)

    for given, cost in _gains(std, facts):
        yield _body(f"xavier_{distribution}", **given), cost
    for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
        if is_root(2 / fan):
            yield _body(f"kaiming_{distribution}", mode=mode, nonlinearity="relu"), 0.4
        if is_root(1 / fan) and mode == "fan_out":
            yield _body(f"kaiming_{distribution}", mode=mode, nonlinearity="linear"), 0.6
        if is_root(1 / (3 * fan)) and distribution == "uniform":
            yield _body("kaiming_uniform", a="sqrt(5)", **({"mode": mode} if mode == "fan_out" else {})), 0.6
    if distribution == "uniform" and is_root(1 / fan_in):
        yield Body("lecun_uniform"), 0.3


def _uniforms(low: float, high: float, facts: Facts) -> Iterator[Priced]:
    if low == -high:
        yield from _scaled(high / math.sqrt(3), "uniform", facts)
        for number, cost in _numbers(high, facts):
            opposite = f"-{number}" if isinstance(number, str) and " " not in number else f"-({number})"
            yield _body("uniform", a=-number if not isinstance(number, str) else opposite, b=number), cost + 0.5
    else:
        for a, cost_a in _numbers(low, facts) if low else [(0, 0.1)]:
            yield from ((_body("uniform", a=a, b=b), cost_a + cost) for b, cost in _numbers(high, facts))


def _normals(mean: float, std: float, facts: Facts) -> Iterator[Priced]:
    around = {} if mean == 0 else {"mean": plain(mean)}
    if mean == 0:
        yield from _scaled(std, "normal", facts)
    yield from ((_body("normal", **around, std=number), cost + bool(around)) for number, cost in _numbers(std, facts))


def _truncated(fill: TruncatedNormal, facts: Facts) -> Iterator[Priced]:
    loc, scale, low, high = fill.loc, fill.scale, fill.low, fill.high
    around = {} if loc == 0 else {"mean": plain(loc)}
    fan_in = facts.get("fan_in", 0)
    if loc == 0 and fan_in > 0 and math.isclose(scale, 1 / math.sqrt(fan_in) / TRUNCATED_STD, rel_tol=1e-6):
        yield Body("lecun_normal"), 0.3
    bounds: list[tuple[dict[str, Any], float]] = []
    if (low, high) == (-2, 2):
        bounds.append(({}, 0.0))
    cut = high / scale if scale else 0.0
    if loc == 0 and low == -high and math.isclose(cut, round(cut), rel_tol=1e-6) and cut < 10:
        bounds.append(({"a": f"-{round(cut)} * std", "b": f"{round(cut)} * std"}, 0.8))
    bounds.append(({"a": plain(low), "b": plain(high)}, 1.0 + 2 * (not is_short(low)) + 2 * (not is_short(high))))
    for number, cost in _numbers(scale, facts):
        for given, more in bounds:
            yield _body("trunc_normal", **around, std=number, **given), cost + more + bool(around)
    root = math.sqrt(fan_in) * TRUNCATED_STD if fan_in > 0 else 0.0
    if root and loc == 0 and math.isclose(cut, 2, rel_tol=1e-6):
        variance = (scale * root) ** 2
        if is_short(float(f"{variance:.5g}")):
            yield _body("variance_scaling", scale=plain(float(f"{variance:.5g}"))), 1.2


def _blocks(fills: tuple[Fill, ...], sizes: tuple[int, ...], facts: Facts) -> Iterator[Priced]:
    """One initializer for all blocks, with a list for what differs."""
    split = len(sizes) if len(set(sizes)) == 1 else sizes
    extra = 1.0 if isinstance(split, int) else 2.0
    if len(set(fills)) == 1:
        if isinstance(split, int):
            share = {name: facts[name] / split for name in ("fan_out", "d0") if name in facts}  # of the outputs
            for body, cost in bodies(fills[0], {**facts, **share}):
                yield body._replace(split=split), cost + 0.5
    elif all(isinstance(fill, Constant) for fill in fills):
        yield _body("constant", val=_all(fills, "mean"))._replace(split=split), extra + 1
    elif all(isinstance(fill, Normal) and fill.mean == 0 for fill in fills):
        yield _body("normal", std=_all(fills, "std"))._replace(split=split), extra + 1
    elif all(isinstance(fill, Constant | Normal) for fill in fills):
        yield _body("normal", mean=_all(fills, "mean"), std=_all(fills, "std"))._replace(split=split), extra + 2


def _all(fills: tuple[Fill, ...], moment: str) -> tuple[float, ...]:
    return tuple(plain(getattr(fill, moment)) for fill in fills)
