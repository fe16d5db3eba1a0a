"""Random texts, numbers and data, mostly near what is meant, now and then far from it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import initframe
from initframe.initializers import get
from initframe.initializers.arguments import signature

FACTS = ("fan_in", "fan_out", "ndim", "numel", "d0", "d1", "layer", "layers", "std", "relu", "pi", "sqrt", "unit", "x")
OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "<", ">", "==", "!=", "<=", " and ", " or ", " not ", ",", "(", ")")
ODD = (
    *(
        "",
        " ",
        "\n",
        "\t",
        "\0",
        "\x1b[31m",
        "\u202e",
        "\ud800",
        "é",
        "𝔘",
        "${oc.env:HOME}",
        "_target_",
        "()",
        "[]",
        "{}",
    ),
    *("1e999", "1:1:1", "0x", "0b1", "1_0", "nan", ".inf", "~", "null", "true", "&a", "*a", "<<", "!!int", "---", "%"),
    *(".", "..", "../x", "/", "*", "**", "?", "[", "]", "[!a]", "{layer}", "{", "}", "lambda", "__class__", "9" * 400),
)
NAMES = ("0.weight", "0.bias", "*.weight", "*.bias", "*", "1.*", "{layer}.weight", "norm.weight", "running_mean", "no")
NUMBERS = (0, 1, -1, 2, 0.5, 1e-300, 1e308, float("nan"), float("inf"), 10**20, 10**400, -(2**63), 2**64, True, None)
INITS = ("zeros", "normal", "constant", "keep", "xavier_uniform", "trunc_normal", "orthogonal", "uniform", "copy")
KEYS = {
    "where": ("ndim > 1", "fan_in > 2", "layer == 0", "1"),
    "module": ("Linear", "*", "No", ["Linear", "*"]),
    "inside": ("Sequential", "*"),
    "kind": ("any", "buffer", "parameter", "x"),
    "split": (2, 3, [1, 1], ["d0 - 1", 1], [0], []),
    "units": ([0], [9], "unit % 2 == 0", "unit"),
    "axes": (["out", "in"], ["batch", "out", "in"], ["kernel"]),
    "optional": (True, False, "patterns"),
    "exclude": NAMES,
    "companions": ({"lr": 1}, {"lr": "1 / fan_in"}, {"a b": 1}),
    "padding": ("zero", "fill"),
    "factor": (2, "1 / layers", 0),
    "source": NAMES,
    "path": ("no.pt", "", "."),
}
TOP = {
    "unused": ("error", "warn"),
    "unmatched": ("keep", "error", "default", "constructor"),
    "fans": ("torch", "effective"),
    "vars": ({"x": 1}, {"x": "y", "y": "x"}, {"x": "fan_in"}),
    "base": ({"0.weight": [2, 2]}, "no.pt"),
    "requires": ("words",),
    "companions": ("warn", "heeded"),
}


def expression(rng: random.Random) -> str:
    """Make a text of the words of expressions."""
    if rng.random() < 0.4:
        return _grown(rng, rng.randrange(5))
    words = [rng.choice((*FACTS, *OPERATORS, "1", "0.5", "2", "1e3")) for _ in range(rng.randrange(12))]
    return mutated(rng, rng.choice(("", " ")).join(words), ODD) if rng.random() < 0.3 else " ".join(words)


def _grown(rng: random.Random, depth: int) -> str:
    """Make an expression that is one."""
    if not depth:
        return rng.choice((*FACTS, "1", "0", "2.5", "1e308"))
    one, other = _grown(rng, depth - 1), _grown(rng, rng.randrange(depth))
    shape = rng.choice(("({} {} {})", "{} {} {}", "sqrt({0})", "min({0}, {2})", "-{0}", "not {0}", "relu({0})"))
    return shape.format(one, rng.choice(OPERATORS[:13]), other)


def pattern(rng: random.Random) -> str:
    """Make a text of the pieces of patterns."""
    pieces = ("*", "?", ".", "weight", "layer", "{layer}", "{x}", "[ab]", "[!a]", "0", "12", "a", "-")
    text = "".join(rng.choice(pieces) for _ in range(rng.randrange(14)))
    return mutated(rng, text, ODD) if rng.random() < 0.4 else text


def value(rng: random.Random, depth: int = 3) -> Any:
    """Make any plain data."""
    kind = rng.randrange(7 if depth else 4)
    if kind == 4:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind > 4:
        return {word(rng): value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return rng.choice(NUMBERS) if kind == 0 else expression(rng) if kind == 1 else word(rng)


def word(rng: random.Random) -> str:
    """Make a name, or an odd text."""
    return rng.choice(ODD) if rng.random() < 0.2 else rng.choice((*NAMES, *INITS, *FACTS, *KEYS, *TOP))


def recipe(rng: random.Random, names: Sequence[str] = NAMES) -> Any:
    """Make a recipe: mostly one that fits somewhere, with now and then something odd in it."""
    rules = {}
    for _ in range(rng.randrange(1, 4)):
        init = rng.choice(initframe.list_initializers()) if rng.random() < 0.5 else rng.choice(INITS)
        rule: Any = {"match": rng.choice([*names, *NAMES]) if rng.random() < 0.85 else pattern(rng), "init": init}
        for key, parameter in signature(get(init)).items():
            if parameter.required or rng.random() < 0.3:
                usual = (1, 0.02, "fan_in", "1 / fan_in", 2, -1) if parameter.numeric else parameter.options or ("x",)
                rule[key] = rng.choice(usual) if rng.random() < 0.85 else value(rng)
        for key in rng.sample(sorted(KEYS), rng.choice((0, 0, 0, 1, 1, 2))):
            rule[key] = rng.choice(KEYS[key]) if rng.random() < 0.85 else value(rng)
        rules[f"r{len(rules)}" if rng.random() < 0.9 else word(rng)] = rule if rng.random() < 0.95 else value(rng)
    data: Any = {"rules": rules, "unused": "warn"}
    for key in rng.sample(sorted(TOP), rng.choice((0, 0, 1, 2))):
        data[key] = rng.choice(TOP[key]) if rng.random() < 0.85 else value(rng)
    return data if rng.random() < 0.98 else value(rng)


def mutated(rng: random.Random, text: str, pieces: Sequence[str]) -> str:
    """Change a text in a few places."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randint(0, len(text))
        end = min(len(text), at + rng.choice((0, 0, 1, 1, 3, 20)))
        chosen = rng.choice(pieces) if rng.random() < 0.6 else text[rng.randint(0, len(text)) :][: rng.randrange(1, 30)]
        text = text[:at] + chosen * rng.choice((1, 1, 1, 1, 2, 50)) + text[end:]
    return text


def flipped(rng: random.Random, content: bytes) -> bytes:
    """Change bytes in a few places."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                changed[at : at + 1] = bytes([changed[at] ^ 1 << rng.randrange(8)]) if at < len(changed) else b""
            case 2:
                changed[at : at + rng.choice((1, 2, 8, 64))] = b""
            case 3:
                start = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + rng.choice((1, 4, 16, 64))]
            case 4:
                special = (b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x80", b"{", b'"', b"9" * 20, b"-1", b"}")
                changed[at : at + rng.choice((0, 4, 8))] = rng.choice(special)
            case 5:
                del changed[rng.choice((at, max(at, len(changed) - 8))) :]
        if not changed:
            break
    return bytes(changed)
