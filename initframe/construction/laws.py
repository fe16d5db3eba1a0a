"""What a rule may say of one tensor: initializers and arguments that make its fill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from initframe.construction.formulas import formulas, is_short, plain
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

Argument = Any


class Law(NamedTuple):
    """A rule without its patterns.

    Attributes:
        init: the initializer's name.
        arguments: its arguments, as written in a recipe.
        split: the number of blocks, if there are several.
        padding: ``"fill"`` where an embedding's row of padding is filled like the others.
        cost: how much there is to read.
        captures: whether it names ``layer`` or ``layers``.
    """

    init: str
    arguments: tuple[tuple[str, Argument], ...] = ()
    split: int | tuple[int, ...] | None = None
    padding: str | None = None
    cost: float = 0.0
    captures: bool = False

    def written(self) -> dict[str, Any]:
        """The law as keys of a rule."""
        split = list(self.split) if isinstance(self.split, tuple) else self.split
        extra = {"split": split, "padding": self.padding}
        arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in self.arguments}
        return {**{k: v for k, v in extra.items() if v is not None}, "init": self.init, **arguments}


CONSTRUCTOR = Law("constructor", cost=8.0)
Facts = Mapping[str, float]


def laws(fill: Fill, facts: Facts) -> Iterator[Law]:
    """Give what a rule may say to make a fill; whether it does is for the resolver to tell.

    Args:
        fill: what a tensor holds.
        facts: what expressions on the tensor may name.

    Yields:
        Laws, in no order; ``torch_default`` and ``constructor``, which say nothing of the fill, are not among them.
    """
    match fill:
        case Masked(inner, padding=True):
            yield from laws(inner, facts)
        case Constant(value):
            yield from _constants(value, facts)
        case Uniform(low, high):
            yield from _uniforms(low, high, facts)
        case Normal(mean, std):
            yield from _normals(mean, std, facts)
        case TruncatedNormal():
            yield from _truncated(fill, facts)
        case Orthogonal(gain=gain):
            yield Law("orthogonal", () if gain == 1 else (("gain", plain(gain)),), cost=0.5 + (gain != 1))
        case Identity():
            yield Law("eye", cost=0.5)
        case Dirac(groups=groups):
            yield Law("dirac", () if groups == 1 else (("groups", groups),), cost=0.5 + (groups != 1))
        case Sparse(sparsity=sparsity, scale=scale):
            yield Law("sparse", (("sparsity", plain(sparsity)), ("std", plain(scale))), cost=1.5)
        case Blocks(fills, sizes, _):
            yield from _blocks(fills, sizes, facts)


def _numbers(value: float, facts: Facts) -> Iterator[tuple[Argument, float]]:
    """A number, and the formulas for it, each with how much there is to read."""
    short = is_short(value)
    yield plain(value), 0.5 if short else 4.0
    for text in formulas(value, facts):
        yield text, (1.0 if not short else 1.5) + len(text) / 40


def _law(init: str, arguments: Mapping[str, Argument], cost: float) -> Law:
    texts = " ".join(v for v in arguments.values() if isinstance(v, str))
    return Law(
        init,
        tuple(arguments.items()),
        cost=cost,
        captures="layer" in texts.replace("num_hidden_layers", "").replace("n_layer", "").replace("num_layers", ""),
    )


def _constants(value: float, facts: Facts) -> Iterator[Law]:
    if value == 0:
        yield Law("zeros")
    elif value == 1:
        yield Law("ones")
    else:
        yield from (_law("constant", {"val": number}, cost) for number, cost in _numbers(value, facts))


def _gains(std: float, facts: Facts, of: Callable[[float, float], float]) -> Iterator[tuple[dict[str, Any], float]]:
    """Gains that give a std over fans, as the argument of xavier."""
    fan_in, fan_out = facts.get("fan_in", 0), facts.get("fan_out", 0)
    if fan_in <= 0 or fan_out <= 0:
        return
    gain = std / of(fan_in, fan_out)
    for name, known in (("", 1.0), ("relu", math.sqrt(2)), ("tanh", 5 / 3)):
        if math.isclose(gain, known, rel_tol=1e-6):
            yield ({"gain": name} if name else {}), 0.2 + 0.3 * bool(name)
            return
    if is_short(float(f"{gain:.6g}")):
        yield {"gain": plain(float(f"{gain:.6g}"))}, 1.0
    elif math.isclose(gain, 1 / math.sqrt(2), rel_tol=1e-6):
        yield {"gain": "1 / sqrt(2)"}, 1.0


def _scaled(std: float, distribution: str, facts: Facts) -> Iterator[Law]:
    """Xavier, Kaiming and LeCun."""
    fan_in, fan_out = facts.get("fan_in", 0), facts.get("fan_out", 0)
    if facts.get("ndim", 0) < 2 or fan_in <= 0 or fan_out <= 0 or std <= 0:
        return
    if distribution != "truncated_normal":
        for given, cost in _gains(std, facts, lambda i, o: math.sqrt(2 / (i + o))):
            yield _law(f"xavier_{distribution}", given, cost)
        for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
            if math.isclose(std, math.sqrt(2 / fan), rel_tol=1e-6):
                yield _law(f"kaiming_{distribution}", {"mode": mode, "nonlinearity": "relu"}, 0.4)
            if math.isclose(std, math.sqrt(1 / fan), rel_tol=1e-6) and mode == "fan_out":
                yield _law(f"kaiming_{distribution}", {"mode": mode, "nonlinearity": "linear"}, 0.6)
            if math.isclose(std, math.sqrt(1 / (3 * fan)), rel_tol=1e-6):
                given = {"a": "sqrt(5)"} | ({"mode": mode} if mode == "fan_out" else {})
                yield _law("kaiming_uniform", given, 0.6) if distribution == "uniform" else Law("")
    if distribution == "uniform" and math.isclose(std, math.sqrt(1 / fan_in), rel_tol=1e-6):
        yield Law("lecun_uniform", cost=0.3)


def _uniforms(low: float, high: float, facts: Facts) -> Iterator[Law]:
    if low == -high:
        yield from (law for law in _scaled(high / math.sqrt(3), "uniform", facts) if law.init)
        for number, cost in _numbers(high, facts):
            opposite = f"-{number}" if isinstance(number, str) and " " not in number else f"-({number})"
            yield _law("uniform", {"a": -number if not isinstance(number, str) else opposite, "b": number}, cost + 0.5)
    else:
        for a, cost_a in _numbers(low, facts) if low else [(0, 0.1)]:
            yield from (_law("uniform", {"a": a, "b": b}, cost_a + cost) for b, cost in _numbers(high, facts))


def _normals(mean: float, std: float, facts: Facts) -> Iterator[Law]:
    around = {} if mean == 0 else {"mean": plain(mean)}
    if mean == 0:
        yield from (law for law in _scaled(std, "normal", facts) if law.init)
    yield from (_law("normal", {**around, "std": number}, cost + bool(around)) for number, cost in _numbers(std, facts))


def _truncated(fill: TruncatedNormal, facts: Facts) -> Iterator[Law]:
    loc, scale, low, high = fill.loc, fill.scale, fill.low, fill.high
    around = {} if loc == 0 else {"mean": plain(loc)}
    fan_in = facts.get("fan_in", 0)
    if loc == 0 and fan_in > 0 and math.isclose(scale, 1 / math.sqrt(fan_in) / 0.87962566103423978, rel_tol=1e-6):
        yield Law("lecun_normal", cost=0.3)
    bounds: list[tuple[dict[str, Any], float]] = []
    if (low, high) == (-2, 2):
        bounds.append(({}, 0.0))
    cut = high / scale if scale else 0.0
    if loc == 0 and low == -high and math.isclose(cut, round(cut), rel_tol=1e-6) and cut < 10:
        bounds.append(({"a": f"-{round(cut)} * std", "b": f"{round(cut)} * std"}, 0.8))
    bounds.append(({"a": plain(low), "b": plain(high)}, 1.0 + 2 * (not is_short(low)) + 2 * (not is_short(high))))
    for number, cost in _numbers(scale, facts):
        yield from (
            _law("trunc_normal", {**around, "std": number, **given}, cost + more + bool(around))
            for given, more in bounds
        )
    root = math.sqrt(fan_in) * 0.87962566103423978 if fan_in > 0 else 0.0
    if root and loc == 0 and math.isclose(cut, 2, rel_tol=1e-6):
        variance = (scale * root) ** 2
        if is_short(float(f"{variance:.5g}")):
            yield _law("variance_scaling", {"scale": plain(float(f"{variance:.5g}"))}, 1.2)


def _blocks(fills: tuple[Fill, ...], sizes: tuple[int, ...], facts: Facts) -> Iterator[Law]:
    """One initializer for all blocks, with a list for what differs."""
    split = len(sizes) if len(set(sizes)) == 1 else sizes
    extra = 1.0 if isinstance(split, int) else 2.0
    if len(set(fills)) == 1:
        if isinstance(split, int):
            yield from _block_laws(fills[0], split, facts)
    elif all(isinstance(fill, Constant) for fill in fills):
        yield Law("constant", (("val", tuple(plain(f.mean) for f in fills)),), split, cost=extra + 1)
    elif all(isinstance(fill, Normal) and fill.mean == 0 for fill in fills):
        yield Law("normal", (("std", tuple(plain(f.std) for f in fills)),), split, cost=extra + 1)
    elif all(isinstance(fill, Constant | Normal) for fill in fills):
        around, spread = tuple(plain(f.mean) for f in fills), tuple(plain(f.std) for f in fills)
        yield Law("normal", (("mean", around), ("std", spread)), split, cost=extra + 2)


def _block_laws(fill: Fill, blocks: int, facts: Facts) -> Iterator[Law]:
    """The law of a block, which has its share of the outputs."""
    share = {name: facts[name] / blocks for name in ("fan_out", "d0") if name in facts}
    yield from (law._replace(split=blocks, cost=law.cost + 0.5) for law in laws(fill, {**facts, **share}))
