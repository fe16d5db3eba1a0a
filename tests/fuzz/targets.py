"""What is fuzzed: for each kind of input, how one is made and what is done with it."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import initframe
from initframe.applying.load_checkpoint import load_checkpoint
from initframe.errors import InitframeError
from initframe.files.reading import open_file
from initframe.files.shards import list_files
from initframe.limits import MESSAGE_CHARACTERS, SHOWN_CHARACTERS
from initframe.plan.manifest import manifest
from initframe.recipe.expressions import FUNCTIONS, parse
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.rename import rename
from tests.fuzz import words
from tests.nets import as_bytes
from tests.trees import DTYPES, LAYERS

LONGEST_MESSAGE = MESSAGE_CHARACTERS + 8 * SHOWN_CHARACTERS


class Target(NamedTuple):
    """A kind of input.

    Attributes:
        make: makes one as bytes, from a generator.
        run: does with one, and an empty folder, what a user would; raises whatever goes wrong.
    """

    make: Callable[[random.Random], bytes]
    run: Callable[[bytes, Path], object]


class ChangedError(AssertionError):
    """A call raised, and its model is not what it was."""


def check(call: Callable[[], object], model: nn.Module | None = None) -> None:
    """Do a call; an error of ours is fine if its message is harmless and the model is as it was.

    Raises:
        Exception: any other.
        ChangedError: the model has changed, or the message is none for a terminal.
    """
    before = _bits(model)
    try:
        call()
    except InitframeError as error:
        text = str(error)
        if len(text) > LONGEST_MESSAGE or not text.replace("\n", "").isprintable():
            raise ChangedError(f"a message of {len(text)} characters: {text[:200]!r}") from error
        if _bits(model) != before:
            raise ChangedError(text) from error


def _bits(model: nn.Module | None) -> dict[str, bytes]:
    if model is None:
        return {}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    real = {name: tensor.detach() for name, tensor in tensors.items() if not nn.parameter.is_lazy(tensor)}
    return {name: as_bytes(value).numpy().tobytes() for name, value in real.items()}


# --- texts -----------------------------------------------------------------------------------------------------------


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _run_expression(content: bytes, _: Path) -> None:
    facts = {"fan_in": 64, "fan_out": 3, "ndim": 2, "numel": 0, "d0": 2, "layer": 1, **FUNCTIONS}
    check(lambda: parse(_text(content)).evaluate(facts))


def _run_pattern(content: bytes, _: Path) -> None:
    text = _text(content)
    for name in ("a.b.c.12.weight", "0." * 50):
        check(lambda name=name: (compile_pattern(text).match(name), rename(name, text, text)))  # type: ignore[misc]


def _make_yaml(rng: random.Random) -> bytes:
    text = rng.choice(_presets())
    return words.flipped(rng, text.encode()) if rng.random() < 0.3 else _encoded(words.mutated(rng, text, words.ODD))


@cache
def _presets() -> tuple[str, ...]:
    files = initframe.recipe.presets.presets().values()
    return tuple(text for path in files if len(text := path.read_text(encoding="utf-8")) < 2_000)


def _run_yaml(content: bytes, folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    check(lambda: initframe.load_recipe(path))


# --- recipes and models ----------------------------------------------------------------------------------------------


def _make_recipe(rng: random.Random) -> bytes:
    return json.dumps([rng.randrange(2), words.recipe(rng)]).encode()


def _run_recipe(content: bytes, _: Path) -> None:
    which, recipe = json.loads(content)
    _fill(_small() if which else _wide(), recipe)


def _fill(model: nn.Module, recipe: Any) -> None:
    """Do with a recipe what there is to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(lambda: str(initframe.load_recipe(recipe).to_yaml()), model)
        check(lambda: str(initframe.resolve(recipe, model)), model)
        check(lambda: str(initframe.reinit(model, recipe, seed=1, measure=True)), model)


def _small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def _wide() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    return nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Embedding(5, 3, padding_idx=0), layer, nn.LSTM(2, 2))


