"""How fast fills of a GPU's memory are: equality with the CPU's bits first, then tensors, then models.

    python benchmarks/fills_gpu.py [--elements 67108864] [--seconds 1]

It measures as benchmarks/fills.py does, and stops where a bit differs. The table goes to benchmarks/results_gpu.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from fills import ARGS, KEY, Bench, Row, Timed, built, filler, loop, machine, row, rules, said, shown, table
from torch import Tensor, nn

import initframe
from initframe import stream

DEVICE = "cuda"
QUEUED = 20
"""Calls that a GPU is given at a time: it works while the next one is prepared."""
FORMS = [  # rows, length, pitch, start, stride, elements before
    (1, 1, 1, 0, 0, 0),
    (1, 0, 1, 0, 0, 0),
    (1, 4099, 4099, 0, 0, 0),
    (1, 3_000_017, 3_000_017, 4, 0, 0),
    (1, 3_000_017, 3_000_017, 3, 0, 1),
    (7, 5000, 5004, 8, 6000, 0),
    (7, 501, 503, (1 << 34) - 900, 803, 1),
    (3000, 5, 8, 9, 11, 0),
    (4, 9, 9, 5, (1 << 62) + 3, 0),
]


def equality() -> str:
    """Hold a GPU to the bits of the CPU: forms of memory, thousands of tensors, a model. Stops where one differs."""
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
    forms = [(d, a, t, f) for d, a in ARGS.items() for t in dtypes for f in FORMS]
    forms += [("bits", (), torch.int32, form) for form in FORMS]
    small = [("normal", (0.0, float(i)), dtypes[i % 2], (1, i % 97, i % 97, i, 0, i % 3)) for i in range(5000)]
    for what, cases in (("forms", forms), ("small tensors", small)):
        sides: list[list[Tensor]] = []
        for device in ("cpu", DEVICE):
            draws, wholes = zip(*(_draw(*case, device) for case in cases), strict=True)
            stream.execute(draws)
            sides.append([whole.cpu().view(torch.uint8) for whole in wholes])
        for case, here, there in zip(cases, *sides, strict=True):
            if not torch.equal(here, there):
                raise SystemExit(f"NOT EQUAL, {what}: {case}")
    one, other = built("resnet50"), built("resnet50").to(DEVICE)
    for model in (one, other):
        initframe.reinit(model, rules("trunc_normal"), seed=3)
    ours, theirs = one.state_dict(), other.state_dict()
    names = [name for name in ours if name.endswith(("weight", "bias")) and ours[name].ndim > 1]
    if not all(torch.equal(ours[name], theirs[name].cpu()) for name in names):
        raise SystemExit("NOT EQUAL: ResNet-50")
    equal = f"Equality: {len(forms)} forms, {len(small)} small tensors and a ResNet-50 have the bits of the CPU."
    print(equal, flush=True)
    return equal


def _draw(
    distribution: str, args: tuple[float, ...], dtype: torch.dtype, form: tuple[int, ...], device: str
) -> tuple[stream.Draw, Tensor]:
    """Prepare a draw into a part of some memory, which is returned, too: what is around it must stay."""
    rows, length, pitch, start, stride, before = form
    whole = torch.full((rows * pitch + before + 4,), 77, dtype=dtype, device=device)
    out = whole[before:].as_strided((rows, length), (pitch, 1))
    return stream.Draw(out, distribution, args, KEY, start, stride), whole


def rows(bench: Bench) -> Iterator[Row]:
    """CUDA memory, against fill_ and torch's own; whole models, against loops."""
    x = torch.zeros(bench.elements, device=DEVICE)
    half = torch.zeros(bench.elements, device=DEVICE, dtype=torch.bfloat16)
    fill = lambda: x.fill_(1)  # noqa: E731
    own = {
        "uniform": lambda: x.uniform_(-0.1, 0.1),
        "normal": lambda: x.normal_(0, 0.02),
        "truncated_normal": lambda: nn.init.trunc_normal_(x, 0, 0.02, -0.04, 0.04),
    }
    for distribution, theirs in own.items():
        ours = filler(x, distribution)
        yield _queued(bench, distribution, ours, "fill_", fill, None if distribution == "truncated_normal" else 0.7)
        yield _queued(bench, distribution, ours, f"torch's {distribution}", theirs, 1)
    narrow = filler(half, "normal")
    yield _queued(bench, "normal, bfloat16", narrow, "fill_", lambda: half.fill_(1), 0.7)
    yield _queued(bench, "normal, bfloat16", narrow, "torch's normal", lambda: half.normal_(0, 0.02), 1)
    unaligned = filler(x[1:], "normal")
    yield _queued(bench, "normal, not aligned", unaligned, "fill_", fill)
    for name in ("alexnet", "resnet50"):
        model = built(name).to(DEVICE)
        plan = initframe.resolve(rules("xavier_uniform"), model)
        theirs = lambda model=model: loop(model, nn.init.xavier_uniform_)  # noqa: E731
        yield _queued(bench, f"{name}, apply", lambda plan=plan: initframe.apply(plan), "loop of nn.init", theirs, 2)
        prepared = _prepared([p for p in model.parameters() if p.ndim > 1], "uniform")
        yield _queued(bench, f"{name}, draws alone", prepared, "loop of nn.init", theirs, 2)
    zeros = [torch.empty(64, device=DEVICE) for _ in range(100)]
    theirs = lambda: [zero.zero_() for zero in zeros]  # noqa: E731
    yield _queued(bench, "100 biases, _foreach_zero_", lambda: torch._foreach_zero_(zeros), "zero_ one by one", theirs)
    llama = llama_8b()
    theirs = lambda: [weight.fill_(1) for weight in llama.values()]  # noqa: E731
    plan = initframe.resolve({"rules": {"*": {"init": "normal", "std": 0.02}}}, llama)
    for what, ours in (
        ("draws alone", _prepared(list(llama.values()), "normal")),
        ("apply", lambda: initframe.apply(plan)),
    ):
        yield _queued(bench, f"Llama 8B's shape, bfloat16, {what}", ours, "fill_", theirs, 0.7, calls=1)


