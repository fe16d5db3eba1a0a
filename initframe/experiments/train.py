"""``python scripts/train.py``: train one model briefly from several starts, and compare their accuracies."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from initframe import models
from initframe.applying.apply import apply
from initframe.cli.console import progress, remind, say, unwarned
from initframe.cli.folders import output_directory, run_set, siblings
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.settings import COUNT, DATA, FLAG, NAMES, SEED, SHARE, SIZE, settings
from initframe.errors import InitframeError, Problem, closest
from initframe.experiments.claim_job import CLAIM, run_claims
from initframe.experiments.digits import Digits, load_digits
from initframe.experiments.fit import accuracy, fit
from initframe.experiments.prune import Masks, keep, largest
from initframe.experiments.threads import on_one_thread
from initframe.plan import Plan
from initframe.plan.table import table
from initframe.resolver.resolve import resolve

BATCH, RATE, CLASSES = 64, 1e-3, 10
FILE = "results.json"
WANTED = {
    "model": DATA,
    "starts": DATA,
    "freeze": NAMES,
    "prune": SHARE,
    "epochs": COUNT,
    "images": SIZE,
    "seed": SEED,
    "overwrite": FLAG,
    "plugins": NAMES,
    "claim": CLAIM,
    "reduced": FLAG,
}

Rows = dict[str, list[float]]


def run(config: Any) -> float:
    """Resolve every start before any is trained; then train each, and print a row of accuracies for it.

    Returns:
        The last accuracy of the last start, for Hydra's sweepers; of claims, what :func:`run_claims` returns.
    """
    job = settings(config, **WANTED)
    if job["claim"] is not None:
        return run_claims(job)
    if not job["starts"]:
        fix = "Give one: +starts.xavier=xavier_relu."
        raise InitframeError(Problem("starts", "it is empty: there is nothing to compare.", fix=fix))
    import_plugins(job["plugins"])
    torch.manual_seed(job["seed"])
    trial = Trial(models.build(job["model"]), *load_digits(job["images"]), job["freeze"], job["epochs"])
    _check_freeze(trial)
    plans = {label: resolve(recipe, trial.model) if recipe else None for label, recipe in job["starts"].items()}
    runs = len(plans) * (3 if job["prune"] else 1)
    folder = output_directory()
    with run_set(config, [FILE]) as drafts:
        with unwarned(), on_one_thread(), progress("Training", runs * trial.steps) as trial.advance:
            rows = {label: row for start, plan in plans.items() for label, row in _rows(trial, start, plan, job)}
        text = json.dumps({"seed": job["seed"], "accuracy": rows}, indent=2) + "\n"
        drafts[FILE].write_text(text, encoding="utf-8")
    for label, plan in plans.items():
        if plan:
            remind(plan, f"Start {label!r}", "this training does not use its companions.")
    say(f"{shown(rows)}\nThe numbers are in {os.path.relpath(folder / FILE)}")
    if len(done := [_accuracies(path / FILE) for path in siblings() if (path / FILE).is_file()]) > 1:
        say(f"\nOver {len(done)} runs, after the last epoch:\n{spread(done)}")
    return [*rows.values()][-1][-1]


@dataclass
class Trial:
    """A model, digits, and how long to train.

    Attributes:
        model: as it was built; copies of it are trained.
        train: images to train on.
        test: images to measure on.
        freeze: patterns of parameters that are not trained.
        epochs: how often to see every image.
        advance: called with the number of steps taken.
    """

    model: nn.Module
    train: Digits
    test: Digits
    freeze: list[str]
    epochs: int
    advance: Callable[[int], None] = field(default=lambda _: None)

    @property
    def steps(self) -> int:
        """Count the steps of one training."""
        return self.epochs * -(-len(self.train.labels) // BATCH)

    def start(self, plan: Plan | None, seed: int, masks: Masks | None = None) -> nn.Module:
        """Copy the model, reinitialize it by a plan, and fix at zero what the masks leave out."""
        model = copy.deepcopy(self.model)
        if plan is not None:
            apply(plan, seed, module=model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not any(fnmatchcase(name, pattern) for pattern in self.freeze)
        keep(model, masks or {})
        return model

    def fit(self, model: nn.Module, seed: int) -> list[float]:
        """Train a model in place by Adam, and measure before the first epoch and after each.

        Args:
            model: what to train.
            seed: of the order of the images.

        Returns:
            Accuracies on the test images, one more than there are epochs.
        """
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
        steps = fit(model, optimizer, self.train, seed=seed, batch=BATCH, loss=_loss)
        accuracies = [accuracy(model, self.test, _answers)]
        for _ in range(self.epochs):
            for _ in islice(steps, self.steps // self.epochs):
                self.advance(1)
            accuracies.append(accuracy(model, self.test, _answers))
        return accuracies


def _check_freeze(trial: Trial) -> None:
    """Refuse patterns that freeze nothing, and patterns that freeze everything."""
    names = [name for name, _ in trial.model.named_parameters()]
    idle = [pattern for pattern in trial.freeze if not any(fnmatchcase(name, pattern) for name in names)]
    if idle:
        raise InitframeError(*(Problem("freeze", f"{p!r} matches no parameter.", closest(p, names)) for p in idle))
    if all(any(fnmatchcase(name, pattern) for pattern in trial.freeze) for name in names):
        fix = "Leave out a layer, such as the head."
        raise InitframeError(Problem("freeze", f"{trial.freeze} leaves nothing to train.", fix=fix))


def _rows(trial: Trial, label: str, plan: Plan | None, job: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """Train one start; with ``prune`` also its lottery ticket, and the same mask on other numbers."""
    seed, share = job["seed"], job["prune"]
    model = trial.start(plan, seed)
    yield label, trial.fit(model, seed)
    if share:
        masks = largest(model, 1 - share)
        for words, again in (("same seed", seed), ("other seed", seed ^ 1)):
            yield f"{label}, {1 - share:.0%} left, {words}", trial.fit(trial.start(plan, again, masks), seed)


def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(_answers(model, images), labels)


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    """Compute a model's outputs, or refuse it: it needs ten numbers for each image."""

    def refusal(fact: str) -> InitframeError:
        fix = "Train a model for images of digits, such as model=digits_cnn."
        return InitframeError(Problem(type(model).__name__, fact, fix=fix))

    try:
        answers = model(images)
    except Exception as error:
        shape = list(images.shape)
        raise refusal(f"it does not take images of shape {shape}: {type(error).__name__}: {error}.") from error
    if not isinstance(answers, Tensor):
        raise refusal(f"it returns a {type(answers).__name__}, not ten numbers for each image.")
    if answers.ndim != 2 or answers.shape[0] != len(images) or answers.shape[1] < CLASSES:
        raise refusal(f"it returns shape {list(answers.shape)} for {len(images)} images, not ten numbers for each.")
    return answers


def shown(rows: Rows) -> str:
    """Render accuracies as a table: a row for each start, a column for each epoch."""
    epochs = max(len(row) for row in rows.values())
    columns = ("start", "before", *(f"epoch {epoch}" for epoch in range(1, epochs)))
    return table(columns, [(label, *(f"{share:.3f}" for share in row)) for label, row in rows.items()])


def spread(runs: list[Rows]) -> str:
    """Render the last accuracies of several runs as a table: mean, lowest, highest."""
    last = {label: torch.tensor([run[label][-1] for run in runs if label in run]) for label in runs[-1]}
    cells = [(label, *(f"{value:.3f}" for value in (x.mean(), x.min(), x.max()))) for label, x in last.items()]
    return table(("start", "mean", "lowest", "highest"), cells)


def _accuracies(path: Path) -> Rows:
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
    return rows


def main() -> None:
    """Run the console command ``initframe-train``."""
    hydra_job("train", run)


if __name__ == "__main__":
    main()
