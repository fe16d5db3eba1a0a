"""Fills → draws: what a fill asks of the stream for a piece of memory, and what is done after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from initframe import stream
from initframe.applying.regions import Region
from initframe.errors import ResolveError
from initframe.fills import Blocks, Constant, Draw, Elementwise, Fill, Keep, Masked, OnCurrent, Scattered, Whole

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """A fill for a piece of memory.

    Attributes:
        fill: what the whole tensor will hold.
        out: the memory, of the region's local shape.
        region: the part of the whole tensor that the memory is.
        name: the whole tensor's name, which addresses the stream.
    """

    fill: Fill
    out: Tensor
    region: Region
    name: str


def paint(jobs: Iterable[Job], seed: int, on_progress: Progress = lambda _: None) -> None:
    """Fill the memory of all jobs; their draws run together.

    Args:
        jobs: fills that were checked (:mod:`initframe.resolver.validate`).
        seed: of the stream.
        on_progress: told how many elements were filled since it was last told.
    """
    work = _Work(seed)
    for job in jobs:
        _ask(job, work)
    work.run(on_progress)


@dataclass
class _Work:
    """What a batch of jobs asks for: draws, which run together, and what is done after them, in order.

    ``undrawn`` counts the elements that the stream does not tell of.
    """

    seed: int
    draws: list[stream.Draw] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)
    undrawn: int = 0

    def draw(self, law: str, args: Sequence[float], job: Job, purpose: str = "") -> None:
        """Ask for a law at every element of a job's memory."""
        key = stream.key(job.name, self.seed, purpose)
        try:
            rows = list(job.region.rows(job.out))
        except RuntimeError:  # a layout that is no row of numbers: drawn beside it, then copied
            beside = torch.empty(job.region.local_shape, dtype=job.out.dtype, device=job.out.device)
            rows = list(job.region.rows(beside))
            self.after.append(lambda: job.out.copy_(beside))
        self.draws += [stream.Draw(out, law, tuple(args), key, start, stride) for out, start, stride in rows]

    def run(self, on_progress: Progress) -> None:
        """Draw, then do what comes after."""
        stream.execute(self.draws, on_progress)
        for step in self.after:
            step()
        if self.undrawn:
            on_progress(self.undrawn)


def _ask(job: Job, work: _Work) -> None:
    """Turn one fill into draws and steps after them."""
    fill, out, region = job.fill, job.out, job.region
    if not out.numel():
        return
    if fill.law:
        work.draw(fill.law, fill.args, job)
        return
    if not isinstance(fill, Elementwise | Blocks | Masked):
        work.undrawn += out.numel()
    match fill:
        case Keep():
            pass
        case Constant(value):
            out.fill_(value)
        case Elementwise(fn):
            uniforms = _beside(job)
            work.draw("uniform", (0.0, 1.0), uniforms)
            work.after.append(lambda: out.copy_(fn(uniforms.out)))
        case OnCurrent():
            work.after.append(lambda: _on_current(fill, job, work.seed))
        case Whole():
            _write_whole(fill, job, work.seed)
        case Blocks(fills, sizes, dim):
            start = region.extent[dim][0]
            for part, size in zip(fills, sizes, strict=True):
                block, here = region.block(dim, start, start + size)
                _ask(Job(part, out[(slice(None),) * dim + (here,)], block, job.name), work)
                start += size
        case Masked(inner, index=index, value=value):
            _ask(Job(inner, out, region, job.name), work)
            position = region.position(index)
            if position is not None:
                work.after.append(lambda: out[position].fill_(value))
        case _:
            raise ResolveError(f"{type(fill).__name__} is no fill that apply knows. Build it from initframe's fills.")


def _beside(job: Job) -> Job:
    """The job again, on float32 memory of its own."""
    out = torch.empty(job.region.local_shape, dtype=torch.float32, device=job.out.device)
    return Job(job.fill, out, job.region, job.name)


def _source(job: Job, seed: int) -> Draw:
    """What a whole fill draws from: elements of its own, or of a tensor of another shape or name."""

    def draw(
        law: str,
        args: Sequence[float],
        purpose: str = "",
        *,
        name: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        region = job.region.everything() if shape is None else Region.whole(shape)
        if shape is not None and name is None and job.region.first:
            purpose = f"{purpose} {job.region.first}"  # blocks of one tensor draw apart
        return _drawn(law, args, purpose, Job(job.fill, job.out, region, job.name if name is None else name), seed)

    return draw


def _drawn(law: str, args: Sequence[float], purpose: str, job: Job, seed: int) -> Tensor:
    """A law over the whole region of a job, now."""
    dtype = torch.int32 if law == "bits" else torch.float32
    out = torch.empty(job.region.local_shape, dtype=dtype, device=job.out.device)
    work = _Work(seed)
    work.draw(law, args, Job(job.fill, out, job.region, job.name), purpose)
    work.run(lambda _: None)
    return out


def _write_whole(fill: Whole, job: Job, seed: int) -> None:
    """Write what is held of a whole fill; where most of it is zero, no tensor of its size is made for that."""
    draw = _source(job, seed)
    if not isinstance(fill, Scattered):
        job.out.copy_(job.region.pick(fill.build(draw).to(job.out.device)))
        return
    job.out.zero_()
    if held := job.region.pick_at(*fill.elements(draw)):
        index, values = held
        job.out[index] = values.to(job.out)


def _on_current(fill: OnCurrent, job: Job, seed: int) -> None:
    """New values from current ones, in float32 or wider, rounded once."""
    wide = job.out.to(torch.promote_types(job.out.dtype, torch.float32))
    job.out.copy_(fill.apply(wide, lambda: _drawn("normal", (0.0, 1.0), "perturb", job, seed)))
