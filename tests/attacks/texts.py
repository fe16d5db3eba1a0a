"""Hostile recipes: expressions, patterns, YAML, keys and paths that try to run code, to read, or to take time."""

from __future__ import annotations

from typing import Any

MARK = "initframe-attack-mark"
"""The file that an attack makes if it runs code."""

_OPEN = f"open('{MARK}','w')"
CODE = (
    *(_OPEN, f"__import__('os').system('touch {MARK}')", f"exec({_OPEN!r})", f"eval({_OPEN!r})", "().__class__"),
    *("().__class__.__base__.__subclasses__()", "sqrt.__globals__", "sqrt.__self__", "fan_in.real", "(1).__class__"),
    *("[x for x in (1,)]", "{1: 2}", "{1, 2}", "[1, 2]", "(1, 2)", "lambda: 1", "lambda x: x", "x := 1", "(x := 1)"),
    *("f'{fan_in}'", "'a' * 10", '"a"', "b'a'", "1 if 2 else 3", "fan_in[0]", "fan_in[0:1]", "*fan_in", "sqrt(*d0)"),
    *("sqrt(x=1)", "sqrt(**d0)", "sqrt(fan_in)(1)", "(sqrt)(4)", "sqrt(sqrt)", "min()", "log(-1)", "sqrt(-1)", "1/0"),
    *("await x", "yield", "yield 1", "not", "1 +", "1; 2", "1\\\n2", "import os", "del fan_in", "pass", "return 1"),
    *("x = 1", "fan_in == ", "a.b", "a..b", "...", "Ellipsis", "None", "True + 1", "1j", "0xg", "1__0", "1e999", "nan"),
    *(
        "inf",
        "10**10**10",
        "9**9**9**9",
        "2**2**2**2**2**2",
        "1<<100",
        "1 & 1",
        "1 | 1",
        "1 ^ 1",
        "~1",
        "1 @ 1",
        "`ls`",
    ),
    *("$(ls)", "${oc.env:HOME}", "${x}", "%s", "$HOME", "#", "# fan_in", "fan_in # x", "ﬁn", "fan_in", "ａ", "а", "x²"),
    *(
        "1²",
        "٣",
        "\x00",
        "\x1b[31m",
        "\ud800",
        "\u202e1",
        "print(1)",
        "input()",
        "open",
        "globals()",
        "locals()",
        "vars()",
    ),
    *(
        "dir()",
        "help()",
        "exit()",
        "quit()",
        "breakpoint()",
        "compile('1','','eval')",
        "getattr(fan_in,'real')",
        "type(1)",
    ),
    *(
        "super()",
        "object()",
        "memoryview(b'')",
        "bytearray(9)",
        "math.sqrt(4)",
        "torch.ones(3)",
        "np.ones(3)",
        "os.name",
    ),
    *(
        "(" * 300 + "1" + ")" * 300,
        "-" * 999,
        "not " * 240 + "1",
        "1" * 1_000,
        "1+" * 499 + "1",
        "a" * 1_001,
        "((((" * 200,
    ),
    *("sqrt(" * 60 + "4" + ")" * 60, "1<" * 300 + "2", "x and " * 130 + "x", "1," * 400, "max(" + "1," * 400 + "1)"),
    *("d" + "9" * 500, "9" * 400, "0." + "0" * 998 + "1e-9", "1e" + "9" * 500, "1**" * 200 + "1", "min(" * 100),
)
"""As an argument and as a condition; none is an expression with a finite value for a matrix."""
HARMLESS = ("fan_in", "(sqrt)(4)")
"""Of these, what is an expression after all, for a matrix."""

