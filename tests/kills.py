"""Kill writers between every two system calls that change a file, and look at what they leave.

``python -m tests.kills --count 300`` kills at every such call of every scenario, then at random moments until the
count is reached. A writer is a fork of this process, so that none has to import torch again. A kill comes right before
a call: of open for writing, chmod, fsync, fallocate, rename, unlink, mkdir.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from torch import nn

import initframe
from initframe import SourceError, models
from initframe.cli import folders, reinit
from initframe.files.atomic import replacing
from initframe.files.safetensors import save_tensors
from initframe.files.shards import open_checkpoint

EVENTS = {"os.rename", "os.remove", "os.chmod", "os.mkdir", "os.truncate", "os.rmdir"}
"""Python's audit events of calls that change a file; open is one if it writes."""
WRAPPED = ("fsync", "posix_fallocate")
"""Calls that change what is on the disk and have no audit event."""
NEVER = 10**9
WIDTH = 24
COMMAND = "the command, over a run"

Action = Callable[[], object]


class Outcome(NamedTuple):
    """How a writer ended: by what signal, with what exit code, after how many calls and seconds."""

    signal: int
    code: int
    calls: int
    seconds: float = 0.0


def forked(action: Action, point: int = NEVER, after: float | None = None) -> Outcome:
    """Run an action in a fork that kills itself before a call, or that is killed after some seconds."""
    read, write = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            _silent()
            count = _killed_at(point)
            action()
            os.write(write, str(count[0]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(read) as pipe:
        calls = int(pipe.read() or 0)
    status = os.waitpid(child, 0)[1]
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return Outcome(number, os.waitstatus_to_exitcode(status), calls, time.monotonic() - began)


def _silent() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends


def _killed_at(point: int) -> list[int]:
    """Count the calls of this process, and kill it before one of them."""
    count = [0]

    def seen() -> None:
        if count[0] == point:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    def hook(event: str, args: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in EVENTS or (writes and args[0] != os.devnull):
            seen()

    def wrapped(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object) -> object:
            seen()
            return call(*args)

        return counted

    for name in WRAPPED:
        setattr(os, name, wrapped(getattr(os, name)))
    sys.addaudithook(hook)
    return count


class Scenario(NamedTuple):
    """A writer, what is there before it comes, and what must be true after it was killed.

    Attributes:
        name: in the report.
        prepare: fills a folder.
        act: writes there.
        fault: says what is wrong with a folder after a kill; ``None`` if nothing is.
        again: writes there once more, as a user would.
    """

    name: str
    prepare: Action
    act: Action
    fault: Callable[[], str | None]
    again: Action


def scenarios(folder: Path) -> Iterator[Scenario]:
    """Yield the scenarios in a folder that each of them may use alone."""
    run = folder / "run"
    yield Scenario("a first run", _nothing, lambda: write(run, 1), lambda: torn_run(run), lambda: write(run, 2))
    yield Scenario(
        "over a run", lambda: write(run, 1), lambda: write(run, 2), lambda: torn_run(run), lambda: write(run, 3)
    )
    yield Scenario(
        "over a run with more files",
        lambda: (write(run, 1), (run / "results.json").write_text("{}"), (run / "page.html").write_text("old")),
        lambda: write(run, 2),
        lambda: torn_run(run),
        lambda: write(run, 3),
    )
    yield Scenario(COMMAND, lambda: job(run, 1), lambda: job(run, 2), lambda: torn_run(run), lambda: job(run, 3))
    shards = folder / "shards"
    yield Scenario(
        "first shards",
        _nothing,
        lambda: checkpoint(shards, 1),
        lambda: torn_shards(shards),
        lambda: checkpoint(shards, 2),
    )
    yield Scenario(
        "over shards",
        lambda: checkpoint(shards, 1),
        lambda: checkpoint(shards, 2),
        lambda: torn_shards(shards),
        lambda: checkpoint(shards, 3),
    )
    one = folder / "one"
    yield Scenario(
        "over one file", lambda: text(one, 1), lambda: text(one, 2), lambda: torn_text(one), lambda: text(one, 3)
    )


def _nothing() -> None:
    pass


def build() -> nn.Module:
    """A small model, with tensors that no rule matches."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 2))


def write(folder: Path, seed: int) -> None:
    """Write a run's files as the command does, without the second that Hydra takes."""
    folder.mkdir(exist_ok=True)
    folders.output_directory = lambda: folder
    reinit.written = list
    with folders.run_set(OmegaConf.create({"overwrite": True}), reinit.FILES) as drafts:
        model = build()
        report = initframe.reinit(
            model, {"rules": {"*.weight": {"init": "normal", "where": "ndim > 1"}}}, seed, measure=True
        )
        record = initframe.manifest(report)
        folders.with_room(lambda: save_tensors(model, drafts["model.safetensors"], {"run": record["run"]}))
        reinit.write(report, record, {"model": {}, "plugins": []}, drafts)


def job(folder: Path, seed: int) -> None:
    """Run the reinit job in a folder, over what is there."""
    models.model("kills")(build)
    sys.argv = [
        *("reinit.py", "model=plugin", "model.name=kills", f"hydra.run.dir={folder}", f"seed={seed}"),
        *("init=normal_001", "overwrite=true"),
    ]
    reinit.main()


def checkpoint(folder: Path, seed: int) -> None:
    """Write a checkpoint of several files."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(3))).to("meta")
    recipe = {"rules": {"*.weight": "xavier_uniform", "*.bias": {"init": "normal", "std": 0.1}}}
    initframe.write_checkpoint(initframe.resolve(recipe, model), folder, seed, max_shard_size=3000)


def text(folder: Path, number: int) -> None:
    """Write one file."""
    with replacing(folder / "file.txt") as (draft,):
        draft.write_text(str(number) * 1000)


def torn_run(folder: Path) -> str | None:
    """Say what is wrong with a run's folder: it has a manifest, and other files are not those of the manifest."""
    if not (folder / "manifest.json").exists():
        return None
    found = initframe.verify(folder)
    return None if found.ok else str(found)


def torn_shards(folder: Path) -> str | None:
    """Say what is wrong with a sharded checkpoint: it can be read, and is of no one seed."""
    try:
        found = dict(open_checkpoint(folder).values())
    except SourceError:
        return None
    for seed in (1, 2, 3):
        with tempfile.TemporaryDirectory() as place:
            checkpoint(Path(place), seed)
            wanted = open_checkpoint(Path(place)).values()
            if found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted):
                return None
    return "its tensors are of several seeds"


def torn_text(folder: Path) -> str | None:
    """Say what is wrong with a file: it is there, and is not whole."""
    path = folder / "file.txt"
    found = path.read_text() if path.exists() else None
    return None if found in (None, "1" * 1000, "2" * 1000, "3" * 1000) else "it is half a file"


def killed(
    scenario: Scenario, folder: Path, point: int = NEVER, after: float | None = None
) -> tuple[Outcome, list[str]]:
    """Kill one writer, and give what is wrong then, and after it was run again."""
    before = folder.with_name(f"{scenario.name}, before")
    os.chdir(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    if before.exists():
        shutil.copytree(before, folder)
    else:
        folder.mkdir()
        if forked(scenario.prepare).code:
            return Outcome(0, 1, 0), ["it cannot be prepared"]
        shutil.copytree(folder, before)
    os.chdir(folder)
    outcome = forked(scenario.act, point, after)
    faults = [fault] if (fault := scenario.fault()) else []
    if forked(scenario.again).code:
        faults.append("it cannot be run again")
    if fault := scenario.fault():
        faults.append(f"run again: {fault}")
    if left := [path.name for path in folder.rglob("*.part")]:
        faults.append(f"run again, it leaves {', '.join(left)}")
    return outcome, faults


def main() -> None:
    """Kill until the count is reached; the exit code says whether anything was torn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--each", type=int, default=0, help="aimed kills of every scenario; 0: one at every call")
    parser.add_argument("--only", default="", help="scenarios whose names have this in them")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    dice, kills, torn = random.Random(asked.seed), 0, 0
    folder = Path(tempfile.mkdtemp()) / "place"
    every = [scenario for scenario in scenarios(folder) if asked.only in scenario.name]
    lengths: dict[str, float] = {}
    for scenario in every:
        points = 0
        whole = killed(scenario, folder)[0]
        calls, lengths[scenario.name] = whole.calls, whole.seconds
        for point in dice.sample(range(calls), min(calls, asked.each or calls)):
            outcome, faults = killed(scenario, folder, point)
            points += outcome.signal == signal.SIGKILL
            torn += report(f"{scenario.name}, before call {point}", faults)
        kills += points
        print(f"{scenario.name}: killed before each of {points} calls", flush=True)
    aimed = kills
    while kills < asked.count:
        scenario = dice.choice([one for one in every if one.name != COMMAND] or every)
        moment = dice.uniform(0, lengths[scenario.name])
        outcome, faults = killed(scenario, folder, after=moment)
        kills += outcome.signal == signal.SIGKILL
        torn += report(f"{scenario.name}, after {moment:.3f} s", faults)
    print(f"{kills} kills ({aimed} aimed, {kills - aimed} at random moments): {torn} torn or mixed sets")
    shutil.rmtree(folder.parent, ignore_errors=True)
    sys.exit(torn > 0)


def report(where: str, faults: list[str]) -> bool:
    """Print what is wrong."""
    for fault in faults:
        print(f"{where}: {fault}", flush=True)
    return bool(faults)


if __name__ == "__main__":
    main()
