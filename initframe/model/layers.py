"""What a module says about the tensors it owns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, NamedTuple

from torch import nn

from initframe.model.scripted import attributes, is_scripted, python_class


class Layer(NamedTuple):
    """A module, as facts.

    Attributes:
        types: class names of the module and its bases, most derived first.
        name: the class of torch.nn that it is or derives from, if any.
        settings: the plain numbers among its attributes.
        read_as: the layer as which its weights are read: ``name``, or ``"Conv1D"`` of transformers.
        groups: of a convolution.
        stride: of a convolution, one number per dimension.
        cls: the module's class.
    """

    types: tuple[str, ...] = ()
    name: str | None = None
    settings: Mapping[str, float] = {}  # never changed
    read_as: str | None = None
    groups: int = 1
    stride: tuple[int, ...] = ()
    cls: type | None = None

    def padding_row(self, attribute: str, shape: tuple[int, ...]) -> int | None:
        """Give the row of an embedding that stays zero, counted from the first."""
        if self.name not in ("Embedding", "EmbeddingBag") or attribute != "weight" or not shape:
            return None
        row, rows = self.settings.get("padding_idx"), shape[0]
        return int(row) % rows if rows and row is not None else None


EVERY_MODULES = frozenset(vars(nn.Module()))
"""Attributes that every module has: no layer's own facts, and most of what there is to look through."""


def read_layer(module: nn.Module) -> Layer:
    """Read a module's facts.

    Args:
        module: a module, without wrappers.

    Returns:
        Its facts; no tensor is looked at.

    >>> read_layer(nn.Conv2d(4, 8, 3, groups=2)).settings["groups"]
    2
    """
    cls, held = (python_class(module), attributes(module)) if is_scripted(module) else (type(module), vars(module))
    types, name, read_as = _read_class(cls)
    own = {key: value for key, value in held.items() if key not in EVERY_MODULES}
    settings = numbers(own)
    groups = max(int(settings["groups"]), 1) if "groups" in settings else 1
    return Layer(types, name, settings, read_as, groups, _read_stride(own["stride"]) if "stride" in own else (), cls)


def lost_modules(module: nn.Module) -> Iterator[str]:
    """Name a module's attributes that hold modules with parameters where torch does not look: lists, tuples, dicts.

    >>> layer = nn.Linear(2, 3)
    >>> layer.others = [nn.Linear(2, 3)]
    >>> list(lost_modules(layer))
    ['others']
    """
    for name, value in vars(module).items():
        if name not in EVERY_MODULES and type(value) in (list, tuple, dict) and value:
            held = value.values() if isinstance(value, dict) else value
            if any(isinstance(one, nn.Module) and next(one.parameters(), None) is not None for one in held):
                yield name


def _read_stride(value: object) -> tuple[int, ...]:
    """Read a convolution's stride; empty for other layers, and for a stride that no convolution can run with."""
    if not isinstance(value, tuple) or not all(isinstance(step, Integral) and int(step) > 0 for step in value):
        return ()
    return tuple(map(int, value))


@lru_cache(maxsize=512)
def _read_class(cls: type) -> tuple[tuple[str, ...], str | None, str | None]:
    """Name a class with its bases, its class of torch.nn, and the layer as which its weights are read."""
    bases = [base for base in cls.__mro__[:-1] if not _injected(base)]
    name = next((base.__name__ for base in bases if _public(base)), None)
    read_as = "Conv1D" if any(map(_is_transposed_linear, bases)) else name
    return tuple(base.__name__ for base in bases), name, read_as


def class_names(module: nn.Module) -> tuple[str, ...]:
    """Name a module's class and its bases, most derived first.

    >>> class_names(nn.Linear(2, 3))
    ('Linear', 'Module')
    """
    return _read_class(python_class(module))[0]


def title(module: nn.Module) -> str:
    """Name a model by its class, for messages.

    >>> title(nn.Linear(2, 3))
    'Linear'
    """
    return class_names(module)[0]