PATTERNS = (
    *("*a" * 300 + "b", "*" * 999, "?" * 999, "*?" * 450 + "x", "*[ab]" * 150 + "c", "[" * 500, "[!" * 400, "[]" * 400),
    *(
        "[a-",
        "[z-a]*" * 80,
        "[a-z]*" * 100 + "\t",
        "*.{layer}" * 60,
        "{layer}" * 2,
        "{a}.{a}",
        "{a}.{as}",
        "{fan_in}.x",
    ),
    *(
        "{d0}.x",
        "{sqrt}.x",
        "{__class__}.x",
        "{0}.x",
        "{}",
        "{",
        "}",
        "{a",
        "a}",
        "{{a}}",
        "{a!r}",
        "{a:>9}",
        "{a.b}.x",
    ),
    *(
        "(a+)+$",
        "(a|a)*b",
        "^(([a-z])+.)+$",
        "(?:a*)*b",
        "(?P<x>a)",
        "(?i)w",
        r"\d+",
        r"\Z",
        "a\x00b",
        "a\x01b",
        "\x00",
    ),
    *(
        "a" * 1_001,
        "*" * 1_001,
        "\ud800",
        "\u202e*",
        "\x1b]0;x\x07",
        "..",
        "../*",
        "/etc/*",
        "~",
        "$HOME",
        "${a}",
        "%s",
    ),
    *(
        "*.weight.*" * 60,
        "*w*e*i*g*h*t*" * 40 + "!",
        "*1" * 400,
        "?*" * 400 + "z",
        "[!.]*" * 150 + "!",
        "*.*" * 300 + "!",
    ),
)

_DEEP = "{a: " * 60 + "1" + "}" * 60
_ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
_MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}\n" for i in range(1, 40))
_PYTHON = (
    *("object/apply:os.system [touch {m}]", "object/new:os.system [touch {m}]", "name:os.system ''", "module:os ''"),
    *("object:os.system {{}}", "object/apply:subprocess.call [[touch, {m}]]", "object/apply:eval [open('{m}','w')]"),
    *(
        "tuple [1]",
        "str x",
        "unicode x",
        "complex 1j",
        "bytes x",
        "long 1",
        "none ''",
        "dict {{}}",
        "list []",
        "set {{}}",
    ),
)
YAML = (
    *(f"rules: !!python/{tag.format(m=MARK)}" for tag in _PYTHON),
    *(f"rules: {{w: {{init: zeros, x: !!python/{tag.format(m=MARK)}}}}}" for tag in _PYTHON),
    *(f"!!python/{tag.format(m=MARK)}: zeros" for tag in _PYTHON[:5]),
    *(
        "rules: !own x",
        "rules: !<tag:x> y",
        "%TAG ! tag:yaml.org,2002:python/\n---\nrules: !object/apply:os.system [ls]",
    ),
    *(_ALIASES, _MERGES, f"rules: {_DEEP}", "[" * 100_000, "{" * 100_000, "- " * 100_000, "? " * 100_000, "a: &x [*x]"),
    *(
        "a: &x {b: *x}",
        "&a : *a",
        "vars: {a: 1" + ":1" * 100_000 + "}\nrules: {}",
        "vars: {a: " + "1" * 3_600 + "}\nrules: {}",
    ),
    *("vars: {a: 0x" + "f" * 900_000 + "}\nrules: {}", "vars: {a: 0b" + "1" * 900_000 + "}\nrules: {}"),
    *("vars: {a: 0" + "7" * 900_000 + "}\nrules: {}", "vars: {a: 1" + ":1" * 300_000 + ".5}\nrules: {}"),
    *(
        "vars: {a: 1" + "_" * 100_000 + "0}\nrules: {}",
        "vars: {a: 1e" + "9" * 5_000 + "}\nrules: {}",
        "vars: {a: .inf}\nrules: {}",
    ),
    *(
        "rules: {a: 2001-01-01}",
        "rules: {a: 2001-01-01 00:00:00." + "1" * 900_000 + "}",
        "rules: !!binary " + "A" * 900_000,
    ),
    *("rules: !!set {a, b}", "rules: !!omap [a: 1]", "rules: !!pairs [a: 1]", "rules: !!float x", "rules: !!null x"),
    *("rules: {}\n---\nrules: {}", "---\n" * 10_000, "rules: {}\n" * 2, "a: 1\na: 2", "? [a, b]\n: c", "? {a: b}\n: c"),
    *(
        "{1: 2}",
        "{true: 2}",
        "{null: 2}",
        "{1.5: 2}",
        "{2001-01-01: 2}",
        "#" * (1 << 20) + "#",
        " " * ((1 << 20) + 1),
        "",
    ),
    *("x" * 900_000, "'" + "x" * 900_000, '"' + "\\x41" * 200_000 + '"', "|\n" + " x\n" * 200_000, "- 1\n" * 100_000),
    *(
        "{" + ",".join(f"k{i}: 1" for i in range(60_000)) + "}",
        "\n".join(f"- &a{i} 1" for i in range(50_000)),
        "\ufeff\ufeffrules",
    ),
    *(
        "rules: {a: *b}",
        "rules: {<<: 3}",
        "rules: {<<: [1]}",
        "rules: \x1b[31m",
        "rules:\x00",
        "rules: '\\ud800'",
        'a: "\\ud800"',
    ),
    *(
        'rules: {"\\ud800": zeros}',
        'rules: {a: {init: zeros, "\\udfff": 1}}',
        "defaults: [null]\nrules: {}",
        "defaults: [/etc/x]",
    ),
    *(
        "rules: ${oc.env:HOME}",
        "rules: {w: {init: constant, val: '${oc.env:HOME}'}}",
        "'${oc.env:HOME}': 1",
        "rules: null",
        "3",
    ),
)

