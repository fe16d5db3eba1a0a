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

COMMON = """
import torch
from dataclasses import replace
from initframe.stream import Draw, cuda, eager, key

def alike(draws, backend):
    \"\"\"The memory, as bytes, and the memory around it, when a backend has filled draws of the same form.\"\"\"
    wholes = [torch.full((out.shape[0], width + margin), 77, dtype=out.dtype) for out, width, margin, _ in draws]
    outs = [whole[:, margin:][:, : out.shape[1]] for whole, (out, _, margin, _) in zip(wholes, draws)]
    backend([replace(draw, out=out) for out, (_, _, _, draw) in zip(outs, draws)])
    return [whole.view(torch.uint8) for whole in wholes]

def form(distribution, args, dtype, rows, length, pitch, start, stride, name="w", margin=0):
    out = torch.empty(rows, length, dtype=dtype)
    return out, pitch, margin, Draw(out, distribution, args, key(name, 1), start, stride)

def check(draws):
    one = alike(draws, lambda draws: [eager.fill(draw) for draw in draws])
    other = alike(draws, lambda draws: cuda.Table(draws).execute())
    for a, b, (_, _, _, draw) in zip(one, other, draws):
        assert torch.equal(a, b), draw
"""

INTERPRETED = (
    COMMON
    + """
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
DISTRIBUTIONS = [
    ("bits", (), [torch.int32]),
    ("uniform", (-1.5, 2.5), [torch.float32]),
    ("normal", (0.5, 1e4), FLOATS),
    ("truncated_normal", (0.0, 1.0, -2.0, 6.0), [torch.float32]),
]
CARRY = (1 << 34) - 900
POSITIONS = [  # rows, length, pitch, start, stride
    (1, 4000, 4000, 0, 0),  # aligned, several programs, the last one and its last tile in part
    (1, 3203, 3203, 8, 0),  # aligned but for its end
    (1, 3301, 3301, 3, 0),  # not aligned, several programs
    (2, 1100, 1104, CARRY, 8000),  # aligned rows, across the carry
    (2, 305, 308, 8, 4096),  # aligned rows, each with an end of its own
    (2, 501, 504, CARRY - 1, 803),
    (3, 64, 64, 4, 64),  # rows that are one
    (2, 2, 5, 7, 3),
    (400, 5, 6, 9, 11),  # short rows, several programs
    (12, 256, 258, CARRY, 257),  # the longest short ones, across the carry
    (9, 9, 9, 5, (1 << 60) + 3),  # short rows, far apart
    (2, 260, 261, 5, (1 << 63) + 3),  # beyond what is positive in 64 bits
    (1, 40, 40, (1 << 64) - 40, 0),
    (1, 0, 3, 0, 0),
    (0, 3, 3, 0, 3),
]
check([form("normal", (0.0, 1.0), torch.float32, 1, 17_001, 17_001, 4, 0)])
cuda.BLOCKS, cuda.LARGE = 128, 1000  # the interpreter computes whole tiles, however little they hold
check([
    form(distribution, args, dtype, *position, name=f"w{i}", margin=margin)
    for distribution, args, dtypes in DISTRIBUTIONS
    for dtype in dtypes
    for i, position in enumerate(POSITIONS)
    for margin in (0, 3)[: 1 + (dtype in (torch.float32, torch.bfloat16))]
    if position[0] < 10 or dtype is dtypes[0]  # many rows take their time
])
"""
)

THOUSAND = (
    COMMON
    + """
import random

chance = random.Random(0)
draws = []
cuda.BLOCKS = 64  # the interpreter computes whole tiles
for i in range(1000):
    rows, length = chance.choice([(1, chance.randrange(50)), (chance.randrange(3), chance.randrange(9))])
    width, stride, start = length + chance.randrange(3), length + chance.randrange(3), chance.randrange(1 << 40)
    low, dtype = chance.choice([-0.01, -1.0, -float(i)]), chance.choice([torch.float32, torch.float64])
    draws.append(form("uniform", (low, 0.5), dtype, rows, length, width, start, stride, f"w{i}", chance.randrange(2)))
check(draws)
table = cuda.Table([draw for _, _, _, draw in draws])
print(len(table.launches))
"""
)

REKEYED = (
    COMMON
    + """
draws = [form("normal", (0.0, 1.0), torch.float32, 1, n, n, 0, 0, f"w{n}")[3] for n in (5, 0, 70, 9)]
table = cuda.Table(draws)
for seed in (1, 2):
    keys = [key(f"w{n}", seed) for n in (5, 0, 70, 9)]
    table.execute(keys)
    for draw, address in zip(draws, keys):
        expected = torch.empty_like(draw.out)
        eager.fill(replace(draw, out=expected, key=address))
        assert torch.equal(draw.out, expected)
cuda.Table([form("normal", (0.0, 1.0), torch.float32, 0, 3, 3, 0, 3)[3]]).execute()
"""
)

