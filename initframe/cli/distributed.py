"""``torchrun --nproc-per-node 2 -m initframe.cli.distributed model=… init=…``: the reinit job, over processes."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initframe.checkpoint import replacing
from initframe.cli.chosen import chosen
from initframe.cli.folders import output_directory
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.reinit import FILES, HEED, WANTED, planned, write
from initframe.cli.screen import remind, say, unwarned, width
from initframe.cli.settings import settings
from initframe.deferred import materialize
from initframe.errors import InitframeError
from initframe.plan import Plan
from initframe.report import Report

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
            _shared(None)  # the others may go


def _lead(config: Any, device: str) -> None:
    """One job on rank 0: what the command line asks for, shared with all; then what only one process does."""
    job = {**settings(config, **WANTED), "recipe": chosen("init"), "folder": str(output_directory())}
    try:
        _tell(job, *_work(_shared(job), device))
    finally:
        shutil.rmtree(_parts(output_directory()), ignore_errors=True)


def _tell(job: Job, report: Report | None, plan: Plan) -> None:
    """Write and show what came of a job."""
    folder = Path(job["folder"])
    if report is None:
        say(f"{plan}\nA dry run: nothing was written.")
        return
    with replacing(*(folder / name for name in FILES)) as (tensors, *texts):
        (whole,) = _parts(folder).glob("*.safetensors")
        whole.replace(tensors)
        write(report, job["model"], *texts)
    say(report.render(width()))
    remind(plan, f"Recipe {plan.recipe.name}", HEED)
    say(f"Files in {os.path.relpath(folder)}: {', '.join(FILES)}")


def _follow(device: str) -> None:
    """Do what rank 0 says, job by job; what goes wrong in all processes alike, rank 0 tells."""
    while job := _shared(None):
        with suppress(InitframeError):
            _work(job, device)


def _work(job: Job, device: str) -> tuple[Report | None, Plan]:
    """What all processes do: plan, shard, fill their shards, save them into one file."""
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415  # slow to import

    import_plugins(job["plugins"])
    plan = planned(job, job["recipe"])
    if job["dry_run"]:
        return None, plan
    model: Any = plan.model
    fully_shard(model, mesh=init_device_mesh(device, (torch.distributed.get_world_size(),)))
    options = {"generator": job["generator"], "measure": True, "verify_replicas": True}
    with unwarned():
        report = materialize(model, plan, job["seed"], device, **options)
    _save(model, _parts(Path(job["folder"])))
    return report, plan


def _save(model: nn.Module, folder: Path) -> None:
    """Save all shards, and make one safetensors file of them."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict import get_model_state_dict  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_saver import save  # noqa: PLC0415

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True, enable_consolidation=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's checkpoints warn of themselves
        save(get_model_state_dict(model), storage_writer=writer)


def _parts(folder: Path) -> Path:
    """Where shards lie until they are one file."""
    return folder / ".parts"


def _shared(job: Job | None) -> Any:
    """What rank 0 has, everywhere."""
    box = [job]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def _processes() -> Iterator[tuple[int, str]]:
    """Connect to the others; gives this process's rank and the kind of device that shards lie on."""
    import torch.distributed as dist  # noqa: PLC0415

    if "RANK" not in os.environ:
        sys.exit("error: start it with torchrun --nproc-per-node N -m initframe.cli.distributed model=… init=….")
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