_PLACES: tuple[Any, ...] = (
    lambda key, value: {key: value, "rules": {"*": "zeros"}},
    lambda key, value: {"rules": {"*": {"init": "zeros", key: value}}},
    lambda key, value: {"rules": {"*": {"init": "constant", "val": {key: value}}}},
    lambda key, value: {"rules": {"*": {"init": "pretrained", "path": "x.pt", "keys": {key: [value]}}}},
    lambda key, value: {"vars": {"x": {key: value}}, "rules": {"*": "zeros"}},
)
_KEYS = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_", "${oc.env:HOME}")
MAPPINGS = (
    *(place(key, "os.system") for place in _PLACES for key in _KEYS),
    *(
        {"rules": {"*": {"init": name}}}
        for name in ("os.system", "torch.ones", "../zeros", "zeros\n", "__class__", "a" * 10**6)
    ),
    *(
        {"rules": {"*": {"init": "constant", "val": value}}}
        for value in (10**400, float("nan"), -float("inf"), [1], {}, b"x", 1j)
    ),
    *({"rules": {"*": {"init": "normal", "std": value}}} for value in (-1, "x" * 10**6, "y", [], None, "9" * 10**6)),
    *(
        {"rules": {"*": {"init": "zeros", "split": value}}}
        for value in (10**9, 10**30, [10**9], [1] * 15_000, -1, "1", [0], 1.5)
    ),
    *(
        {"rules": {"*": {"init": "zeros", "units": value}}}
        for value in ([10**30], [-1], list(range(15_000)), "unit / 0", "unit")
    ),
    {
        "vars": {f"v{i}": f"v{i + 1} + v{i + 1}" for i in range(400)} | {"v400": 1},
        "rules": {"*": {"init": "constant", "val": "v0"}},
    },
    {"vars": {"a": "b", "b": "a"}, "rules": {"*": {"init": "constant", "val": "a"}}},
    {"vars": {"fan_in": 3}, "rules": {"*": "zeros"}},
    {"vars": {"a b": 3}, "rules": {"*": "zeros"}},
    {"vars": {"a": "9**9**9"}, "rules": {"*": {"init": "constant", "val": "a"}}},
    {"rules": {f"layer{i}.weight": "zeros" for i in range(6_000)}},
    {"rules": {"x" * 10**6: "zeros"}},
    {"rules": {"*": {"init": "zeros", "x" * 10**6: 1}}},
    {"rules": {"*": {"init": "zeros", "match": ["*a" * 300] * 1_000}}},
    {"rules": {"*": {"init": "copy", "source": "*"}}},
    {"rules": {"*": {"init": "zeros", "axes": ["out"] * 10_000}}},
    {"rules": {"*": "zeros"}, "unmatched": "x" * 10**6},
    {"rules": {"*": "zeros"}, "base": {"0.weight": [10**30, -1]}},
    {"rules": {"*": {"init": "zeros", "where": "base_d0 > 1"}}, "base": "/etc/passwd"},
)

PATHS = (
    *(
        "/etc/passwd",
        "/etc/shadow",
        "/proc/self/environ",
        "/proc/self/mem",
        "/dev/zero",
        "/dev/stdin",
        "/dev/random",
        "/dev/full",
    ),
    *(
        "/",
        ".",
        "..",
        "~",
        "",
        " ",
        "\x00",
        "a\x00b",
        "\ud800",
        "a" * 5_000,
        "a/" * 2_000,
        "http://example.com/x.pt",
        "file:///etc",
    ),
    *(
        "s3://x/y.pt",
        "\\\\host\\share",
        "CON",
        "-rf",
        "--help",
        "$(touch x)",
        "`touch x`",
        "| ls",
        "${oc.env:HOME}",
        "\n",
        "\x1b[2J",
    ),
)