def read_config(model: nn.Module) -> dict[str, float]:
    """Collect the numbers of ``model.config``; none if there is no config.

    Args:
        model: a model, without wrappers.

    Returns:
        Finite numbers by name: a mapping's items or an object's attributes, and the further names that a
        transformers ``attribute_map`` gives them.

    >>> class Model(nn.Module):
    ...     config = {"d_model": 512, "dropout": 0.1, "use_cache": True}
    >>> read_config(Model())
    {'d_model': 512, 'dropout': 0.1}
    """
    cls = type(model)
    if "config" not in vars(model) and not hasattr(cls, "config") and cls.__getattr__ is nn.Module.__getattr__:
        return {}  # as most modules, which answer by an error, and that takes time
    config = _answer(model, "config")
    facts = numbers(_attributes(config))
    synonyms = _answer(config, "attribute_map")
    if isinstance(synonyms, Mapping):
        facts |= {word: facts[meant] for word, meant in synonyms.items() if meant in facts}
    return facts


def read_configs(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, Mapping[str, float]]:
    """Collect the numbers of the configs of a model: those of the outermost modules that have one.

    Args:
        modules: a model's modules, each with its prefix, before those inside of it.

    Returns:
        By prefix: the numbers, as of :func:`read_config`.

    >>> class Model(nn.Module):
    ...     config = {"d_model": 512}
    >>> read_configs([("", nn.Module()), ("net.", Model()), ("net.inner.", Model())])
    {'net.': {'d_model': 512}}
    """
    found: dict[str, Mapping[str, float]] = {}
    for prefix, module in modules:
        if not any(map(prefix.startswith, found)) and (config := read_config(module)):
            found[prefix] = config
    return found


def numbers(given: Mapping[Any, Any]) -> dict[str, float]:
    """Keep the finite ints and floats with public names.

    >>> numbers({"eps": 1e-5, "bias": True, "_version": 1, "limit": float("inf")})
    {'eps': 1e-05}
    """
    found: dict[str, float] = {}
    for name, value in given.items():
        cls: type = type(value)
        if (plain := _plain(cls)) is None or not isinstance(name, str) or not name.isidentifier() or name[0] == "_":
            continue
        if plain is int or math.isfinite(value):
            found[name] = plain(value)
    return found


@lru_cache(maxsize=512)
def _plain(cls: type) -> Callable[[Any], float] | None:
    """The plain class of a class of numbers, numpy's included; bools say yes or no, and count nothing."""
    if cls is bool or not issubclass(cls, Real):
        return None
    return int if issubclass(cls, Integral) else float


def _attributes(config: object) -> Mapping[Any, Any]:
    """Read the attributes of a config: a mapping, a dataclass or any object.

    A dataclass has its fields, also in slots; an instance may have further attributes, if a subclass set them.
    """
    if isinstance(config, Mapping):
        return config
    declared = [one.name for one in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    return {name: _answer(config, name) for name in (*declared, *getattr(config, "__dict__", {}))}


def _answer(thing: object, attribute: str) -> Any:
    """Ask for an attribute; a config may refuse one that its layers do not share (transformers' per-layer configs)."""
    try:
        return getattr(thing, attribute, None)
    except Exception:  # noqa: BLE001 - a property may raise anything; then there is no number
        return None


def _public(cls: type) -> bool:
    """Tell torch.nn's public layers from their private bases and from Module itself."""
    return cls is not nn.Module and getattr(nn, cls.__name__, None) is cls


def _injected(cls: type) -> bool:
    """Tell the classes that fully_shard and parametrizations put in front of a module's own."""
    return cls.__module__ == "torch.nn.utils.parametrize" or cls.__module__.startswith("torch.distributed.")


def _is_transposed_linear(cls: type) -> bool:
    """Recognize the transformers library's Conv1D, whose weight is (inputs, outputs)."""
    return cls.__name__ == "Conv1D" and cls.__module__.startswith("transformers.")
