"""``python scripts/reinit.py model=alexnet init=xavier_relu``: recipe → resolve → apply, and the files that tell."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from initframe import sources
from initframe.apply import apply
from initframe.checkpoint import replacing, save_tensors
from initframe.cli.job import (
    DATA,
    FLAG,
    GENERATOR,
    NAMES,
    RECIPE,
    SEED,
    chosen,
    hydra_job,
    import_plugins,
    output_directory,
    overrides,
    settings,
)
from initframe.cli.screen import filling, say, width
from initframe.manifest import manifest
from initframe.report import Report
from initframe.resolver import resolve

FILES = ("model.safetensors", "manifest.json", "plan.txt")


def run(config: Any) -> None:
    """The whole way of the data: recipe → plan → tensors → files."""
    job = settings(config, model=DATA, init=RECIPE, seed=SEED, generator=GENERATOR, dry_run=FLAG, plugins=NAMES)
    import_plugins(job["plugins"])
    torch.manual_seed(job["seed"])  # what no rule touches comes from the model's constructor
    model = sources.build(job["model"])
    plan = resolve(job["init"], model)
    plan = replace(plan, recipe=replace(plan.recipe, name=chosen("init")))
    if job["dry_run"]:
        say(f"{plan}\nA dry run: nothing was written.")
        return
    folder = output_directory()
    with replacing(*(folder / name for name in FILES)) as drafts:
        with filling(plan) as advance:
            report = apply(plan, job["seed"], generator=job["generator"], measure=True, on_progress=advance)
        write(report, model, job["model"], drafts)
    say(report.render(width()))
    say(f"Files in {os.path.relpath(folder)}: {', '.join(FILES)}")


def write(report: Report, model: torch.nn.Module, source: dict[str, Any], drafts: tuple[Path, ...]) -> None:
    """Write the checkpoint, the manifest and the plan with what came of it."""
    tensors, record, text = drafts
    save_tensors(model, tensors)
    told = {**manifest(report), "job": {"model": source, "overrides": overrides()}}
    record.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text.write_text(f"{report.plan}\n\n{report}\n", encoding="utf-8")


def main() -> None:
    """The console command ``initframe-reinit``."""
    hydra_job("reinit", run)


if __name__ == "__main__":
    main()
