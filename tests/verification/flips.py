"""Flip bits of a run's files, one at a time, and see that verify notices each of them.

``python -m tests.verification.flips --count 1000`` flips that many bits in the body of a model, in its header, and in
the manifest, in turn, and counts what went unnoticed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from torch import nn

import initframe
from initframe import InitframeError
from initframe.files.facts import file_facts, header_facts
from initframe.files.safetensors import save_tensors
from initframe.plan.manifest import seal, to_text

PARTS = ("body", "header", "manifest", "plan")


def run(folder: Path) -> None:
    """Write a run's files: a model with tensors of several dtypes, ties, and some that no rule matches."""
    model = nn.Sequential(nn.Linear(24, 24), nn.BatchNorm1d(24), nn.Linear(24, 24).bfloat16())
    recipe = {"rules": {"*.weight": {"init": "normal", "where": "ndim > 1"}, "0.bias": {"init": "normal", "std": 1e-5}}}
    record = initframe.manifest(initframe.reinit(model, recipe, seed=5, measure=True))
    save_tensors(model, folder / "model.safetensors", {"run": record["run"]})
    (folder / "plan.txt").write_text(f"a plan of {record['run']}\n")
    facts = {
        "model.safetensors": header_facts(folder / "model.safetensors"),
        "plan.txt": file_facts(folder / "plan.txt"),
    }
    (folder / "manifest.json").write_text(to_text(seal({**record, "files": facts})), encoding="utf-8")


def flips(folder: Path, count: int, dice: random.Random) -> Iterator[tuple[str, bool]]:
    """Flip bits, each alone; gives the part that it was in, and whether it was noticed."""
    model = folder / "model.safetensors"
    head = 8 + int.from_bytes(model.read_bytes()[:8], "little")
    ranges = {
        "body": (model, head, model.stat().st_size),
        "header": (model, 0, head),
        "manifest": (folder / "manifest.json", 0, (folder / "manifest.json").stat().st_size),
        "plan": (folder / "plan.txt", 0, (folder / "plan.txt").stat().st_size),
    }
    for i in range(count):
        part = PARTS[i % len(PARTS)]
        path, first, last = ranges[part]
        before = path.read_bytes()
        place, bit = dice.randrange(first, last), dice.randrange(8)
        path.write_bytes(before[:place] + bytes([before[place] ^ (1 << bit)]) + before[place + 1 :])
        yield part, noticed(folder)
        path.write_bytes(before)


def noticed(folder: Path) -> bool:
    """Whether verify refuses a run's folder or says that something is not as promised; other errors are raised."""
    try:
        return not initframe.verify(folder).ok
    except InitframeError:
        return True


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run(Path(place))
        found = list(flips(Path(place), asked.count, random.Random(asked.seed)))
    print(json.dumps({"flipped": Counter(part for part, _ in found), "noticed": sum(seen for _, seen in found)}))
    sys.exit(not all(seen for _, seen in found))


if __name__ == "__main__":
    main()
