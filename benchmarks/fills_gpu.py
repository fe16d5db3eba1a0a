"""How fast fills of a GPU's memory are: `python benchmarks/fills.py --gpu [--elements 67108864] [--seconds 1] [--dry]`.

First the bits of the CPU, then tensors, then models; it stops if a bit differs, or if applying a plan again waits for
the GPU. The table goes to benchmarks/results_gpu.md. --dry goes through the same steps without a GPU, with small
tensors: Triton's interpreter draws into the CPU's memory, and nothing is written.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import ARGS, KEY, Bench, Row, Timed, built, filler, loop, machine, row, rules, said, shown, table
from torch import Tensor, nn

import initframe
from initframe import stream

DTYPES = torch.float32, torch.bfloat16, torch.float16, torch.float64
LONG = 3_000_017
FORMS = [  # rows, length, pitch, start, stride, elements before
    (1, 1, 1, 0, 0, 0),
    (1, 0, 1, 0, 0, 0),
    (1, 4099, 4099, 0, 0, 0),
    (1, LONG, LONG, 4, 0, 0),
    (1, LONG, LONG, 3, 0, 1),
    (7, 5000, 5004, 8, 6000, 0),
    (7, 501, 503, (1 << 34) - 900, 803, 1),
    (3000, 5, 8, 9, 11, 0),
    (4, 9, 9, 5, (1 << 62) + 3, 0),
]


class Card(NamedTuple):
    """Where to draw, and how much: on a GPU, or on what stands in for one.

    Attributes:
        device: torch's name.
        name: the card's.
        wait: waits until it has done everything.
        served: within it, the device's memory is drawn into by the CUDA backend.
        forms: rows to compare with the CPU's.
        small: how many small tensors to compare.
        build: a model of torchvision's by its name.
        width: of the Llama.
        layers: of the Llama.
        queued: calls that it is given at a time: it works while the next one is prepared.
    """

    device: str
    name: str
    wait: Callable[[], None]
    served: Callable[[], AbstractContextManager[None]]
    forms: list[tuple[int, ...]]
    small: int
    build: Callable[[str], nn.Module]
    width: int
    layers: int
    queued: int


def gpu() -> Card:
    """The card at hand."""
    if stream.backend_of("cuda") != "triton":
        raise SystemExit("The CUDA backend cannot be used here; the notice above says why.")
    name = torch.cuda.get_device_name()
    return Card("cuda", name, torch.cuda.synchronize, nullcontext, FORMS, 5000, built, 4096, 32, 20)


def stand_in() -> Card:
    """The CPU's memory and Triton's interpreter, which is chosen before triton is loaded; a net for all models."""
    if "triton" in sys.modules:
        raise SystemExit("triton is loaded already, without its interpreter.")
    os.environ["TRITON_INTERPRET"] = "1"
    forms = [form for form in FORMS if form[0] * form[1] < 1000]

    def build(_: str) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 7))

    @contextmanager
    def served() -> Iterator[None]:
        execution = importlib.import_module("initframe.stream.execution")
        cuda = importlib.import_module("initframe.stream.cuda")
        before = execution.compiled, execution.launched
        execution.compiled, execution.launched = (lambda _: None), (lambda _: cuda)
        try:
            yield
        finally:
            execution.compiled, execution.launched = before

    return Card("cpu", "Triton's interpreter", lambda: None, served, forms, 20, build, 8, 1, 1)


def equality(card: Card) -> str:
    """Hold a GPU to the bits of the CPU: forms of memory, many tensors, a model. Stops if one differs."""
    forms = [(d, a, t, f) for d, a in ARGS.items() for t in DTYPES for f in card.forms]
    forms += [("bits", (), torch.int32, form) for form in card.forms]
    small = [("normal", (0.0, float(i)), DTYPES[i % 2], (1, i % 97, i % 97, i, 0, i % 3)) for i in range(card.small)]
    for what, cases in (("forms", forms), ("small tensors", small)):
        sides: list[list[Tensor]] = []
        for device, served in (("cpu", nullcontext), (card.device, card.served)):
            draws, wholes = zip(*(_draw(*case, device) for case in cases), strict=True)
            with served():
                stream.execute(draws)
            sides.append([whole.cpu().view(torch.uint8) for whole in wholes])
        for case, here, there in zip(cases, *sides, strict=True):
            if not torch.equal(here, there):
                raise SystemExit(f"NOT EQUAL, {what}: {case}")
    _equal_models(card)
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


def _equal_models(card: Card) -> None:
    """Compare a model's tensors, applied again with other seeds, on another stream, too; nothing may wait."""
    recipe = rules("trunc_normal")
    recipe["rules"]["norms"] = {"match": "*.weight", "where": "ndim == 1", "init": "ones"}
    one, other = card.build("resnet50"), card.build("resnet50").to(card.device)
    here, there = (initframe.resolve(recipe, model) for model in (one, other))
    card.wait()
    for seed in range(5):
        initframe.apply(here, seed)
        with card.served():
            if seed == 2 and card.device == "cuda":
                torch.cuda.set_sync_debug_mode("error")  # from here on, applying only draws
            beside = torch.cuda.Stream() if seed == 4 and card.device == "cuda" else None
            if beside:
                beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside) if beside else nullcontext():
                initframe.apply(there, seed)
            if beside:
                torch.cuda.current_stream().wait_stream(beside)
        if card.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        theirs = other.state_dict()
        drawn = [(name, tensor) for name, tensor in one.state_dict().items() if name.endswith(("weight", "bias"))]
        if wrong := [name for name, tensor in drawn if not torch.equal(tensor, theirs[name].cpu())]:
            raise SystemExit(f"NOT EQUAL, ResNet-50, seed {seed}: {wrong}")


