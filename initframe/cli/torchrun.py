"""``torchrun --nproc-per-node 2 -m initframe.cli.torchrun model=… init=…``: the reinit job, over processes."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initframe.cli.chosen import chosen
from initframe.cli.console import remind, say, unwarned, width
from initframe.cli.folders import output_directory
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.reinit import FILES, HEED, WANTED, planned, write
from initframe.cli.settings import settings
from initframe.construction.deferred import materialize
from initframe.errors import InitframeError
from initframe.files.atomic import replacing
from initframe.files.safetensors import begin, held_by, pour
from initframe.model.memory import footprint
from initframe.model.obstacles import FILLABLE
from initframe.plan import Plan
from initframe.plan.report import Report

Job = Mapping[str, Any]


def main() -> None:
    """Run in all processes that torchrun starts: rank 0 reads the command line, reports and writes, others follow."""
    with _processes() as (rank, device):
        if rank:
            _follow(device)
            return
        try:
            hydra_job("reinit", lambda config: _lead(config, device))
        finally:
            _tell(None)  # the others may go


def _lead(config: Any, device: str) -> None:
    """One job on rank 0: what the command line asks for, shared with all; then what only one process does."""
    job = {**settings(config, **WANTED), "recipe": chosen("init")}
    folder = output_directory()
    places = [] if job["dry_run"] else [folder / name for name in FILES]
    with replacing(*places) as drafts:
        report, plan = _work(_tell(job), device, *drafts[:1])
        if report is not None:
            write(report, job["model"], *drafts[1:])
    if report is None:
        say(f"{plan}\nA dry run: nothing was written.")
    else:
        say(report.render(width()))
        remind(plan, f"Recipe {plan.recipe.name}", HEED)
        say(f"Files in {os.path.relpath(folder)}: {', '.join(FILES)}")


def _follow(device: str) -> None:
    """Do what rank 0 says, job by job; what goes wrong, rank 0 tells."""
    while job := _told():
        with suppress(InitframeError):
            _work(job, device)


def _work(job: Job, device: str, draft: Path | None = None) -> tuple[Report | None, Plan]:
    """What all processes do: plan, shard, fill their shards, bring them together in one file, which one of them has."""
    plan: Plan = _together(lambda: _planned(job))
    if job["dry_run"]:
        return None, plan
    model: Any = plan.model
    _together(lambda: _shard(model, device))
    options = {"generator": job["generator"], "measure": True, "verify_replicas": True}
    with unwarned():
        report = materialize(model, plan, job["seed"], device, **options)
    held = _together(lambda: held_by(model))
    start: int = _together(lambda: begin(draft, held) if draft else 0)
    pour(held, draft, start)
    return report, plan


def _planned(job: Job) -> Plan:
    """The recipe laid over the model, which every process builds."""
    import_plugins(job["plugins"])
    return planned(job, job["recipe"])


def _shard(model: nn.Module, device: str) -> None:
    """Spread a model over all processes; what fully_shard does not cut stays whole in each."""
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    _tie(model)
    uncut = {p for p in model.parameters() if not p.ndim or not p.is_contiguous() or p.dtype not in FILLABLE}
    root = nn.Sequential(model)  # of which it may change the class: containers it does not take
    try:
        fully_shard(root, mesh=mesh, ignored_params=uncut)
    except Exception as error:
        fix = "Fill it in one process: python scripts/reinit.py."
        raise InitframeError(f"fully_shard does not take {type(model).__name__}: {error}. {fix}") from error


def _tie(model: nn.Module) -> None:
    """Make one parameter of those that share their memory, which fully_shard would cut one by one."""
    known: dict[Any, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001
            if parameter is not None:
                module._parameters[name] = known.setdefault(footprint(parameter), parameter)  # noqa: SLF001


def _together(step: Callable[[], Any]) -> Any:
    """Take a step in all processes, and go on where all could: the others would wait for one that could not."""
    import torch.distributed as dist  # noqa: PLC0415

    done, failure = None, None
    try:
        done = step()
    except Exception as error:  # noqa: BLE001  # whatever it is, all are told, and rank 0 raises it
        failure = error
    problems: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, failure and f"{type(failure).__name__}: {failure}")
    if failure is not None and dist.get_rank() == 0:
        raise failure
    if any(problems):
        raise InitframeError(*(f"rank {rank}: {problem}" for rank, problem in enumerate(problems) if problem))
    return done


_LETTERS = itertools.count()
"""What rank 0 has told, and another process has been told; in both one after the other."""


def _tell(job: Job | None) -> Any:
    """Let all others know the next job.

    They look for it in the store: a collective would wait for a process that is in another one, after a failure in one
    of them; this lets rank 0 say what happened and end, whereupon torchrun ends the rest.
    """
    import yaml  # noqa: PLC0415

    _store().set(f"initframe/{next(_LETTERS)}", yaml.safe_dump(job, sort_keys=False))
    return job


def _told() -> Any:
    """The next job; ``None`` where there is none."""
    import yaml  # noqa: PLC0415

    return yaml.safe_load(_store().get(f"initframe/{next(_LETTERS)}"))


def _store() -> Any:
    """Where the processes met."""
    from torch.distributed.distributed_c10d import _get_default_store  # noqa: PLC0415

    return _get_default_store()


@contextmanager
def _processes() -> Iterator[tuple[int, str]]:
    """Connect to the others; gives this process's rank and the kind of device that shards lie on."""
    if "RANK" not in os.environ:
        sys.exit("error: start it with torchrun --nproc-per-node N -m initframe.cli.torchrun model=… init=….")
    import torch.distributed as dist  # noqa: PLC0415

    if "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it to 1 for more than one process
        torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield dist.get_rank(), device
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may still hold a tensor; an interpreter that takes itself down under them aborts
