"""``python scripts/trace.py model=timm model.name=…``: what a model's constructor does, as a plan and as a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from initframe import models
from initframe.cli.console import say, width
from initframe.cli.folders import output_directory
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.settings import DATA, FLAG, NAMES, Setting, settings
from initframe.construction.describe import describe
from initframe.construction.identify import identify
from initframe.construction.trace import trace
from initframe.errors import Problem, SourceError
from initframe.files.atomic import replacing
from initframe.plan import Plan

FILES = ("recipe.yaml", "plan.txt")
WAY = Setting("constructor or values", lambda value: value in ("constructor", "values"))
WANTED = {"model": DATA, "from": WAY, "dry_run": FLAG, "plugins": NAMES}


def run(config: Any) -> float:
    """Read a model's initialization, print it, and write it as a recipe; give the number of rules, for sweepers."""
    job = settings(config, **WANTED)
    import_plugins(job["plugins"])
    plan = _read(job["model"], job["from"])
    recipe = describe(plan)
    if job["dry_run"]:
        say(f"{plan}\n\n{recipe.to_yaml()}\nA dry run: nothing was written.")
        return float(len(recipe.rules))
    folder = output_directory()
    with replacing(*(folder / name for name in FILES)) as (rules, text):
        rules.write_text(recipe.to_yaml(), encoding="utf-8")
        text.write_text(f"{plan}\n", encoding="utf-8")
    say(plan.render(width()))
    say(f"\n{recipe.to_yaml()}")
    where = os.path.relpath(folder)
    say(f"Files in {where}: {', '.join(FILES)}")
    say(f"To use it, change a rule, and run: initframe-reinit init={where}/{FILES[0]} with the same model=…")
    return float(len(recipe.rules))


def _read(source: Mapping[str, Any], way: str) -> Plan:
    """Trace the model's constructor, or identify its values."""
    if way == "values":
        return identify(models.build(source))
    loading = [key for key in ("weights", "checkpoint") if source.get(key) is not None]
    if loading:
        fix = "Remove it, or read the values that it brings: from=values."
        raise SourceError(
            Problem(f"model.{loading[0]}", "it brings trained values, which no constructor makes.", "", fix)
        )
    return trace(lambda: models.build(source))


def main() -> None:
    """The console command ``initframe-trace``."""
    hydra_job("trace", run)


if __name__ == "__main__":
    main()
