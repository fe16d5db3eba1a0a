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
from initframe.cli.job import chosen, hydra_job, import_plugins, output_directory, plain
from initframe.cli.screen import filling, say, width
from initframe.manifest import manifest
from initframe.report import Report
from initframe.resolver import resolve

FILES = ("model.safetensors", "manifest.json", "plan.txt")


def run(config: Any) -> None:
    """The whole way of the data: recipe → plan → tensors → files."""
    import_plugins(config.plugins)
    torch.manual_seed(config.seed)  # what no rule touches comes from the model's constructor
    model = sources.build(plain(config.model))
    plan = resolve(plain(config.init), model)
    plan = replace(plan, recipe=replace(plan.recipe, name=chosen("init")))
    if config.dry_run:
        say(str(plan))
        return
    folder = output_directory()
    with replacing(*(folder / name for name in FILES)) as drafts:
        with filling(plan) as advance:
            report = apply(plan, config.seed, generator=config.generator, measure=True, on_progress=advance)
        write(report, model, drafts)
    say(report.render(width()))
    say(f"Files in {os.path.relpath(folder)}: {', '.join(FILES)}")


def write(report: Report, model: torch.nn.Module, drafts: tuple[Path, ...]) -> None:
    """Write the checkpoint, the manifest and the plan with what came of it."""
    tensors, record, text = drafts
    save_tensors(model, tensors)
    record.write_text(json.dumps(manifest(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text.write_text(f"{report.plan}\n\n{report}\n", encoding="utf-8")


def main() -> None:
    """The console command ``initframe-reinit``."""
    hydra_job("reinit", run)


if __name__ == "__main__":
    main()
