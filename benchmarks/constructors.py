"""Constructors of real models: all of torchvision, one of each family of timm and of transformers at full size."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from torch import nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

Build = Callable[[], nn.Module]


def torchvision() -> Iterator[tuple[str, Build]]:
    """Every model that torchvision lists, with no part trained."""
    from torchvision import models
    from zoo.test_torchvision import ARGUMENTS

    for name in models.list_models():
        words = ARGUMENTS["weights_backbone"][1]
        quiet = {"weights_backbone": None} if any(word in name for word in words) else {}
        yield name, partial(models.get_model, name, weights=None, **quiet)


def timm() -> Iterator[tuple[str, Build]]:
    """The first model of each family of timm."""
    import timm as library

    for family in library.list_modules():
        for name in library.list_models(module=family)[:1]:
            yield name, partial(library.create_model, name)


def transformers() -> Iterator[tuple[str, Build]]:
    """One model of each family of transformers, from its default configuration at full size."""
    import transformers as library
    from zoo.test_transformers import FAMILIES, NEEDED, UNBUILT, model_class

    library.logging.set_verbosity(library.logging.CRITICAL)
    for family in FAMILIES:
        if family not in UNBUILT:
            cls = model_class(family)
            yield family, partial(lambda cls, given: cls(cls.config_class(**given)), cls, NEEDED.get(family, {}))


def few_layers() -> Iterator[tuple[str, Build]]:
    """One model of each family of transformers with two layers of each kind."""
    import transformers as library
    from zoo.test_transformers import FAMILIES, INDIVISIBLE, NEEDED, UNBUILT, model_class, shrink

    def build(family: str) -> nn.Module:
        cls = model_class(family)
        config = cls.config_class(**NEEDED.get(family, {}))
        return cls(config if family in INDIVISIBLE else shrink(config))

    library.logging.set_verbosity(library.logging.CRITICAL)
    for family in FAMILIES:
        if family not in UNBUILT:
            yield family, partial(build, family)


LIBRARIES: dict[str, Callable[[], Iterator[tuple[str, Build]]]] = {
    name: models
    for name, models in {"torchvision": torchvision, "timm": timm, "transformers": transformers}.items()
    if find_spec(name)
}


def families(library: str) -> Iterator[tuple[str, Build]]:
    """The models of a library, those of transformers with few layers."""
    return few_layers() if library == "transformers" else LIBRARIES[library]()
