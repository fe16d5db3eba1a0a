"""``torchrun --nproc-per-node 2 -m initframe.cli.torchrun model=… init=…``: the reinit job, over processes."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from initframe.applying.processes import save_sharded, shard, together
from initframe.cli.console import unwarned
from initframe.cli.folders import run_set
from initframe.cli.groups import chosen
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.reinit import RUN, WANTED, files, planned, tell_plan, tell_report, write
from initframe.cli.settings import settings
from initframe.construction.deferred import materialize
from initframe.errors import InitframeError, Problem
from initframe.plan import Plan
from initframe.plan.manifest import manifest
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


def _lead(config: Any, device: str) -> float:
    """Do one job on rank 0: share what the command line asks for, then do what only one process does."""
    if not torch.distributed.is_initialized():
        fix = "Leave out hydra/launcher; jobs of a multirun then run one after the other, each in all processes."
        raise InitframeError(Problem("hydra.launcher", "it starts processes that torchrun does not know.", fix=fix))
    job = {**settings(config, **WANTED), "recipe": chosen("init")}
    if job["dry_run"]:
        tell_plan(_work(_tell(job), device)[1])
        return 0.0
    names = files(job)
    with run_set(config, names) as drafts:
        report, _ = _work(_tell(job), device, drafts)
    if report is not None:
        tell_report(report, names)
    return 0.0


def _follow(device: str) -> None:
    """Do what rank 0 says, job by job; rank 0 reports what goes wrong."""
    while job := _told():
        with suppress(InitframeError):
            _work(job, device)


def _work(job: Job, device: str, drafts: Mapping[str, Path] | None = None) -> tuple[Report | None, Plan]:
    """Do the share of every process: plan, shard, fill, and bring the shards together in one file on rank 0."""
    plan = together(lambda: _planned(job))
    if job["dry_run"]:
        return None, plan
    model: Any = plan.model
    together(lambda: shard(model, device))
    options = {"generator": job["generator"], "measure": True, "verify_replicas": True}
    with unwarned():
        report = materialize(model, plan, job["seed"], device, **options)
    record = manifest(report)
    save_sharded(model, drafts["model.safetensors"] if drafts else None, {RUN: record[RUN]})
    if drafts:
        write(report, record, job, drafts)
    return report, plan


def _planned(job: Job) -> Plan:
    """Lay the recipe over the model, which every process builds."""
    import_plugins(job["plugins"])
    return planned(job, job["recipe"])


_LETTERS = itertools.count()
"""Numbers the jobs that rank 0 has sent and that another process has received."""


def _tell(job: Job | None) -> Any:
    """Send the next job to all other processes.

    It goes through the store: after a failure in one process, a collective would wait for processes that are in another
    one. This way rank 0 says what happened and ends, and torchrun then ends the rest.
    """
    import yaml  # noqa: PLC0415

    _store().set(f"initframe/{next(_LETTERS)}", yaml.safe_dump(job, sort_keys=False))
    return job


def _told() -> Any:
    """Receive the next job; ``None`` if there is none."""
    import yaml  # noqa: PLC0415

    return yaml.safe_load(_store().get(f"initframe/{next(_LETTERS)}"))


def _store() -> Any:
    """Return the store through which the processes found each other."""
    from torch.distributed.distributed_c10d import _get_default_store  # noqa: PLC0415

    return _get_default_store()


@contextmanager
def _processes() -> Iterator[tuple[int, str]]:
    """Connect to the other processes; gives this one's rank and the kind of device for its shards."""
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


def start() -> None:
    """Run as a script, and end without taking the interpreter down: gloo's threads may still hold a tensor."""
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    start()
