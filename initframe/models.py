"""Build models by name: plain data of a job config → nn.Module."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from initframe.applying.load_checkpoint import load_checkpoint
from initframe.errors import Problem, SourceError, closest, shown
from initframe.limits import machine_memory
from initframe.recipe.plain import CODE_KEYS
from initframe.signal.caches import on_meta

Arguments = Mapping[str, Any]
AnyBuilder = TypeVar("AnyBuilder", bound=Callable[..., nn.Module])

KEYS = ("source", "name", "weights", "checkpoint", "entry", "arguments")
MISSING = "???"

_OWN: dict[str, Callable[..., nn.Module]] = {}


def build(spec: Mapping[str, Any]) -> nn.Module:
    """Build a model from plain data.

    Args:
        spec: plain data and nothing else, because a model config names code and cannot be code.
            ``source``: a library this module knows.
            ``name``: the library's name for the model.
            ``weights``: torchvision's name for trained weights, or null.
            ``checkpoint``: a file of trained weights, a folder of them, or the index of a sharded checkpoint; it
            replaces ``weights``. Or null.
            ``entry``: which part of a training file to read (``state_dict_ema``), or null for the usual one.
            ``arguments``: numbers, texts, flags and lists for the library's constructor.

    Returns:
        The model, as the library makes it, with the trained values that were asked for.

    Raises:
        SourceError: an unknown source, model, key or argument, a package that is not installed, or a checkpoint
            that cannot be had; the message has the closest names.

    >>> type(build({"source": "torchvision", "name": "squeezenet1_1"})).__name__
    'SqueezeNet'
    """
    if problems := list(_problems(spec)):
        raise SourceError(*problems)
    checkpoint = spec.get("checkpoint")
    weights = spec.get("weights") if checkpoint is None else None
    model = _SOURCES[spec["source"]](spec["name"], weights, spec.get("arguments") or {})
    if checkpoint is not None:
        path = Path(os.path.expanduser(checkpoint))  # noqa: PTH111  # Path's own fails for ~nobody
        load_checkpoint(model, path, spec.get("entry"))
    return model


def model(name: str) -> Callable[[AnyBuilder], AnyBuilder]:
    """Register your own model, for ``plugins=[my_module] model=plugin model.name=…``.

    Args:
        name: what the config will call it.

    Returns:
        A decorator for the class or the function that builds the model; it returns it unchanged.

    >>> @model("tiny")
    ... def tiny(width: int = 2):
    ...     return nn.Linear(width, 1)
    >>> build({"source": "plugin", "name": "tiny", "arguments": {"width": 3}}).in_features
    3
    """

    def register(builder: AnyBuilder) -> AnyBuilder:
        _OWN[name] = builder
        return builder

    return register


# --- what a config may say -------------------------------------------------------------------------------------------


def _problems(spec: Mapping[str, Any]) -> Iterator[Problem]:
    """Find all that is wrong with a config before any library is asked."""
    strangers = list(_strangers(spec, "model"))
    yield from strangers
    refused = CODE_KEYS if strangers else ()
    for key in spec:
        if key not in (*KEYS, *refused):
            yield Problem("", f"unknown key model.{key}.", closest(key, KEYS))
    given = {key: None if value == MISSING else value for key, value in spec.items()}
    source, entry, checkpoint = given.get("source"), given.get("entry"), given.get("checkpoint")
    if not isinstance(source, str) or source not in _SOURCES:
        yield Problem("", f"unknown model.source {shown(source)}.", closest(str(source), _SOURCES))
    if not isinstance(given.get("name"), str):
        yield Problem("model.name", "it is missing.", fix="Name a model, as in model=torchvision model.name=resnet18.")
    if checkpoint == "" or not isinstance(checkpoint, str | None):
        yield Problem("model.checkpoint", f"got {shown(checkpoint)}, not the path of a file.", fix="Or write null.")
    if entry == "" or not isinstance(entry, str | None):
        yield Problem("model.entry", f"got {shown(entry)}, not a part of a training file.", fix="Or write null.")
    elif entry is not None and checkpoint is None:
        yield Problem("model.entry", "there is no model.checkpoint to read it from.", fix="Give one, or write null.")
    arguments = given.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        yield Problem("model.arguments", f"got {shown(arguments)}.", "It is a mapping of constructor arguments.")


def _strangers(data: Any, path: str) -> Iterator[Problem]:
    """Find what has no place in data: keys that name code, and interpolations, which read from outside."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key in CODE_KEYS:
                yield Problem(f"{path}.{key}", "it is refused: a model config names a known model and no code.")
            yield from _strangers(value, f"{path}.{key}")
    elif isinstance(data, list | tuple):
        for i, value in enumerate(data):
            yield from _strangers(value, f"{path}[{i}]")
    elif isinstance(data, str) and "${" in data:
        fact = f"it is {shown(data)}; a model config reads nothing from outside."
        yield Problem(path, fact, fix="Write the value.")


