"""``python scripts/train.py``: start one model in several ways, train each for a moment, and see what it changed."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from initframe import models
from initframe.applying.apply import apply
from initframe.cli.console import progress, remind, say, unwarned
from initframe.cli.folders import output_directory, siblings
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.settings import COUNT, DATA, NAMES, SEED, SHARE, SIZE, settings
from initframe.errors import InitframeError, closest
from initframe.experiments.digits import Digits, load_digits
from initframe.files.atomic import replacing
from initframe.plan import Plan, table
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
    "plugins": NAMES,
}

Masks = Mapping[str, Tensor]
Rows = dict[str, list[float]]


def run(config: Any) -> None:
    """Every start resolved before any is trained; then a row of accuracies for each."""
    job = settings(config, **WANTED)
    if not job["starts"]:
        raise InitframeError("starts is empty: there is nothing to compare. Give one: +starts.xavier=xavier_relu.")
    import_plugins(job["plugins"])
    torch.manual_seed(job["seed"])
    trial = Trial(models.build(job["model"]), *load_digits(job["images"]), job["freeze"], job["epochs"])
    _check_freeze(trial)
    plans = {label: resolve(recipe, trial.model) if recipe else None for label, recipe in job["starts"].items()}
    runs = len(plans) * (3 if job["prune"] else 1)
    folder = output_directory()
    with replacing(folder / FILE) as (draft,):
        with unwarned(), _on_one_thread(), progress("Training", runs * trial.steps) as trial.advance:
            rows = {label: row for start, plan in plans.items() for label, row in _rows(trial, start, plan, job)}
        draft.write_text(json.dumps({"seed": job["seed"], "accuracy": rows}, indent=2) + "\n", encoding="utf-8")
    for label, plan in plans.items():
        if plan:
            remind(plan, f"Start {label!r}", "this training heeds no companions.")
    say(f"{shown(rows)}\nThe numbers are in {os.path.relpath(folder / FILE)}")
    if len(done := [_accuracies(path / FILE) for path in siblings() if (path / FILE).is_file()]) > 1:
        say(f"\nOver {len(done)} runs, after the last epoch:\n{spread(done)}")


@contextmanager
def _on_one_thread() -> Iterator[None]:
    """A net this small gains nothing from more, loses much on a busy machine, and sums in one order everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Trial:
    """A model, digits, and how long to train.

    Attributes:
        model: as it was built; never trained itself.
        train: to train on.
        test: to measure on.
        freeze: patterns of parameters that are not trained.
        epochs: how often to see every image.
        advance: told of every step.
    """

    model: nn.Module
    train: Digits
    test: Digits
    freeze: list[str]
    epochs: int
    advance: Callable[[int], None] = field(default=lambda _: None)

    @property
    def steps(self) -> int:
        """How many steps one training takes."""
        return self.epochs * -(-len(self.train.labels) // BATCH)

    def start(self, plan: Plan | None, seed: int, masks: Masks | None = None) -> nn.Module:
        """The model again, reinitialized by a plan, and zero for good where a mask is."""
        model = copy.deepcopy(self.model)
        if plan is not None:
            apply(plan, seed, module=model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not any(fnmatchcase(name, pattern) for pattern in self.freeze)
        for name, mask in (masks or {}).items():
            pruned = model.get_parameter(name)
            pruned.data = pruned.data * mask
            pruned.register_hook(mask.mul)  # type: ignore[no-untyped-call]  # Adam moves nothing without gradient
        return model

    def fit(self, model: nn.Module, seed: int) -> list[float]:
        """Train a model in place by Adam, and measure before the first epoch and after each.

        Args:
            model: what to train.
            seed: of the order of the images.

        Returns:
            Accuracies on the test images, one more than there are epochs.
        """
        order = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
        accuracies = [accuracy(model, self.test)]
        for _ in range(self.epochs):
            model.train()
            for batch in torch.split(torch.randperm(len(self.train.labels), generator=order), BATCH):
                optimizer.zero_grad()
                torch.autograd.backward(
                    cross_entropy(_answers(model, self.train.images[batch]), self.train.labels[batch])
                )
                optimizer.step()
                self.advance(1)
            accuracies.append(accuracy(model, self.test))
        return accuracies


def _check_freeze(trial: Trial) -> None:
    """Refuse patterns that freeze nothing, and patterns that freeze everything."""
    names = [name for name, _ in trial.model.named_parameters()]
    idle = [pattern for pattern in trial.freeze if not any(fnmatchcase(name, pattern) for name in names)]
    if idle:
        raise InitframeError(*(f"freeze: {p!r} matches no parameter. {closest(p, names)}".rstrip() for p in idle))
    if all(any(fnmatchcase(name, pattern) for pattern in trial.freeze) for name in names):
        raise InitframeError(f"freeze {trial.freeze} leaves nothing to train. Leave a layer out, as the head.")


def _rows(trial: Trial, label: str, plan: Plan | None, job: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """One start trained; where ``prune`` asks for it, its lottery ticket too, and the same mask on other numbers."""
    seed, share = job["seed"], job["prune"]
    model = trial.start(plan, seed)
    yield label, trial.fit(model, seed)
    if share:
        masks = largest(model, 1 - share)
        for words, again in (("same seed", seed), ("other seed", seed ^ 1)):
            yield f"{label}, {1 - share:.0%} left, {words}", trial.fit(trial.start(plan, again, masks), seed)


def largest(model: nn.Module, share: float) -> Masks:
    """Where the largest weights of each matrix and kernel are (Frankle & Carbin 2019).

    >>> net = nn.Linear(4, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, -3.0, 2.0, 0.0]]))
    >>> largest(net, 0.5)["weight"].tolist()
    [[False, True, True, False]]
    """
    weights = {name: p.detach().abs() for name, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    return {name: size >= _threshold(size.flatten(), share) for name, size in weights.items()}


def _threshold(sizes: Tensor, share: float) -> Tensor:
    kept = max(1, round(share * len(sizes)))
    return sizes.kthvalue(len(sizes) - kept + 1).values


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """The share of digits that a model reads right."""
    model.eval()
    return float((_answers(model, digits.images).argmax(1) == digits.labels).float().mean())


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    """What a model says about images: a number for each of ten digits, or it cannot be trained here."""
    name, fix = type(model).__name__, "Train a model that does, such as model=digits_cnn."
    try:
        answers = model(images)
    except Exception as error:
        fact = f"{type(error).__name__}: {error}"
        raise InitframeError(f"{name} does not read images of shape {list(images.shape)}: {fact}. {fix}") from error
    if not isinstance(answers, Tensor):
        raise InitframeError(f"{name} gives a {type(answers).__name__}, not ten numbers for each image. {fix}")
    if answers.ndim != 2 or answers.shape[0] != len(images) or answers.shape[1] < CLASSES:
        shapes = f"{list(answers.shape)} for {len(images)} images"
        raise InitframeError(f"{name} gives numbers of shape {shapes}, not ten for each. {fix}")
    return answers


def shown(rows: Rows) -> str:
    """Accuracies as a table: a row for each start, a column for each epoch."""
    epochs = max(len(row) for row in rows.values())
    columns = ("start", "before", *(f"epoch {epoch}" for epoch in range(1, epochs)))
    return table(columns, [(label, *(f"{share:.3f}" for share in row)) for label, row in rows.items()])


def spread(runs: list[Rows]) -> str:
    """Last accuracies over several runs as a table: mean, lowest, highest."""
    last = {label: torch.tensor([run[label][-1] for run in runs if label in run]) for label in runs[-1]}
    cells = [(label, *(f"{value:.3f}" for value in (x.mean(), x.min(), x.max()))) for label, x in last.items()]
    return table(("start", "mean", "lowest", "highest"), cells)


def _accuracies(path: Path) -> Rows:
    rows: Rows = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
    return rows


def main() -> None:
    """The console command ``initframe-train``."""
    hydra_job("train", run)


if __name__ == "__main__":
    main()
