"""Models by name: what a job config asks for → nn.Module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from initframe.errors import SourceError, closest

KEYS = ("source", "name", "weights", "arguments")


def build(spec: Mapping[str, Any]) -> nn.Module:
    """Build a model from plain data.

    Args:
        spec: ``source`` (a library this module knows), ``name`` (the library's name for the model), ``weights``
            (the library's name for trained weights, or null), ``arguments`` (numbers, texts and flags for the
            library's constructor). Nothing else: a model config names code, it cannot be code.

    Returns:
        The model, as the library makes it.

    Raises:
        SourceError: an unknown source, model, key or argument; the message has the closest names.

    >>> type(build({"source": "torchvision", "name": "squeezenet1_1"})).__name__
    'SqueezeNet'
    """
    problems = [f"unknown key model.{key}. {closest(key, KEYS)}" for key in spec if key not in KEYS]
    source, name = spec.get("source"), spec.get("name")
    if source not in _SOURCES:
        problems.append(f"unknown model.source {source!r}. {closest(str(source), _SOURCES)}")
    if not isinstance(name, str):
        problems.append("model.name is missing: name a model, as in model=torchvision model.name=resnet18.")
    arguments = spec.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        problems.append(f"model.arguments is a mapping of constructor arguments, got {arguments!r}.")
    if problems:
        raise SourceError(*problems)
    return _SOURCES[str(source)](str(name), spec.get("weights"), arguments)


def _torchvision(name: str, weights: Any, arguments: Mapping[str, Any]) -> nn.Module:
    """Any name that ``torchvision.models.list_models()`` has."""
    from torchvision import models  # noqa: PLC0415

    if name not in models.list_models():
        raise SourceError(f"torchvision has no model {name!r}. {closest(name, models.list_models())}")
    known = inspect.signature(models.get_model_builder(name)).parameters
    # Detection and segmentation models fetch a trained backbone unless told not to.
    quiet = {"weights_backbone": None} if "weights_backbone" in known and "weights_backbone" not in arguments else {}
    try:
        model: nn.Module = models.get_model(name, weights=weights, **quiet, **arguments)
    except (TypeError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise SourceError(
            f"torchvision cannot build {name} with {dict(arguments)}, weights {weights}: {error}"
        ) from error
    return model


_SOURCES: dict[str, Callable[[str, Any, Mapping[str, Any]], nn.Module]] = {"torchvision": _torchvision}
