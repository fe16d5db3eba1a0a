"""The Triton backend without a GPU: its bits by Triton's interpreter, its instructions by Triton's compiler."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

pytestmark = pytest.mark.slow

INTERPRETED = """
import torch
from initframe.stream import Draw, cuda, eager, key

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
DISTRIBUTIONS = [
    ("bits", (), [torch.int32]),
    ("uniform", (-1.5, 2.5), [torch.float32]),
    ("normal", (0.5, 1e4), FLOATS),
    ("truncated_normal", (0.0, 1.0, -2.0, 6.0), [torch.float32]),
]
CARRY = (1 << 34) - 900
PLACES = [  # rows, length, pitch, start, stride
    (1, 66_000, 66_000, 0, 0),  # aligned, several programs, the last one and its last tile in part
    (1, 65_601, 65_603, 8, 0),  # aligned but for its last element
    (1, 17_001, 17_001, 3, 0),  # not aligned, several programs
    (2, 2500, 2504, CARRY, 8000),  # aligned rows, across the carry
    (2, 501, 504, CARRY - 1, 803),
    (3, 64, 64, 4, 64),  # rows that are one
    (2, 2, 5, 7, 3),
    (4, 9, 9, 5, (1 << 62) + 3),  # beyond what is positive in 64 bits
    (1, 40, 40, (1 << 64) - 40, 0),
]
for distribution, args, dtypes in DISTRIBUTIONS:
    for dtype in dtypes:
        for rows, length, pitch, start, stride in PLACES:
            one, other = (torch.full((rows, pitch), 99, dtype=dtype) for _ in range(2))
            for out, fill in ((one, eager.fill), (other, cuda.fill)):
                fill(Draw(out[:, :length], distribution, args, key("w", 1), start, stride))
            assert torch.equal(one.view(torch.uint8), other.view(torch.uint8)), (distribution, dtype, rows, length)
"""

PROBED = """
import torch
from initframe.stream import backends, cuda

def served():
    cuda.compiled_kernel.cache_clear()
    return backends._cuda.__wrapped__(torch.device("cpu")) is cuda

assert served()
for name, line in BROKEN.items():
    method = getattr(cuda.Source, name)
    setattr(cuda.Source, name, lambda self, *values: self.line(line.format(*map(cuda._spelled, values))))
    assert not served(), name
    setattr(cuda.Source, name, method)
assert served()
"""
BROKEN = {  # operations as other compilers might take them
    "sqrt": "tl.sqrt_of_another_triton({})",
    "to_float": "{}.to(tl.float32) * 1.0000001",
    "from_bits": "{}.to(tl.float32)",
    "select": "tl.where({}, {}, {}) * 1.0000001",
    "select_rarely": "{1}",
}

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from initframe.stream import cuda
from initframe.stream.formulas import constant_names

for distribution in ("uniform", "normal", "truncated_normal"):
    for aligned in (True, False):
        integers = {"parts": "i32", "turns": "i32"} | dict.fromkeys(cuda.POSITION, "i64") | dict.fromkeys(cuda.KEY, "u32")
        numbers = {cuda.GIVEN + name: "fp32" for name in constant_names(distribution)}
        types = {"out": "*fp32"} | integers | numbers | {"BLOCKS": "constexpr"}
        kernel = cuda.compiled_kernel(distribution, "float32", aligned=aligned)
        attributes = {(0,): [["tt.divisibility", 16]]}
        source = ASTSource(kernel, types, constexprs={"BLOCKS": cuda.TILES[0][0]}, attrs=attributes)
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=cuda.OPTIONS).asm["ptx"]
        assert ("st.global.v4" in ptx) == aligned
        print(ptx)
"""


def run(code, cache, **environment):
    """Run code in a fresh process, since Triton's interpreter is chosen when it is loaded."""
    here = os.fspath(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": here, "TRITON_CACHE_DIR": os.fspath(cache)} | environment
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_interpreter_gives_the_bits_of_the_eager_backend(tmp_path):
    run(INTERPRETED, tmp_path, TRITON_INTERPRET="1")


def test_the_probe_finds_what_is_wrong_with_any_operation(tmp_path):
    run(f"BROKEN = {BROKEN}\n{PROBED}", tmp_path, TRITON_INTERPRET="1")


def test_the_compiler_rounds_every_operation_by_itself(tmp_path):
    ptx = run(COMPILED, tmp_path)
    arithmetic = re.findall(r"^\s+((?:add|sub|mul|fma|mad|sqrt|div|rcp|cvt)[a-z.]*\.f32\S*)", ptx, re.MULTILINE)
    assert {"mul.rn.f32", "add.rn.f32", "sqrt.rn.f32"} <= set(arithmetic)
    assert {name for name in arithmetic if ".rn." not in name} == set()
    assert "fma" not in ptx
    assert "ftz" not in ptx


def test_every_launch_is_compiled_with_these_options(monkeypatch):
    from initframe.stream import Draw, cuda, key

    class Kernel:
        def __getitem__(self, grid):
            return lambda *_, **options: launched.append(options)

    launched = []
    monkeypatch.setattr(cuda, "compiled_kernel", lambda *_, **__: Kernel())
    cuda.fill(Draw(torch.empty(1, cuda.SMALL + 1), "normal", (0.0, 1.0), key("w", 0)))
    assert len(launched) == 2
    assert all(options.items() >= cuda.OPTIONS.items() for options in launched)
