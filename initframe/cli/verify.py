"""``python scripts/verify.py run=DIR [checkpoint=FILE]``: compare a run's files, or a checkpoint, with its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from initframe.cli.console import progress, say, width
from initframe.cli.job import hydra_job
from initframe.cli.settings import FLAG, Setting, settings
from initframe.errors import InitframeError, Problem
from initframe.verification.read import Record, read_manifest
from initframe.verification.regenerate import regenerate
from initframe.verification.result import Verification
from initframe.verification.verify import verify

PATH = Setting("the path of a file or folder", lambda value: isinstance(value, str) and value != "")
MAYBE = Setting("the path of a file or folder, or null", lambda value: value is None or PATH.fits(value))
WANTED = {"run": PATH, "checkpoint": MAYBE, "regenerate": MAYBE, "movement": FLAG}


def run(config: Any) -> float:
    """Compare, and print the result; or make the tensors again.

    Returns:
        0, for Hydra's sweepers.

    Raises:
        InitframeError: something is not as promised.
    """
    job = settings(config, **WANTED)
    record = read_manifest(job["run"])
    if job["regenerate"] is not None:
        return _regenerate(job["run"], record, Path(job["regenerate"]))
    with _bytes(record) as advance:
        found = verify(job["run"], job["checkpoint"], movement=job["movement"], on_progress=advance)
    say(found.render(width()))
    _demand_ok(found)
    return 0.0


def _regenerate(run: str, record: Record, path: Path) -> float:
    """Write what the manifest makes again, compared with its digests."""
    with progress("Making tensors again", sum(one.numel * len(one.names) for one in record.tensors)) as advance:
        made = regenerate(run, path=path, on_progress=advance)
    say(f"{len(made)} tensors in {path}, each with the digest that was promised.")
    for other in record.others:
        say(f"Not made again: {other.name!r}: it needs {other.needs!r}.")
    return 0.0


def _bytes(record: Record) -> Any:
    sizes = (one.numel * (one.dtype.itemsize if one.dtype else 0) * len(one.names) for one in record.every)
    return progress("Comparing", max(1, sum(sizes)))


def _demand_ok(found: Verification) -> None:
    wrong = sum(not row.ok for row in found.rows)
    if wrong:
        fact = f"{wrong} of {len(found.rows)} {'is' if wrong == 1 else 'are'} not as promised."
        raise InitframeError(Problem("", fact))


def main() -> None:
    """Run the console command ``initframe-verify``."""
    hydra_job("verify", run)


if __name__ == "__main__":
    main()