def _make_tree(rng: random.Random) -> bytes:
    def module(depth: int) -> list[Any]:
        children = []
        for _ in range(rng.randrange(4)):
            name = (
                rng.choice(words.ODD) if rng.random() < 0.3 else rng.choice(("a", "weight", "0", "norm", "_orig_mod"))
            )
            kind = rng.choice(("parameter", "buffer", "tie", "layer", *(["module"] * 2 if depth else [])))
            shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
            inner = module(depth - 1) if kind == "module" else rng.randrange(len(LAYERS)) if kind == "layer" else shape
            children.append([kind, name, inner, rng.randrange(len(DTYPES))])
        return children

    return json.dumps([module(3), words.recipe(rng, ("*", "a.*", "*weight*"))]).encode()


def _run_tree(content: bytes, _: Path) -> None:
    tree, recipe = json.loads(content)
    tensors: list[nn.Parameter] = []

    def build(children: Any) -> nn.Module:
        made = nn.Module()
        for kind, name, inner, dtype in children:
            if not name or "." in name or hasattr(made, name):
                continue
            if kind in ("module", "layer"):
                made.add_module(name, build(inner) if kind == "module" else LAYERS[inner]())
                continue
            if kind != "tie" or not tensors:
                new = torch.zeros(inner, dtype=DTYPES[dtype])
                tensors.append(nn.Parameter(new, requires_grad=new.is_floating_point()))
            if kind == "buffer":
                made.register_buffer(name, tensors[-1].detach())
            else:
                made.register_parameter(name, tensors[-1])
        return made

    _fill(build(tree), recipe)


# --- files -----------------------------------------------------------------------------------------------------------


@cache
def _state() -> dict[str, torch.Tensor]:
    return {**_small().state_dict(), "half": torch.zeros(3, dtype=torch.bfloat16), "empty": torch.zeros(0, 2)}


@cache
def _safetensors() -> bytes:
    from safetensors.torch import save

    return save(_state())


def _make_safetensors(rng: random.Random) -> bytes:
    content = _safetensors()
    if rng.random() < 0.5:  # the header as data
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        name = rng.choice(sorted(header))
        entry = header.pop(name)
        if rng.random() < 0.7:
            key = rng.choice(("dtype", "shape", "data_offsets"))
            numbers = (0, 1, -1, 4, 48, 2**31, 2**32, 2**63, 2**64, 1.5, None, "F32", [], 2**62)
            odd = rng.choice((rng.choice(numbers), [rng.choice(numbers) for _ in range(rng.randrange(4))]))
            header[name] = {**entry, key: odd} if isinstance(entry, dict) else odd
        header[words.word(rng)] = rng.choice((entry, {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}))
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    return words.flipped(rng, content) if rng.random() < 0.6 else content