# --- the libraries ---------------------------------------------------------------------------------------------------


def _torchvision(name: str, weights: Any, arguments: Arguments) -> nn.Module:
    """Any name that ``torchvision.models.list_models()`` has."""
    from torchvision import models  # noqa: PLC0415

    _check_name("torchvision", name, models.list_models())
    trained = {"DEFAULT", *(one.name for one in models.get_model_weights(name))}
    if weights is not None and str(weights).rpartition(".")[2] not in trained:
        fact = f"torchvision has no weights {shown(weights)} for {name}."
        raise SourceError(Problem("model.weights", fact, closest(str(weights), trained)))
    known = inspect.signature(models.get_model_builder(name)).parameters
    # Detection and segmentation models fetch a trained backbone unless told not to.
    quiet = {"weights_backbone": None} if "weights_backbone" in known and "weights_backbone" not in arguments else {}
    return _built("torchvision", name, lambda: models.get_model(name, weights=weights, **quiet, **arguments))


def _timm(name: str, weights: Any, arguments: Arguments) -> nn.Module:
    """Any name that ``timm.list_models()`` has, without trained weights."""
    timm = _installed("timm", "timm")
    _refuse_weights("timm", weights)
    _check_name("timm", name, timm.list_models())
    if loading := sorted({"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"} & {*arguments}):
        fix = "Give trained values by model.checkpoint=FILE."
        raise SourceError(Problem(f"model.arguments.{loading[0]}", "it is refused: it reads a file.", fix=fix))
    return _built("timm", name, lambda: timm.create_model(name, pretrained=False, **arguments))


def _transformers(name: str, weights: Any, arguments: Arguments) -> nn.Module:
    """A model type (``gpt2``, the bare model) or a class of transformers (``GPT2LMHeadModel``), from its config."""
    transformers = _installed("transformers", "transformers")
    _refuse_weights("transformers", weights)
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    tables = [vars(auto)[key] for key in sorted(vars(auto)) if key.endswith("MAPPING_NAMES") and "MODEL" in key]
    classes = {cls: kind for table in tables for kind, found in table.items() for cls in _listed(found)}
    bare = {kind: _listed(found)[0] for kind, found in auto.MODEL_MAPPING_NAMES.items()}
    _check_name("transformers", name, {*bare, *classes})

    if problems := list(_unsupported(arguments)):
        raise SourceError(*problems)

    def configured() -> Any:
        return transformers.AutoConfig.for_model(classes.get(name, name), **arguments)

    def make() -> nn.Module:
        with _default_dtype(arguments.get("dtype")):
            made: nn.Module = getattr(transformers, bare.get(name, name))(configured())
        return made

    if ignored := list(_ignored(_built("transformers", name, configured), arguments)):
        raise SourceError(*ignored)
    _check_size(name, make)
    return _built("transformers", name, make)


FLOATS = ("float32", "bfloat16", "float16", "float64")
"""What ``model.arguments.dtype`` may be."""


def _unsupported(arguments: Arguments, path: str = "model.arguments") -> Iterator[Problem]:
    """Find arguments that a config takes and only ``from_pretrained`` reads, and those that fetch code."""
    for key, value in arguments.items():
        if key == "torch_dtype" or (key == "dtype" and path != "model.arguments"):
            fix = "Write model.arguments.dtype, for the whole model."
            yield Problem(f"{path}.{key}", "no constructor reads it.", fix=fix)
        elif key == "dtype" and value is not None and value not in FLOATS:
            yield Problem(f"{path}.{key}", f"got {shown(value)}.", f"Options: {', '.join(FLOATS)}.")
        elif key.endswith("_implementation") and "/" in str(value):
            fact = f"{shown(value)} is refused: it names code to fetch."
            yield Problem(f"{path}.{key}", fact, fix="Name an implementation of the library, such as sdpa or eager.")
        elif isinstance(value, Mapping):
            yield from _unsupported(value, f"{path}.{key}")


