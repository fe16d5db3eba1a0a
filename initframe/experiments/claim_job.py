"""``python scripts/train.py experiment=he_2015``: carry out one claim's experiment, or with ``experiment=all`` each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from initframe import pages
from initframe.cli.console import progress, say, unwarned, width
from initframe.cli.folders import output_directory
from initframe.cli.settings import Setting
from initframe.errors import InitframeError, Problem, closest
from initframe.experiments.claim import Outcome, Settings, carry_out, count, numbers_of
from initframe.experiments.claims import CLAIMS
from initframe.experiments.outcome import picture, render, section, to_dict
from initframe.experiments.threads import on_one_thread
from initframe.files.atomic import replacing
from initframe.recipe.files import read_yaml
from initframe.recipe.presets import conf_directory

CLAIM = Setting("null, all, or a mapping with a name", lambda v: v in (None, "all") or isinstance(v, dict))


class Experiment(NamedTuple):
    """A claim's name, its recipes and its numbers."""

    name: str
    starts: Settings
    numbers: Settings


def run_claims(job: Mapping[str, Any]) -> float:
    """Carry out claims; print a table and a verdict for each, and write its numbers, its picture and a page.

    Args:
        job: the settings ``claim``, ``starts``, ``reduced`` and ``seed``.

    Returns:
        How many numbers differ from a paper's, for Hydra's sweepers.
    """
    pages.need_libraries()
    experiments = list(_experiments(job))
    missed, sections, folder = 0, [], output_directory()
    with progress("Runs", sum(count(one.starts, one.numbers) for one in experiments)) as advance:
        for one in experiments:
            started = time.perf_counter()
            with unwarned(), on_one_thread():
                results = carry_out(CLAIMS[one.name], one.starts, one.numbers, job["seed"], advance)
            checks = tuple(CLAIMS[one.name].checks(results, one.numbers))
            outcome = Outcome(one.numbers, results, checks, time.perf_counter() - started)
            say(render(outcome, width()) + "\n")
            missed += sum(not check.holds for check in checks)
            sections.append(section(one.name, outcome))
            _write(folder / one.name if len(experiments) > 1 else folder, one.name, outcome)
    if len(experiments) > 1:
        (folder / "claims.md").write_text("\n".join(sections), encoding="utf-8")
    say(f"Files in {os.path.relpath(folder)}")
    return float(missed)


def _write(folder: Path, name: str, outcome: Outcome) -> None:
    folder.mkdir(exist_ok=True)
    with replacing(folder / "picture.svg", folder / "results.json") as (image, results):
        image.write_text(picture(outcome, CLAIMS[name].panels), encoding="utf-8")
        results.write_text(json.dumps(to_dict(outcome), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _experiments(job: Mapping[str, Any]) -> list[Experiment]:
    """The experiment that was asked for, or all of them."""
    if job["claim"] != "all":
        return [_experiment(job["claim"], job["starts"], job["reduced"])]
    configs = (read_yaml(conf_directory() / "experiment" / f"{name}.yaml") for name in CLAIMS)
    return [_experiment(config["claim"], config["starts"], job["reduced"]) for config in configs]


def _experiment(claim: Settings, starts: Settings, reduced: bool) -> Experiment:
    numbers = numbers_of(claim, reduced=reduced)
    name = str(numbers.get("name"))
    if name not in CLAIMS:
        raise InitframeError(Problem("claim.name", f"there is no claim {name!r}.", closest(name, CLAIMS)))
    return Experiment(name, starts, numbers)
