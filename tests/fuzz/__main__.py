"""``python -m tests.fuzz --minutes 10``: random input for everything that reads input, until the time is over.

An error that is no InitframeError, a model that a failed call has changed, a message that is none for a terminal, or
more than SLOW seconds is a failure. What failed is kept in tests/fuzz/corpus, which the tests replay. A process that
dies is started again, and the input that it had last is kept, too.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SLOW = 10
DEADLY = ("trees", "recipes", "safetensors", "torch")
"""Targets that reach code in C++, which can end the process."""
SLICE = 0.5
"""Seconds for one target, until it is the next one's turn."""


class SlowError(BaseException):
    """An input took too long."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise SlowError after some seconds of this process's time, so that a busy machine is no failure."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def stop(*_: object) -> None:
    """Raise SlowError, as a handler of signals."""
    raise SlowError(f"it takes more than {SLOW} s")


def failure(name: str, content: bytes, folder: Path) -> str:
    """Run one input; the traceback if it fails."""
    try:
        with alarm(SLOW):
            TARGETS[name].run(content, folder)
    except (Exception, SlowError):  # noqa: BLE001  # all of them are what is looked for
        return traceback.format_exc()
    return ""


def fuzz(seconds: float, seed: int, folder: Path, names: list[str]) -> Iterator[tuple[str, bytes, str]]:
    """Try inputs, target by target, for some seconds.

    Yields:
        The target, the input, and the traceback if it failed.
    """
    signal.signal(signal.SIGVTALRM, stop)
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in names:
            turn = min(end, time.monotonic() + SLICE)
            while time.monotonic() < turn:
                yield attempt(name, rng, folder)


def attempt(name: str, rng: random.Random, folder: Path) -> tuple[str, bytes, str]:
    """Try one input; give the target, the input, and the traceback if it failed."""
    content = TARGETS[name].make(rng)
    if name in DEADLY:
        (folder / "last").write_bytes(name.encode() + b"\n" + content)
    return name, content, failure(name, content, folder)


def keep(name: str, content: bytes, told: str, seen: set[str]) -> None:
    """Keep an input that failed, once for each place where it does, and print why."""
    lines = [line for line in told.splitlines() if line.startswith("  File")]
    place = f"{name}: {lines[-1] if lines else ''} {told.splitlines()[-1][:60] if told else 'the process died'}"
    if place not in seen:
        seen.add(place)
        path = CORPUS / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
        path.write_bytes(content)
        print(f"{path.name}: {place}\n{told[-3000:]}", flush=True)


def _child(seconds: float, seed: int, folder: Path, names: list[str], counts: object) -> None:
    seen: set[str] = set()
    tried: Counter[str] = Counter()
    for name, content, told in fuzz(seconds, seed, folder, names):
        tried[name] += 1
        counts[name] = tried[name]  # type: ignore[index]
        if told:
            counts["failures"] += 1  # type: ignore[index]
            keep(name, content, told, seen)


class _Counts:
    """Counts that survive the process that counts."""

    def __init__(self) -> None:
        self._order = [*TARGETS, "failures"]
        self._values = multiprocessing.get_context("fork").Array("q", len(self._order), lock=False)

    def __getitem__(self, name: str) -> int:
        return int(self._values[self._order.index(name)])

    def __setitem__(self, name: str, value: int) -> None:
        self._values[self._order.index(name)] = value


def run(seconds: float, seed: int, folder: Path, names: list[str], total: Counter[str]) -> None:
    """Fuzz in a process of its own, and in a new one if that dies; add to the total what was tried."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        counts = _Counts()
        child = multiprocessing.get_context("fork").Process(target=_child, args=(left, seed, folder, names, counts))
        child.start()
        try:
            child.join()
        finally:
            child.kill()
            child.join()
            total.update({name: counts[name] for name in [*TARGETS, "failures"]})
        if child.exitcode and child.exitcode > 0:
            raise RuntimeError("an input could not be made")
        if child.exitcode:
            name, _, content = (folder / "last").read_bytes().partition(b"\n")
            total["failures"] += 1
            keep(name.decode(), content, "", set())
            seed += 1


def main() -> int:
    """Fuzz for some minutes; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--targets", default=",".join(TARGETS))
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    total: Counter[str] = Counter()
    memory = Path("/dev/shm")  # a file system in memory, if there is one
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        try:
            run(60 * given.minutes, given.seed, Path(folder), given.targets.split(","), total)
        except KeyboardInterrupt:
            print("stopped early")
    failures = total.pop("failures")
    print(f"seed {given.seed}: {sum(total.values()):,} inputs, {failures:,} failures")
    for name, count in total.items():
        print(f"  {name:<12} {count:>10,}")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main())
