"""Every attack as a call that must be refused: what it is, and how it is done in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import initframe
from initframe import models
from initframe.applying.load_checkpoint import load_checkpoint
from initframe.files.reading import open_file
from tests.attacks.files import ARCHIVES, INDEX_TEXTS, INDEXES, SAFETENSORS
from tests.attacks.texts import CODE, HARMLESS, MAPPINGS, PATHS, PATTERNS, YAML


class Attack(NamedTuple):
    """An attack.

    Attributes:
        name: what it is.
        run: does it in an empty folder; raises an InitframeError.
        model: what it would change.
    """

    name: str
    run: Callable[[Path], object]
    model: nn.Module


def net() -> nn.Module:
    """Make a small model with long names."""
    model = nn.Sequential(nn.Linear(4, 4))
    model.add_module("a" * 500, nn.Linear(2, 2))
    return model


def every() -> Iterator[Attack]:
    """Give all attacks."""
    yield from _recipes(
        "expression", [{"rules": {"*": {"init": "normal", "std": code}}} for code in CODE if code not in HARMLESS]
    )
    yield from _recipes(
        "condition",
        [{"rules": {"*": {"init": "zeros", "where": f"{code} > 1"}}} for code in CODE[:40] if code not in HARMLESS],
    )
    yield from _recipes(
        "pattern", [{"rules": {"w": {"match": text, "init": "zeros"}}} for text in PATTERNS if text != "*" * 999]
    )
    yield from _recipes("mapping", MAPPINGS)
    yield from _recipes("path", [{"rules": {"*": {"init": "pretrained", "path": path}}} for path in PATHS])
    yield from _recipes(
        "selection", [{"rules": {"*": {"init": "weight_selection", "path": path}}} for path in PATHS[:8]]
    )
    for text in YAML:
        yield Attack(f"yaml: {text[:40]!r}", partial(_yaml, text), net())
    for kind, files in (("torch", ARCHIVES), ("safetensors", SAFETENSORS)):
        for name, write in files.items():
            model = net()
            yield Attack(f"{kind}: {name}", partial(_file, write, model), model)
    for name, data in {**INDEXES, **INDEX_TEXTS}.items():
        model = net()
        yield Attack(f"index: {name}", partial(_index, data, model), model)
    for source in SOURCES:
        yield Attack(f"model: {str(source)[:80]}", lambda _, source=source: models.build(source), net())


def _recipes(kind: str, recipes: Any) -> Iterator[Attack]:
    for recipe in recipes:
        model = net()
        run = partial(initframe.reinit, model, recipe)
        yield Attack(f"{kind}: {str(recipe)[:80]!r}", lambda _, run=run: run(), model)


def _yaml(text: str, folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    initframe.reinit(net(), path)


def _file(write: Callable[[Path], None], model: nn.Module, folder: Path) -> None:
    """Read a checkpoint in every way; one that reads as tensors must fit no model."""
    path = folder / "file.ckpt"
    write(path)
    try:
        contents = open_file(path)
        contents.check()
    finally:
        rule = {"match": "*", "init": "weight_selection", "path": str(path)}
        initframe.reinit(model, {"rules": {"r": rule}})
    load_checkpoint(model, path)


def _index(data: Any, model: nn.Module, folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    load_checkpoint(model, path)


_RESNET = {"source": "torchvision", "name": "resnet18"}
SOURCES: tuple[dict[str, Any], ...] = (
    {**_RESNET, "_target_": "os.system"},
    {**_RESNET, "arguments": {"norm_layer": {"_target_": "os.system"}}},
    {**_RESNET, "arguments": {"num_classes": "${oc.env:HOME}"}},
    {**_RESNET, "name": "os.system"},
    {**_RESNET, "name": "__class__"},
    {**_RESNET, "name": "../resnet18"},
    {**_RESNET, "name": "x" * 10**6},
    {**_RESNET, "name": "resnet18\x1b[2J"},
    {**_RESNET, "name": 3},
    {**_RESNET, "weights": "os.system"},
    {**_RESNET, "checkpoint": "/etc/passwd"},
    {**_RESNET, "checkpoint": "/dev/zero"},
    {"source": "os", "name": "system"},
    {"source": "subprocess", "name": "call"},
    {"source": "x" * 10**6, "name": "y"},
    {"source": None},
    {},
)

torch.manual_seed(0)