def rows(bench: Bench, card: Card) -> Iterator[Row]:
    """A GPU's memory, against fill_ and torch's own; whole models, against loops."""
    yield from _tensors(bench, card)
    yield from _models(bench, card)


def _tensors(bench: Bench, card: Card) -> Iterator[Row]:
    x = torch.zeros(bench.elements, device=card.device)
    half = torch.zeros(bench.elements, device=card.device, dtype=torch.bfloat16)
    fill = lambda: x.fill_(1)  # noqa: E731
    own = {
        "uniform": lambda: x.uniform_(-0.1, 0.1),
        "normal": lambda: x.normal_(0, 0.02),
        "truncated_normal": lambda: nn.init.trunc_normal_(x, 0, 0.02, -0.04, 0.04),
    }
    for distribution, theirs in own.items():
        ours = filler(x, distribution)
        aim = None if distribution == "truncated_normal" else 0.7
        yield _queued(bench, card, distribution, ours, "fill_", fill, aim=aim)
        yield _queued(bench, card, distribution, ours, f"torch's {distribution}", theirs, aim=1)
    narrow = filler(half, "normal")
    yield _queued(bench, card, "normal, bfloat16", narrow, "fill_", lambda: half.fill_(1), aim=0.7)
    yield _queued(bench, card, "normal, bfloat16", narrow, "torch's normal", lambda: half.normal_(0, 0.02), aim=1)
    yield _queued(bench, card, "normal, not aligned", filler(x[1:], "normal"), "fill_", fill)
    window = x[: bench.elements // 128 * 128].view(-1, 128)[:, :100]  # short rows: a program fills several
    drawn = stream.Prepared([stream.Draw(window, "normal", ARGS["normal"], KEY, 0, 128)])
    yield _queued(bench, card, "normal, rows of 100", drawn.execute, "fill_", lambda: window.fill_(1))
    some = [torch.empty(64, device=card.device) for _ in range(100)]

    def together() -> None:
        torch._foreach_zero_(some)
        torch._foreach_add_(some, 1)

    zeros = lambda: [one.zero_() for one in some]  # noqa: E731
    ones = lambda: [one.fill_(1) for one in some]  # noqa: E731
    yield _queued(bench, card, "100 zeros", lambda: torch._foreach_zero_(some), "zero_ one by one", zeros, aim=1)
    yield _queued(bench, card, "100 ones", together, "fill_ one by one", ones, aim=1)


def _models(bench: Bench, card: Card) -> Iterator[Row]:
    for name in ("alexnet", "resnet50"):
        model = card.build(name).to(card.device)
        plan = initframe.resolve(rules("xavier_uniform"), model)
        theirs = lambda model=model: loop(model, nn.init.xavier_uniform_)  # noqa: E731
        ours = lambda plan=plan: initframe.apply(plan)  # noqa: E731
        yield _queued(bench, card, f"{name}, apply", ours, "loop of nn.init", theirs, aim=2)
        prepared = _prepared([p for p in model.parameters() if p.ndim > 1], "uniform")
        yield _queued(bench, card, f"{name}, draws alone", prepared, "loop of nn.init", theirs, aim=2)
    llama = llama_8b(card)
    theirs = lambda: [weight.fill_(1) for weight in llama.values()]  # noqa: E731
    plan = initframe.resolve({"rules": {"*": {"init": "normal", "std": 0.02}}}, llama)
    for what, ours in (
        ("draws alone", _prepared(list(llama.values()), "normal")),
        ("apply", lambda: initframe.apply(plan)),
    ):
        once = card._replace(queued=1)
        yield _queued(bench, once, f"Llama 8B's shape, bfloat16, {what}", ours, "fill_", theirs, aim=0.7)


def _prepared(tensors: list[Tensor], distribution: str) -> Timed:
    """Draw into tensors, by a table that is built once."""
    args = ARGS[distribution]
    prepared = stream.Prepared(
        stream.Draw(tensor.detach().view(1, -1), distribution, args, stream.key(str(i), 0))
        for i, tensor in enumerate(tensors)
    )
    return prepared.execute


def _queued(
    bench: Bench, card: Card, what: str, ours: Timed, peer: str, theirs: Timed, *, aim: float | None = None
) -> Row:
    """Time both sides, many calls at a time, and what they wait for."""

    def queued(function: Timed) -> Timed:
        def run() -> None:
            for _ in range(card.queued):
                function()
            card.wait()

        return run

    for _ in range(3):  # compiled, and prepared, before it is timed
        ours()
    timed = row(bench, what, queued(ours), peer, queued(theirs), aim)
    return timed._replace(ours=timed.ours / card.queued, theirs=timed.theirs / card.queued)


def llama_8b(card: Card) -> dict[str, Tensor]:
    """The tensors of a Llama 3 8B, in bfloat16, without their values."""
    width, wider, narrow, words = card.width, card.width * 7 // 2, card.width // 4, card.width * 501 // 16
    shapes: dict[str, tuple[int, ...]] = {"embed": (words, width), "head": (words, width), "norm": (width,)}
    for i in range(card.layers):
        sizes = {"q": (width, width), "k": (narrow, width), "v": (narrow, width), "o": (width, width)}
        sizes |= {"gate": (wider, width), "up": (wider, width), "down": (width, wider)}
        sizes |= {"norm1": (width,), "norm2": (width,)}
        shapes |= {f"layers.{i}.{name}": shape for name, shape in sizes.items()}
    return {name: torch.empty(shape, dtype=torch.bfloat16, device=card.device) for name, shape in shapes.items()}


def run(elements: int, seconds: float, *, dry: bool) -> None:
    """Compare, measure and write.

    Args:
        elements: of the tensors that are measured one by one.
        seconds: time for each side of a ratio.
        dry: whether to go through the steps without a GPU.
    """
    if not dry and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. `--gpu --dry` tries the steps without one.")
    card = stand_in() if dry else gpu()
    bench = Bench(elements, 1, seconds, time.perf_counter) if not dry else Bench(512, 1, 0, time.perf_counter, turn=0)
    where = machine()
    equal = equality(card)
    with card.served():
        measured = shown(rows(bench, card), said)
    text = f"""# Fills: figures of one run of `{" ".join(["python benchmarks/fills.py", *sys.argv[1:]])}`

{where}; torch {torch.__version__}; {card.name}.

{equal}

{table(measured)}
"""
    if not dry:
        Path(__file__).with_name("results_gpu.md").write_text(text, encoding="utf-8")
    print(text)
