"""``python scripts/reinit.py model=alexnet init=xavier_relu``: recipe → resolve → apply, and the files that tell."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initframe import models
from initframe.applying import torch_init
from initframe.cli.console import filling, remind, say, unwarned, width
from initframe.cli.folders import output_directory, run_set, with_room
from initframe.cli.groups import chosen, written
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.settings import DATA, FLAG, GENERATOR, NAMES, RECIPE, SEED, settings
from initframe.construction.deferred import materialize, resolve_deferred
from initframe.errors import ResolveError
from initframe.files.facts import file_facts, header_facts
from initframe.files.safetensors import save_tensors
from initframe.files.shards import list_files
from initframe.plan import Plan
from initframe.plan.manifest import manifest, seal, to_text
from initframe.plan.report import Report
from initframe.resolver.resolve import resolve

MANIFEST = "manifest.json"
RUN = "run"
"""The key of the run's number, in the manifest and in the header of the tensors' file."""
FILES = ("model.safetensors", "plan.txt", MANIFEST)
"""What every run writes, in this order: a folder with a manifest is complete."""
WANTED = {
    "model": DATA,
    "init": RECIPE,
    "seed": SEED,
    "generator": GENERATOR,
    "dry_run": FLAG,
    "overwrite": FLAG,
    "page": FLAG,
    "plugins": NAMES,
}


def run(config: Any) -> float:
    """Run the whole way of the data: recipe → plan → tensors → files.

    Returns:
        0, also in a dry run: Hydra's sweepers need a number.
    """
    job = settings(config, **WANTED)
    import_plugins(job["plugins"])
    plan = planned(job, chosen("init"))
    if job["dry_run"]:
        tell_plan(plan)
        return 0.0
    model: Any = plan.model
    models.check_memory(plan.title, sum(tensor.nbytes for tensor in model.parameters() if tensor.is_meta))
    names = files(job)
    with run_set(config, names) as drafts:
        with unwarned(), filling(plan) as advance:
            report = materialize(
                model, plan, job["seed"], generator=job["generator"], measure=True, on_progress=advance
            )
        record = manifest(report)
        with_room(lambda: save_tensors(model, drafts["model.safetensors"], {RUN: record[RUN]}))
        write(report, record, job, drafts)
    tell_report(report, names)
    return 0.0


def files(job: Mapping[str, Any]) -> list[str]:
    """Name what a run writes, in this order: a folder with a manifest is complete.

    Raises:
        InitframeError: a page is asked for, and a library that it needs is not installed.
    """
    if not job["page"]:
        return [*FILES]
    from initframe import pages  # noqa: PLC0415  # few runs write one

    pages.need_libraries()
    return ["page.html", *FILES]


def tell_plan(plan: Plan) -> None:
    """Print what a dry run has to say."""
    say(f"{plan}\nA dry run: nothing was written but Hydra's own files.")


def tell_report(report: Report, names: Sequence[str]) -> None:
    """Print what a run did, and where its files are."""
    say(report.render(width()))
    where = "manifest.json has its companions, for optimizer and model; +init.companions=heeded turns this line off."
    remind(report.plan, f"Recipe {report.plan.recipe.name}", where)
    order = ("model.safetensors", "manifest.json", "plan.txt", "page.html")
    say(f"Files in {os.path.relpath(output_directory())}: {', '.join(name for name in order if name in names)}")


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
    if plan.recipe.requires and isinstance(plan.model, nn.Module):
        plan = _with_factors(plan, plan.model)
    if job["generator"] == "torch" and (problems := torch_init.refusals((a, a.slot) for a in plan.assignments)):
        raise ResolveError(*problems)
    return replace(plan, recipe=replace(plan.recipe, name=name))


def _with_factors(plan: Plan, model: nn.Module) -> Plan:
    """Find the factors that ``init=auto`` leaves open, print them, and resolve again; other plans stay as they are."""
    from initframe.signal.auto import explained, is_auto  # noqa: PLC0415  # few runs need what predicts

    if not is_auto(plan.recipe):
        return plan
    found = explained(model, plan.recipe)
    lines = [
        f"  {row.name}: factor {row.factor:.4g}, output rms {row.before:.3g} → {row.after:.3g}" for row in found.rows
    ]
    left = [f"  left: {reason}" for reason in found.left]
    say("\n".join(["init=auto, by prediction:", *lines, *left]))
    return resolve(found.recipe, model)


def write(report: Report, record: Mapping[str, Any], job: Mapping[str, Any], drafts: Mapping[str, Path]) -> None:
    """Write the plan with what came of it, the page if it is asked for, and the manifest with what is in all files.

    Args:
        report: what happened.
        record: its manifest.
        job: the job's settings.
        drafts: where the files go, by name; the tensors' file is there already.
    """
    drafts["plan.txt"].write_text(f"{report.plan}\n\n{report}\n\nRun: {record[RUN]}\n", encoding="utf-8")
    if page := drafts.get("page.html"):
        from initframe import pages  # noqa: PLC0415  # as above

        page.write_text(pages.run_page(report), encoding="utf-8")
    told = {
        **record,
        "files": {name: _facts(name, draft) for name, draft in drafts.items() if name != MANIFEST},
        "sources": _sources(job),
        "job": {"model": job["model"], "overrides": written()},
    }
    drafts[MANIFEST].write_text(to_text(seal(told)), encoding="utf-8")


def _facts(name: str, draft: Path) -> dict[str, Any]:
    return header_facts(draft) if name.endswith(".safetensors") else file_facts(draft)


def _sources(job: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the files were that the job read code and values from."""
    found: dict[str, Any] = {"plugins": {name: _of_module(name) for name in job["plugins"]}}
    if isinstance(path := job["model"].get("checkpoint"), str):
        paths = list_files(Path(path)).files
        found["checkpoint"] = {"path": path, "files": {file.name: file_facts(file) for file in paths}}
    return found


def _of_module(name: str) -> dict[str, Any]:
    """The facts of a plugin's file; of a package, of all its Python files."""
    own = getattr(sys.modules.get(name), "__file__", None)
    if own is None:
        return {}
    path = Path(own)
    folder = path.parent
    paths = sorted(folder.rglob("*.py")) if path.name == "__init__.py" else [path]
    return {str(one.relative_to(folder)): file_facts(one) for one in paths}


def main() -> None:
    """Run the console command ``initframe-reinit``."""
    hydra_job("reinit", run)


if __name__ == "__main__":
    main()
