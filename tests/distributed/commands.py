"""The command line in every process of a world."""

import contextlib
import errno
import io
from unittest import mock

import torch
from torch import nn

from initframe import models


def the_command_tells_mistakes_once(rank, folder):
    """Rank 0 says what is wrong, the others follow it out of the door; nothing is left behind."""
    for mistake in ("init=xavier_rule", "+init.rules.nowhere={match: nothing, init: zeros}", "seed=-1"):
        code, said = run_command(rank, folder / "run", "model=torchvision", "model.name=squeezenet1_1", mistake)
        assert (code, bool(said)) == ((1, True) if rank == 0 else (None, False))
        assert said.count("error: ") <= 1
    assert not list((folder / "run").glob("*.*s*"))  # model.safetensors, manifest.json


class Awkward(nn.Module):
    """What fully_shard does not cut, or would mix with what it does."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 4)
        self.norm = nn.BatchNorm1d(4)
        self.half = nn.Linear(4, 4).half()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.spectral = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.logit_scale = nn.Parameter(torch.tensor(2.5))
        self.counts = nn.Parameter(torch.arange(4), requires_grad=False)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.tokens.weight
        self.shared = nn.Linear(4, 4)
        self.shared.bias = nn.Parameter(self.frozen.bias.data)
        self.tiny = nn.Parameter(torch.ones(4).to(torch.float8_e4m3fn), requires_grad=False)
        self.short = nn.Parameter(torch.ones(4, dtype=torch.uint16), requires_grad=False)
        self.register_buffer("phase", torch.tensor([1 + 2j, 3j]).conj())
        self.register_buffer("mask", torch.ones(3, 3, dtype=torch.bool).tril())
        self.register_buffer("empty", torch.zeros(0, 3))


class Container(nn.ModuleList):
    """A root without a forward pass."""

    def __init__(self):
        super().__init__([nn.Linear(4, 5), nn.utils.parametrizations.orthogonal(nn.Linear(6, 5))])


def the_command_serves_what_one_process_serves(rank, folder):
    """The files are those of the job in one process, to the bit, for models of every kind."""
    from initframe.cli import reinit as alone

    for kind in (Awkward, Container):
        models.model(kind.__name__)(kind)
        job = ("model=alexnet", "model.source=plugin", f"model.name={kind.__name__}")
        place, expected = folder / kind.__name__, folder / f"{kind.__name__}-alone"
        code, said = run_command(rank, place, *job)
        assert (code, said) == (None, "")
        if rank == 0:
            with mock.patch("sys.argv", ["reinit.py", *job, f"hydra.run.dir={expected}"]):
                alone.main()
            for file in ("model.safetensors", "plan.txt", "manifest.json"):
                assert (place / file).read_bytes() == (expected / file).read_bytes(), file


def the_command_tells_a_full_disk(rank, folder):
    """Who writes learns it before the numbers are gathered, the others do not wait, and nothing is left."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch("os.posix_fallocate", side_effect=full):
        code, said = run_command(rank, folder / "full", "model=torchvision", "model.name=squeezenet1_1")
    assert code == (1 if rank == 0 else None)
    assert ("No space left on device" in said) == (rank == 0)
    assert not list((folder / "full").glob("*.safetensors"))


def run_command(rank, place, *arguments):
    """The command in these processes; torchrun's own are started by tests/cli."""
    from initframe.cli import torchrun

    argv = ["torchrun.py", *arguments, f"hydra.run.dir={place}"]
    errors, code = io.StringIO(), None
    with (
        mock.patch.object(torchrun, "_processes", return_value=contextlib.nullcontext((rank, "cpu"))),
        mock.patch("sys.argv", argv),
        contextlib.redirect_stderr(errors),
    ):
        try:
            torchrun.main()
        except SystemExit as left:
            code = left.code
    return code, errors.getvalue()
