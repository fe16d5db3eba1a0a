"""``python scripts/train.py experiment=he_2015``: carry out one claim's experiment, or with ``experiment=all`` each."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from initframe import pages
from initframe.cli.console import progress, say, unwarned, width
from initframe.cli.folders import output_directory
from initframe.cli.settings import Setting
from initframe.errors import InitframeError, Problem, closest
from initframe.experiments.claim import Outcome, Settings, carry_out, count, numbers_of
from initframe.experiments.claims import CLAIMS
from initframe.experiments.claims_page import page
from initframe.experiments.outcome import Data, render, to_dict
from initframe.experiments.picture import picture
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
    experiments, folder = list(_experiments(job)), output_directory()
    done: dict[str, Data] = {}
    with progress("Runs", sum(count(one.starts, one.numbers) for one in experiments)) as advance:
        for one in experiments:
            done[one.name] = _carried_out(one, job["seed"], advance)
            say(render(done[one.name], width()) + "\n")
            _write(folder / one.name if len(experiments) > 1 else folder, one.name, done[one.name])
    if len(experiments) > 1:
        with replacing(folder / "claims.md", folder / "results.json") as (text, verdicts):
            text.write_text(page(done, machine()), encoding="utf-8")
            verdicts.write_text(_json({name: data["verdict"] for name, data in done.items()}), encoding="utf-8")
    say(f"Files in {os.path.relpath(folder)}")
    return float(sum(check["holds"] == "no" for data in done.values() for check in data["checks"]))


def _carried_out(one: Experiment, seed: int, advance: Callable[[int], None]) -> Data:
    claim, started = CLAIMS[one.name], time.perf_counter()
    with unwarned(), on_one_thread():
        results = carry_out(claim, one.starts, one.numbers, seed, advance)
    outcome = Outcome(one.numbers, results, tuple(claim.checks(results, one.numbers)), time.perf_counter() - started)
    return to_dict(outcome)


def machine() -> str:
    """Say where this runs."""
    return f"Run on {platform.machine()} with {os.cpu_count()} cores, of which one is used; torch {torch.__version__}."


def _write(folder: Path, name: str, data: Data) -> None:
    folder.mkdir(exist_ok=True)
    with replacing(folder / "picture.svg", folder / "results.json") as (image, results):
        image.write_text(picture(data, CLAIMS[name].panels), encoding="utf-8")
        results.write_text(_json(data), encoding="utf-8")


def _json(data: Data) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _experiments(job: Mapping[str, Any]) -> list[Experiment]:
    """The experiment that was asked for, or all of them."""
    if job["claim"] != "all":
        return [_experiment(job["claim"], job["starts"], job["reduced"])]
    return [_experiment(config["claim"], config["starts"], job["reduced"]) for config in map(_config, CLAIMS)]


def _config(name: str) -> dict[str, Any]:
    """The config of a claim's experiment, as it ships."""
    config: dict[str, Any] = read_yaml(conf_directory() / "experiment" / f"{name}.yaml")
    return config


def _experiment(claim: Settings, starts: Settings, reduced: bool) -> Experiment:
    numbers = numbers_of(claim, reduced=reduced)
    name = str(numbers.get("name"))
    if name not in CLAIMS:
        raise InitframeError(Problem("claim.name", f"there is no claim {name!r}.", closest(name, CLAIMS)))
    if problems := list(_problems(_config(name)["claim"], numbers)):
        raise InitframeError(*problems)
    return Experiment(name, starts, numbers)


def _problems(shipped: Settings, numbers: Settings) -> Iterator[Problem]:
    """Find numbers that a claim lacks, does not know, or cannot use."""
    fix = f"Choose experiment={shipped['name']}, which has all of them, and change some: claim.seeds=5."
    if missing := sorted(shipped.keys() - numbers.keys()):
        yield Problem("claim", f"it lacks {', '.join(missing)}.", fix=fix)
    for key in numbers.keys() - shipped.keys():
        yield Problem(f"claim.{key}", "it is no number of this claim.", closest(key, shipped))
    seeds = numbers.get("seeds", 1)
    if type(seeds) is not int or seeds < 1:
        yield Problem("claim.seeds", f"it is {seeds!r}.", fix="Give a whole number, 1 or more.")
