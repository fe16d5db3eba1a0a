"""The main job beside a bare script: python benchmarks/startup.py [rounds].

Both are processes of their own that build torchvision's AlexNet, draw Xavier's uniform law for every weight and save
the model with safetensors. The job does what the script does not: it reads a recipe through Hydra, plans, measures and
digests every tensor after the write, and writes a manifest and the plan. Wall times alternate, so that a busy machine
is busy for both; ratios are of the medians and of the fastest rounds, with and without what importing Hydra costs once.

The aim is at most 1.25. benchmarks/results_plans.md has a run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "reinit.py"

BARE = """
import torch
from safetensors.torch import save_file
from torchvision.models import alexnet

model = alexnet()
for parameter in model.parameters():
    if parameter.dim() > 1:
        torch.nn.init.xavier_uniform_(parameter)
save_file(model.state_dict(), "model.safetensors")
"""
HYDRA = "import hydra, hydra.compose, hydra.core.plugins, hydra.core.hydra_config; hydra.initialize(version_base=None)"

LINES = {
    "bare script": ["-c", BARE],
    "reinit.py": [str(SCRIPT), "model=alexnet", "init=xavier_relu", "hydra.run.dir=."],
    "import hydra": ["-c", HYDRA],
    "python alone": ["-c", "pass"],
}


def seconds(arguments: list[str]) -> float:
    """How long a process takes in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - start


def main(rounds: int = 7) -> None:
    times: dict[str, list[float]] = {name: [] for name in LINES}
    for _ in range(rounds):
        for name, line in LINES.items():
            times[name].append(seconds(line))
    for name, taken in times.items():
        print(f"{name:<14}{statistics.median(taken):6.2f} s   (fastest {min(taken):.2f}, {rounds} rounds)")
    for words, typical in (("medians", statistics.median), ("fastest", min)):
        job, bare, hydra, python = (
            typical(times[name]) for name in ("reinit.py", "bare script", "import hydra", "python alone")
        )
        print(f"ratio of {words}: {job / bare:.2f}, without Hydra's import {(job - hydra + python) / bare:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
