"""``python scripts/reinit.py model=alexnet init=xavier_relu``: recipe → resolve → apply, and the files that tell."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initframe import models
from initframe.applying import torch_init
from initframe.cli.chosen import chosen, overrides
from initframe.cli.console import filling, remind, say, unwarned, width
from initframe.cli.folders import output_directory
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.settings import DATA, FLAG, GENERATOR, NAMES, RECIPE, SEED, settings
from initframe.construction.deferred import materialize, resolve_deferred
from initframe.errors import ResolveError
from initframe.files.atomic import replacing
from initframe.files.safetensors import save_tensors
from initframe.plan import Plan
from initframe.plan.manifest import manifest
from initframe.plan.report import Report
from initframe.resolver.resolve import resolve

FILES = ("model.safetensors", "manifest.json", "plan.txt")
HEED = "manifest.json has its companions, for optimizer and model; +init.companions=heeded says that you know them."
WANTED = {"model": DATA, "init": RECIPE, "seed": SEED, "generator": GENERATOR, "dry_run": FLAG, "plugins": NAMES}


def run(config: Any) -> None:
    """The whole way of the data: recipe → plan → tensors → files."""
    job = settings(config, **WANTED)
    import_plugins(job["plugins"])
    plan = planned(job, chosen("init"))
    model: Any = plan.model
    if job["dry_run"]:
        say(f"{plan}\nA dry run: nothing was written.")
        return
    models.check_memory(plan.title, sum(tensor.nbytes for tensor in model.parameters() if tensor.is_meta))
    folder = output_directory()
    with replacing(*(folder / name for name in FILES)) as drafts:
        with unwarned(), filling(plan) as advance:
            report = materialize(
                model, plan, job["seed"], generator=job["generator"], measure=True, on_progress=advance
            )
        tensors, *texts = drafts
        save_tensors(model, tensors)
        write(report, job["model"], *texts)
    say(report.render(width()))
    remind(plan, f"Recipe {plan.recipe.name}", HEED)
    say(f"Files in {os.path.relpath(folder)}: {', '.join(FILES)}")


def planned(job: Mapping[str, Any], name: str) -> Plan:
    """Lay the job's recipe over its model.

    The model is built without memory, unless it brings trained values, or the recipe leaves it some of those that its
    constructor makes, which a dry run has no use for.

    Args:
        job: the job's settings.
        name: the recipe's.

    Returns:
        The plan, with the model.

    Raises:
        ResolveError: recipe and model do not fit together, or torch.nn.init has not what is asked of it.
    """

    def build() -> nn.Module:
        torch.manual_seed(job["seed"])  # what no rule touches comes from the model's constructor
        return models.build(job["model"])

    if any(job["model"].get(key) is not None for key in ("weights", "checkpoint")):
        plan = resolve(job["init"], build())
    else:
        plan = resolve_deferred(job["init"], build, only_read=job["dry_run"])
    if job["generator"] == "torch" and (problems := torch_init.refusals((a, a.slot) for a in plan.assignments)):
        raise ResolveError(*problems)
    return replace(plan, recipe=replace(plan.recipe, name=name))


def write(report: Report, source: Mapping[str, Any], record: Path, text: Path) -> None:
    """Write the manifest, and the plan with what came of it."""
    told = {**manifest(report), "job": {"model": source, "overrides": overrides()}}
    record.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text.write_text(f"{report.plan}\n\n{report}\n", encoding="utf-8")


def main() -> None:
    """The console command ``initframe-reinit``."""
    hydra_job("reinit", run)


if __name__ == "__main__":
    main()