@cache
def _torch(kind: int) -> bytes:
    states: tuple[Any, ...] = (
        _state(),
        {"state_dict": _state(), "epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(())}}, "groups": [1.5]}},
        {"0.weight": torch.zeros(3).expand(4, 3), "0.bias": nn.Parameter(torch.ones(4)), "set": {1, 2}, "b": b"\xff"},
    )
    file = io.BytesIO()
    torch.save(states[kind], file)
    return file.getvalue()


_STEPS = (*(b"\x85R", b"R", b"}", b"]", b")", b"\x85", b"(", b"u"), *(b"s", b"a", b"0", b"2", b"Q", b"b", b"N", b"q\1"))
_GLOBALS = (
    *("os system", "builtins bytearray", "torch FloatStorage", "torch.storage UntypedStorage", "torch Size"),
    *("collections OrderedDict", "torch._utils _rebuild_qtensor", "torch load", "_codecs encode", "torch float32"),
)
_LARGE = (b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x0f", b"G" + b"\x7f" * 8)
_ARGUMENTS = (*_LARGE, b"K\5", b"X\2\0\0\0hi", b"N")


def _make_torch(rng: random.Random) -> bytes:
    content = _torch(rng.randrange(3))
    if rng.random() < 0.2:
        return words.flipped(rng, content)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            part = old.read(info)
            last = info.filename.partition("/")[2]
            if last == "data.pkl":
                part = _pickle(rng, part)
            elif rng.random() < 0.05:
                part = rng.choice((b"", b"big", part[:1], part * 2, words.flipped(rng, part) if part else b""))
            if rng.random() > 0.02:
                new.writestr(zipfile.ZipInfo(info.filename), part)
            if rng.random() < 0.01:
                name = words.word(rng).encode(errors="replace").decode()  # a zip file has no halves of characters
                new.writestr(zipfile.ZipInfo(f"archive/{name}"), part)
    content = file.getvalue()
    return words.flipped(rng, content) if rng.random() < 0.1 else content


def _pickle(rng: random.Random, part: bytes) -> bytes:
    """Change a pickle: bytes, or steps that are put in."""
    if rng.random() < 0.5:
        return words.flipped(rng, part)
    at = rng.randrange(2, len(part))
    named = b"c" + rng.choice(_GLOBALS).replace(" ", "\n").encode() + b"\n"
    put = b"".join(rng.choice((named, rng.choice(_ARGUMENTS), rng.choice(_STEPS))) for _ in range(rng.randrange(1, 6)))
    return part[:at] + put * rng.choice((1, 1, 1, 300)) + part[at:]


def _run_file(content: bytes, folder: Path) -> None:
    path = folder / "model.ckpt"
    path.write_bytes(content)
    model = _small()

    def read() -> None:
        contents = open_file(path)
        contents.check()
        for name, tensor in contents.values().items():
            assert tuple(tensor.shape) == contents.entries[name].shape

    check(read)
    check(lambda: load_checkpoint(model, path), model)
    rule = {"match": "*", "init": "pretrained", "path": str(path), "shapes": "decline"}
    check(lambda: initframe.reinit(model, {"rules": {"r": rule}, "unused": "warn"}, seed=0), model)


def _make_index(rng: random.Random) -> bytes:
    return words.flipped(rng, json.dumps({"weight_map": {"0.weight": "a.safetensors", words.word(rng): "b"}}).encode())


def _run_index(content: bytes, folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    path.write_bytes(content)
    check(lambda: list_files(path))


@cache
def _manifest() -> str:
    return json.dumps(manifest(initframe.reinit(_small(), "xavier_relu", seed=1, measure=True)))


def _make_manifest(rng: random.Random) -> bytes:
    text = _manifest()
    if rng.random() < 0.5:
        return words.flipped(rng, text.encode())
    data = json.loads(text)
    key = rng.choice(sorted(data))
    data[key] = words.value(rng)
    if rng.random() < 0.5 and isinstance(data["tensors"], list):
        for tensor in data["tensors"]:
            if isinstance(tensor, dict) and tensor:
                tensor[rng.choice(sorted(tensor))] = words.value(rng)
    return json.dumps(data).encode()


def _run_manifest(content: bytes, folder: Path) -> None:
    """Read what a manifest says: as a file, and its recipe as a recipe."""
    path = folder / "manifest.json"
    path.write_bytes(content)
    for reader in ("regenerate", "verify"):
        if function := getattr(initframe, reader, None):
            model = _small()
            arguments = (path,) if reader == "regenerate" else (path, model)
            check(lambda function=function, arguments=arguments: function(*arguments), model)  # type: ignore[misc]
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return
    if isinstance(data, dict) and isinstance(data.get("recipe"), dict):
        check(lambda: initframe.resolve(data["recipe"], _small()))


TARGETS = {
    "expressions": Target(lambda rng: _encoded(words.expression(rng)), _run_expression),
    "patterns": Target(lambda rng: _encoded(words.pattern(rng)), _run_pattern),
    "yaml": Target(_make_yaml, _run_yaml),
    "recipes": Target(_make_recipe, _run_recipe),
    "trees": Target(_make_tree, _run_tree),
    "safetensors": Target(_make_safetensors, _run_file),
    "torch": Target(_make_torch, _run_file),
    "indexes": Target(_make_index, _run_index),
    "manifests": Target(_make_manifest, _run_manifest),
}