HUGE = (
    COMMON
    + """
import mmap

def memory(*shape, pitch):
    \"\"\"Memory that is there where it is written.\"\"\"
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python 3.13 names it
    mapped = mmap.mmap(-1, 2 * shape[0] * pitch, flags)
    return torch.frombuffer(mapped, dtype=torch.bfloat16).as_strided(shape, (pitch, 1))

def check_end(out, start, stride, programs):
    \"\"\"Run the last programs of a table: the last elements are drawn, and the one before is not.\"\"\"
    draw = Draw(out, "uniform", (0.5, 1.0), key("w", 1), start, stride)
    table = cuda.Table([draw])
    (kernel, entries, number), = table.launches
    table.fields[:, 1] -= number - programs
    table.launches = [(kernel, entries[-programs:], programs)]
    table.execute()
    rows = min(len(out), 3)
    end = out[-rows:, -2000:]
    expected = torch.empty_like(end)
    skipped = (len(out) - rows) * stride + out.shape[1] - end.shape[1]
    eager.fill(replace(draw, out=expected, start=start + skipped))
    assert torch.equal(end, expected)
    assert not out[0, 0]

check_end(memory(1, (1 << 32) + 5, pitch=(1 << 32) + 8), 4, 0, 2)  # aligned, and an entry for the rest
check_end(memory(1, (1 << 32) + 5, pitch=(1 << 32) + 8), 3, 0, 1)
check_end(memory((1 << 31) + 77, 3, pitch=4), 5, 7, 1)  # more short rows than a grid has programs
cuda.BLOCKS = 64
check_end(memory((1 << 22) + 7, 130, pitch=1 << 10), 5, (1 << 40) + 1, 3)
"""
)

PROBED = """
import torch
from initframe.stream import backends, cuda, triton_kernels, triton_lanes

def served():
    triton_kernels.fill_kernel.cache_clear()
    return backends._load_cuda.__wrapped__(torch.device("cpu")) is cuda

assert served()
for name, line in BROKEN.items():
    method = getattr(triton_lanes.Source, name)
    broken = lambda self, *values: self.line(line.format(*map(triton_lanes._spelled, values)))
    setattr(triton_lanes.Source, name, broken)
    assert not served(), name
    setattr(triton_lanes.Source, name, method)
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
from initframe.stream.triton_kernels import fill_kernel

STORES = {"float32": "st.global.v4.b32", "bfloat16": "st.global.v2.b32", "float64": "st.global.v2.b64"}
KERNELS = ("uniform", "bfloat16"), ("uniform", "float64"), ("normal", "float32"), ("truncated_normal", "float32")
for distribution, dtype in KERNELS:
    types = {"table": "*i64", "keys": "*i64", "programs": "*i32", "BLOCKS": "constexpr"}
    source = ASTSource(fill_kernel(distribution, dtype), types, constexprs={"BLOCKS": cuda.BLOCKS})
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=cuda.OPTIONS).asm["ptx"]
    assert STORES[dtype] in ptx, (distribution, dtype)
    print(ptx)
"""


def run(code, cache, **environment):
    """Run code in a fresh process, because Triton's interpreter is chosen when it is loaded."""
    here = os.fspath(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": here, "TRITON_CACHE_DIR": os.fspath(cache)} | environment
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_interpreter_gives_the_bits_of_the_eager_backend(tmp_path):
    run(INTERPRETED, tmp_path, TRITON_INTERPRET="1")


def test_a_thousand_tensors_are_filled_by_a_launch_per_dtype(tmp_path):
    assert int(run(THOUSAND, tmp_path, TRITON_INTERPRET="1")) == 2


def test_a_table_is_built_once_and_takes_the_keys_of_any_seed(tmp_path):
    run(REKEYED, tmp_path, TRITON_INTERPRET="1")


@pytest.mark.skipif(sys.platform != "linux", reason="memory that is not there is Linux's")
def test_the_ends_of_what_has_billions_of_elements_or_rows(tmp_path):
    run(HUGE, tmp_path, TRITON_INTERPRET="1")


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
    monkeypatch.setattr(cuda, "fill_kernel", lambda *_: Kernel())
    memory = torch.empty(1, 70_001)
    uniforms = [("uniform", (0.0, float(n))) for n in range(5000)]
    cuda.Table([Draw(memory, *law, key("w", 0)) for law in [*uniforms, ("normal", (0.0, 1.0))]]).execute()
    assert len(launched) == 2
    assert all(options.items() >= cuda.OPTIONS.items() for options in launched)


def test_the_benchmark_of_a_gpu_goes_through_its_steps_without_one():
    root = Path(__file__).parents[2]
    command = [sys.executable, os.fspath(root / "benchmarks" / "fills.py"), "--gpu", "--dry"]
    environment = os.environ | {"PYTHONPATH": os.fspath(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Llama" in done.stdout
