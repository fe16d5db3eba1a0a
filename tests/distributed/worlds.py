"""Worlds: processes that gloo connects, each of which runs the same checks one after the other."""

import datetime
import multiprocessing
import traceback
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing


def run(checks, size, folder):
    """Run every check in every process of a world; the first that fails ends it.

    Args:
        checks: functions of a module, called in order with (rank, folder).
        size: the number of processes.
        folder: an empty one, shared by all.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.distributed.warm"])
    context = torch.multiprocessing.start_processes(
        _work, (checks, size, folder), nprocs=size, join=False, start_method="forkserver"
    )
    while not context.join(timeout=120):
        pass


def _work(rank, checks, size, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # as pytest does
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=60))
    for check in checks:
        try:
            check(rank, folder)
        except (Exception, pytest.fail.Exception) as error:
            raise AssertionError(f"{check.__name__} on rank {rank} of {size}:\n{traceback.format_exc()}") from error
    dist.barrier()
    dist.destroy_process_group()