def _prepared(tensors: list[Tensor], distribution: str) -> Timed:
    """Draw into tensors, by a table that is built once."""
    args = ARGS[distribution]
    prepared = stream.Prepared(
        stream.Draw(tensor.detach().view(1, -1), distribution, args, stream.key(str(i), 0))
        for i, tensor in enumerate(tensors)
    )
    return prepared.execute


def _queued(
    bench: Bench, what: str, ours: Timed, peer: str, theirs: Timed, aim: float | None = None, *, calls: int = QUEUED
) -> Row:
    """Time both sides, many calls at a time, and what they wait for."""

    def queued(function: Timed) -> Timed:
        def run() -> None:
            for _ in range(calls):
                function()
            torch.cuda.synchronize()

        return run

    ours()  # compiled before it is timed
    timed = row(bench, what, queued(ours), peer, queued(theirs), aim)
    return timed._replace(ours=timed.ours / calls, theirs=timed.theirs / calls)


def llama_8b() -> dict[str, Tensor]:
    """The tensors of a Llama 3 8B, in bfloat16, without their values."""
    shapes: dict[str, tuple[int, ...]] = {"embed": (128_256, 4096), "head": (128_256, 4096), "norm": (4096,)}
    for i in range(32):
        sizes = {"q": (4096, 4096), "k": (1024, 4096), "v": (1024, 4096), "o": (4096, 4096), "gate": (14_336, 4096)}
        sizes |= {"up": (14_336, 4096), "down": (4096, 14_336), "norm1": (4096,), "norm2": (4096,)}
        shapes |= {f"layers.{i}.{name}": shape for name, shape in sizes.items()}
    return {name: torch.empty(shape, dtype=torch.bfloat16, device=DEVICE) for name, shape in shapes.items()}


def main() -> None:
    """Compare, measure and write."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--elements", type=int, default=1 << 26)
    options.add_argument("--seconds", type=float, default=1.0, help="time for each side of a ratio")
    given = options.parse_args()
    bench, where = Bench(given.elements, 1, given.seconds, time.perf_counter), machine()
    equal, measured = equality(), shown(rows(bench), said)
    text = f"""# Fills: figures of one run of `{" ".join(["python benchmarks/fills_gpu.py", *sys.argv[1:]])}`

{where}; torch {torch.__version__}; {torch.cuda.get_device_name()}, by {stream.backend_of(DEVICE)}.

{equal}

{table(measured)}
"""
    Path(__file__).with_name("results_gpu.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
