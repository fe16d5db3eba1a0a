"""The backend for CPUs: kernels that are compiled in memory at first use, for this processor."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple, TypeAlias

import llvmlite.binding as llvm
import torch
from llvmlite import ir
from torch import Tensor

from initframe.stream.distributions import kernel_constants
from initframe.stream.draws import Draw
from initframe.stream.formulas import constant_names
from initframe.stream.llvm_kernels import KEY, NAME, digest_module, fill_module
from initframe.stream.pages import prefer_huge_pages
from initframe.stream.philox import Key
from initframe.stream.rows import Rows, address_of, pieces, rows_of
from initframe.stream.threads import COMPILING, Task

Kernel: TypeAlias = Callable[..., int]

REGISTERS = 4
"""Registers of one vector of a kernel. That many consecutive instructions do not depend on each other, so the
processor's units stay busy. Values without a register go to the stack: with twice as many, uniforms take 12 % longer
with AVX-512 and 80 % with AVX2 (on a Zen 4), and kernels half as long again to compile."""
LARGE = 1 << 20
"""Bytes from which memory is written past the caches, which would not hold it until it is read."""


class Processor(NamedTuple):
    """A processor to compile for: LLVM's name, its features, the bits of a vector register."""

    name: str
    features: str
    register_bits: int

    def lanes(self, bits: int, registers: int = REGISTERS) -> int:
        """Return the number of lanes of a kernel's vector, for lanes of ``bits`` bits."""
        return registers * self.register_bits // bits


@cache
def host() -> Processor:
    """Return this machine's processor."""
    features = llvm.get_host_cpu_features()
    bits = next((bits for name, bits in (("avx512f", 512), ("avx2", 256)) if features.get(name)), 128)
    return Processor(llvm.get_host_cpu_name(), features.flatten(), bits)


class Filling(NamedTuple):
    """What a draw needs, without its memory: the compiled kernel, its constants, and addresses."""

    kernel: Kernel | None
    pieces: Sequence[Rows]
    past_cache: int
    numbers: tuple[float, ...]

    def tasks(self, key: Key, memory: Tensor) -> Iterator[Task]:
        """Return tasks that return how many elements they filled; they keep the memory alive."""
        if self.kernel is None:
            return
        rest = self.past_cache, *key, *self.numbers
        for piece in self.pieces:
            yield Task(partial(_fill, self.kernel, piece, rest, memory), piece.number * piece.length)

    def run(self, key: Key) -> None:
        """Fill the memory at once, which somebody keeps alive."""
        if self.kernel is not None:
            for piece in self.pieces:
                self.kernel(*piece, self.past_cache, *key, *self.numbers)


def prepare(draw: Draw, processor: Processor | None = None) -> Filling:
    """Look up once what a draw needs: its kernel, compiled, its constants and its pieces.

    Args:
        draw: what to draw, in CPU memory.
        processor: what to compile for; this machine's by default.
    """
    if not draw.out.numel():
        return Filling(None, (), 0, ())
    processor = processor or host()
    numbers = tuple(kernel_constants(draw.distribution, draw.args).values())
    rows, size = rows_of(draw.out, draw.start, draw.stride), draw.out.element_size()
    # Rows of less than half a tile would waste most of what long vectors compute.
    short = rows.number > 1 and rows.length < processor.lanes(32)
    kernel = fill_kernel(draw.distribution, draw.out.dtype, processor.lanes(32, 1 if short else REGISTERS), processor)
    past_cache = int(draw.out.numel() * size >= LARGE)
    if past_cache:
        prefer_huge_pages(draw.out)
    return Filling(kernel, pieces(rows, size), past_cache, numbers)


def fill_dense(several: Iterable[tuple[Tensor, str, tuple[float, ...], Key]]) -> None:
    """Fill small dense tensors in the calling thread: what `prepare` and `Filling.run` do, with fewer steps.

    Args:
        several: tensors of fewer than `PIECE` elements, in an order that is that of memory; each with its distribution,
            the distribution's arguments and the key, whose first element is the tensor's.

    Raises:
        StreamError: a distribution cannot be drawn, or a tensor has no memory.
    """
    for out, distribution, args, key in several:
        numbers = kernel_constants(distribution, args).values()
        _dense_kernel(distribution, out.dtype)(address_of(out), 1, out.numel(), 0, 0, 0, 0, *key, *numbers)


@cache
def _dense_kernel(distribution: str, dtype: torch.dtype) -> Kernel:
    """Return the kernel for long rows on this machine."""
    processor = host()
    return fill_kernel(distribution, dtype, processor.lanes(32), processor)


def fill(draw: Draw) -> None:
    """Fill a draw's memory in the calling thread."""
    for task in prepare(draw).tasks(draw.key, draw.out):
        task.run()


def digest_tasks(tensor: Tensor, start: int, stride: int, processor: Processor | None = None) -> Iterator[Task]:
    """Cut the digest of a 2-D tensor into tasks that return their sums; they keep its memory alive."""
    processor = processor or host()
    size = tensor.element_size()
    kernel = digest_kernel(size, processor)
    for piece in pieces(rows_of(tensor, start, stride), size):
        yield Task(partial(_digest, kernel, piece, tensor), piece.number * piece.length)


def _fill(kernel: Kernel, piece: Rows, rest: tuple[float, ...], _memory: Tensor) -> int:
    kernel(*piece, *rest)
    return piece.number * piece.length


def _digest(kernel: Kernel, piece: Rows, _memory: Tensor) -> int:
    return kernel(*piece)


_engines: list[llvm.ExecutionEngine] = []
"""They own the machine code and live as long as the process."""


@cache
def fill_kernel(distribution: str, dtype: torch.dtype, width: int, processor: Processor) -> Kernel:
    """Return the compiled `fill_module`; it is compiled once."""
    with COMPILING:
        return _fill_kernel(distribution, str(dtype).removeprefix("torch."), width, processor)


@cache
def digest_kernel(size: int, processor: Processor) -> Kernel:
    """Return the compiled `digest_module`; it is compiled once."""
    with COMPILING:
        return _digest_kernel(size, processor)


@cache
def _fill_kernel(distribution: str, dtype: str, width: int, processor: Processor) -> Kernel:
    layout = f"={len(Rows._fields) + 1 + len(KEY)}Q{len(constant_names(distribution))}f"
    return _kernel(_compile(fill_module(distribution, dtype, width), processor), None, layout)


@cache
def _digest_kernel(size: int, processor: Processor) -> Kernel:
    module = digest_module(size, processor.lanes(64))
    return _kernel(_compile(module, processor), ctypes.c_uint64, f"={len(Rows._fields)}Q")


def _kernel(address: int, result: type[ctypes.c_uint64] | None, layout: str) -> Kernel:
    """Return a function that calls machine code with its arguments in one piece of memory."""
    code, packed = ctypes.CFUNCTYPE(result, ctypes.c_char_p)(address), struct.Struct(layout).pack

    def kernel(*given: float) -> int:
        return code(packed(*given))  # type: ignore[no-any-return]

    return kernel


def _compile(module: ir.Module, processor: Processor) -> int:
    """Compile a module for a processor; return the address of its function, which ctypes calls without the GIL.

    Raises:
        OSError: the system refuses memory that may be executed. LLVM would crash without asking.
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