@contextmanager
def _default_dtype(name: str | None) -> Iterator[None]:
    """Build in a dtype: a constructor takes torch's default one, whatever its config says."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(before if name is None else getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _ignored(config: Any, arguments: Arguments, path: str = "model.arguments") -> Iterator[Problem]:
    """Find arguments that a config of transformers takes and no model reads: its class has no such attribute."""
    try:
        usual = type(config)()
    except Exception:  # noqa: BLE001  # some are made of others, and have no defaults
        return
    known = {*vars(usual), *usual.attribute_map}
    parts = {key: part for key, part in vars(config).items() if hasattr(part, "attribute_map")}
    inside = {f"{key}.{name}" for key, part in parts.items() for name in (*vars(part), *part.attribute_map)}
    for key, value in arguments.items():
        if key in vars(config) and key not in known and key not in dir(type(config)):
            options = closest(key, (name for name in known | inside if not name.startswith("_")))
            yield Problem(f"{path}.{key}", f"{type(config).__name__} has no {key}.", options)
        elif key in parts and isinstance(value, Mapping):
            yield from _ignored(parts[key], value, f"{path}.{key}")


def _digits(name: str, weights: Any, arguments: Arguments) -> nn.Module:
    """``digits_cnn``: a small convolutional net for digits, with the trained weights that its package ships."""
    _check_name("digits", name, ["digits_cnn"])
    package = _installed("digit_recognizer", "digits")
    net: nn.Module = _built("digit_recognizer", name, lambda: package.CNN(**arguments))
    if weights is not None:
        with resources.as_file(resources.files(package) / "models" / "handwriting_model.pth") as path:
            load_checkpoint(net, path)
    return net


def _plugin(name: str, weights: Any, arguments: Arguments) -> nn.Module:
    """A model that a plugin registered."""
    _refuse_weights("plugin", weights)
    if not _OWN:
        fact = f"no plugin has registered a model, so there is no {shown(name)}."
        raise SourceError(Problem("model.name", fact, fix="Name the module that does: plugins=[my_module]."))
    _check_name("plugins=[…]", name, _OWN)
    made: object = _built("plugin", name, lambda: _OWN[name](**arguments))
    if not isinstance(made, nn.Module):
        fact = f"it returns {shown(made)}, which is no torch.nn.Module."
        raise SourceError(Problem(f"model {name!r} of a plugin", fact, fix="Return the model that it builds."))
    return made


_SOURCES: dict[str, Callable[[str, Any, Arguments], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "transformers": _transformers,
    "digits": _digits,
    "plugin": _plugin,
}


def _installed(package: str, extra: str) -> Any:
    """Import an optional package, or say which extra brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        fix = f"Install it: pip install 'initframe[{extra}]'"
        raise SourceError(Problem(f"package {package}", f"it cannot be imported: {error}.", fix=fix)) from error


def _check_name(source: str, name: str, known: Iterable[str]) -> None:
    options = set(known)
    if name not in options:
        raise SourceError(Problem("model.name", f"{source} has no model {shown(name)}.", closest(name, options)))


def _refuse_weights(source: str, weights: Any) -> None:
    if weights is not None:
        fact = f"got {shown(weights)}; only torchvision's models have names for trained weights, not {source}'s."
        raise SourceError(Problem("model.weights", fact, fix="Give a file: model.checkpoint=FILE."))


def _built(source: str, name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Call a library; what it raises becomes a problem of the config."""
    try:
        return make()
    except OSError as error:
        fact = f"{source} cannot fetch the weights of {name}: {error}."
        raise SourceError(Problem("model.weights", fact, fix="Give a file: model.checkpoint=FILE.")) from error
    except Exception as error:
        fact = f"{source} cannot build {name}: {type(error).__name__}: {error}"
        fix = "Change model.arguments, which are the constructor's."
        raise SourceError(Problem("", fact if fact.endswith(".") else f"{fact}.", fix=fix)) from error


def _check_size(name: str, make: Callable[[], nn.Module]) -> None:
    """Build a model without memory first: the default of a config may be larger than the machine."""
    if nn.Linear(1, 1).weight.is_meta:  # built without memory anyway
        return
    try:
        with on_meta():
            size = sum(tensor.nbytes for tensor in make().parameters())
    except Exception:  # noqa: BLE001  # not every model can be built so, and then it is just built
        return
    check_memory(name, size)


def check_memory(name: str, size: int) -> None:
    """Refuse a model that cannot fit, before the system ends the process without a word.

    Args:
        name: the model's, for the message.
        size: what will be allocated, in bytes.

    Raises:
        SourceError: it is more than the machine has.
    """
    memory = machine_memory()
    if size > memory:
        fact = f"it takes {size / 2**30:.0f} GiB; this machine has {memory / 2**30:.0f}."
        fix = (
            "Make it smaller by numbers of its config, as in +model.arguments.num_hidden_layers=2. dry_run=true plans "
            "it without memory, unless trained values are asked for."
        )
        raise SourceError(Problem(f"model {name}", fact, fix=fix))


def _listed(found: str | tuple[str, ...]) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else found
