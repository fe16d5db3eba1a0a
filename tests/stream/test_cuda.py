"""The Triton backend without a GPU: its bits by Triton's interpreter, its instructions by Triton's compiler."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

INTERPRETED = """
import torch
from initframe.stream import Draw, cuda, eager, key

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
LAWS = [
    ("bits", (), [torch.int32]),
    ("uniform", (-1.5, 2.5), [torch.float32]),
    ("normal", (0.5, 1e4), FLOATS),
    ("truncated_normal", (0.0, 1.0, -2.0, 6.0), [torch.float32]),
]
for law, args, dtypes in LAWS:
    for dtype in dtypes:
        for rows, length, start, stride in [(1, 1100, 0, 0), (2, 501, (1 << 34) - 901, 803), (2, 2, 7, 3)]:
            one, other = (torch.full((rows, length + 3), 99, dtype=dtype) for _ in range(2))
            for out, fill in ((one, eager.fill), (other, cuda.fill)):
                fill(Draw(out[:, :length], law, args, key("w", 1), start, stride))
            assert torch.equal(one.view(torch.uint8), other.view(torch.uint8)), (law, dtype, rows)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from initframe.stream import cuda
from initframe.stream.formulas import constant_names

for law in ("uniform", "normal", "truncated_normal"):
    words, numbers = [*cuda.PLACE, *cuda.KEY], constant_names(law)
    types = {"out": "*fp32"} | dict.fromkeys(words, "i64") | dict.fromkeys(numbers, "fp32") | {"BLOCKS": "constexpr"}
    source = ASTSource(cuda.compiled_kernel(law, "float32"), types, constexprs={"BLOCKS": cuda.BLOCKS})
    print(triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"])
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


def test_the_compiler_rounds_every_operation_by_itself(tmp_path):
    ptx = run(COMPILED, tmp_path)
    arithmetic = re.findall(r"^\s+((?:add|sub|mul|fma|mad|sqrt|div|rcp|cvt)[a-z.]*\.f32\S*)", ptx, re.MULTILINE)
    assert {"mul.rn.f32", "add.rn.f32", "sqrt.rn.f32"} <= set(arithmetic)
    assert {name for name in arithmetic if ".rn." not in name} == set()
    assert "fma" not in ptx
    assert "ftz" not in ptx
