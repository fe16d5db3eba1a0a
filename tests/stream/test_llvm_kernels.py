"""The code itself, also for processors that are not at hand: nothing is fused, nothing is called."""

import re

import llvmlite.binding as llvm
import pytest

from initframe.stream.llvm_kernels import digest_module, fill_module

TARGETS = [
    ("x86_64-unknown-linux-gnu", "x86-64"),
    ("x86_64-unknown-linux-gnu", "x86-64-v3"),
    ("x86_64-unknown-linux-gnu", "x86-64-v4"),
    ("aarch64-unknown-linux-gnu", "neoverse-v1"),
    ("arm64-apple-macosx", "apple-m1"),
]


@pytest.fixture(params=TARGETS, ids=" ".join)
def assembly(request):
    """Compile a module for a target; gives its assembly."""
    triple, name = request.param
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, opt=3)

    def compiled(module):
        parsed = llvm.parse_assembly(str(module))
        parsed.triple, parsed.data_layout = triple, str(machine.target_data)
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(parsed, passes)
        return machine.emit_assembly(parsed)

    return compiled


@pytest.mark.parametrize(("distribution", "dtype"), [("normal", "float16"), ("truncated_normal", "float32")])
def test_fills_round_every_operation_by_themselves(assembly, distribution, dtype):
    code = assembly(fill_module(distribution, dtype, 16))
    assert re.search(r"\bv?mulps|\bfmul\b", code)
    assert not re.findall(r"\bvfn?m(?:add|sub)\w*|\bfn?m(?:add|sub|la|ls)\b", code)
    assert len(calls(code)) == 1  # the entry calls the body, and nobody a library


def test_what_is_written_past_the_caches_is_fenced(assembly):
    """Another thread may read it when the kernel has returned."""
    code = assembly(fill_module("uniform", "float32", 16))
    assert re.search(r"\bv?movnt\w+|\bstnp\b", code)
    assert re.search(r"\b[ms]fence\b|\block\s+or|\bdmb\b", code)


def test_digests_call_no_library(assembly):
    assert not calls(assembly(digest_module(2, 8)))  # the entry jumps to the body


def calls(code):
    return re.findall(r"^\s+(?:callq?|bl|blr)\s.*", code, re.MULTILINE)
