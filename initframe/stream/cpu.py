"""The backend for CPUs: kernels compiled in memory at first use, for the processor at hand."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias

import llvmlite.binding as llvm
import torch
from llvmlite import ir
from torch import Tensor

from initframe.stream.compiling import COMPILING
from initframe.stream.distributions import kernel_constants
from initframe.stream.draws import Draw
from initframe.stream.formulas import constant_names
from initframe.stream.kernels import KEY, NAME, PLACE, digest_module, fill_module
from initframe.stream.pages import prefer_huge_pages
from initframe.stream.places import Place, pieces, place_of
from initframe.stream.threads import Task

Kernel: TypeAlias = Callable[..., int]

REGISTERS = 8
"""Registers that make up one vector of a kernel. So many instructions in a row are independent of each other
that the processor's units stay busy; values that find no register go to the stack, which costs less."""
LARGE = 1 << 20
"""Bytes from which memory is written past the caches: they would not hold it until it is read."""


@dataclass(frozen=True)
class Processor:
    """What code is compiled for: LLVM's name of a processor, its features, the bits of a vector register."""

    name: str
    features: str
    register_bits: int

    def lanes(self, bits: int, registers: int = REGISTERS) -> int:
        """Say how many lanes of so many bits make up a kernel's vector."""
        return registers * self.register_bits // bits


@cache
def host() -> Processor:
    """Describe the processor at hand."""
    features = llvm.get_host_cpu_features()
    bits = next((bits for name, bits in (("avx512f", 512), ("avx2", 256)) if features.get(name)), 128)
    return Processor(llvm.get_host_cpu_name(), features.flatten(), bits)


def fill_tasks(draw: Draw, processor: Processor | None = None) -> Iterator[Task]:
    """Cut a draw into tasks that return how many elements they filled; its memory lives as long as they do.

    Args:
        draw: the job, in CPU memory.
        processor: what to compile for; default, the one at hand.
    """
    if not draw.out.numel():
        return
    processor = processor or host()
    constants = kernel_constants(draw.law, draw.args)
    place, size = place_of(draw.out, draw.start, draw.stride), draw.out.element_size()
    # Rows of less than half a tile would waste most of what long vectors compute.
    short = place.rows > 1 and place.length < processor.lanes(32)
    kernel = fill_kernel(draw.law, draw.out.dtype, processor.lanes(32, 1 if short else REGISTERS), processor)
    rest = int(draw.out.numel() * size >= LARGE), *draw.key, *(constants[name] for name in constant_names(draw.law))
    prefer_huge_pages(draw.out)
    for piece in pieces(place, size):
        yield Task(partial(_fill, kernel, piece, rest, draw.out), piece.rows * piece.length)


def fill(draw: Draw) -> None:
    """Fill a draw's memory in the calling thread."""
    for task in fill_tasks(draw):
        task.run()


def digest_tasks(rows: Tensor, start: int, stride: int, processor: Processor | None = None) -> Iterator[Task]:
    """Cut the digest of rows into tasks that return their sums; the memory lives as long as they do."""
    processor = processor or host()
    size = rows.element_size()
    kernel = digest_kernel(size, processor)
    for piece in pieces(place_of(rows, start, stride), size):
        yield Task(partial(_digest, kernel, piece, rows), piece.rows * piece.length)


def _fill(kernel: Kernel, piece: Place, rest: tuple[float, ...], _memory: Tensor) -> int:
    kernel(*piece, *rest)
    return piece.rows * piece.length


def _digest(kernel: Kernel, piece: Place, _memory: Tensor) -> int:
    return kernel(*piece)


_engines: list[llvm.ExecutionEngine] = []
"""The owners of the machine code, which lives as long as the process."""


def fill_kernel(law: str, dtype: torch.dtype, width: int, processor: Processor) -> Kernel:
    """Compile what `fill_module` writes, or find it compiled."""
    with COMPILING:
        return _fill_kernel(law, str(dtype).removeprefix("torch."), width, processor)


def digest_kernel(size: int, processor: Processor) -> Kernel:
    """Compile what `digest_module` writes, or find it compiled."""
    with COMPILING:
        return _digest_kernel(size, processor)


@cache
def _fill_kernel(law: str, dtype: str, width: int, processor: Processor) -> Kernel:
    words = len(PLACE) + 1 + len(KEY)
    kinds = [ctypes.c_uint64] * words + [ctypes.c_float] * len(constant_names(law))
    return ctypes.CFUNCTYPE(None, *kinds)(_compile(fill_module(law, dtype, width), processor))


@cache
def _digest_kernel(size: int, processor: Processor) -> Kernel:
    kinds = [ctypes.c_uint64] * len(PLACE)
    return ctypes.CFUNCTYPE(ctypes.c_uint64, *kinds)(_compile(digest_module(size, processor.lanes(64)), processor))


def _compile(module: ir.Module, processor: Processor) -> int:
    """Compile a module for a processor; gives the address of its function, which ctypes calls without the GIL.

    Raises:
        OSError: the system refuses memory that may be executed, for which LLVM would not ask but crash.
    """
    llvm.check_jit_execution()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=processor.name, features=processor.features, opt=3, jit=True)
    parsed = llvm.parse_assembly(str(module))
    parsed.triple, parsed.data_layout = machine.triple, str(machine.target_data)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(NAME))
