"""A batch for a model, made from what the model says of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from initframe.errors import InitframeError, Problem
from initframe.model.parts import parts_of
from initframe.signal.batch import as_before
from initframe.signal.caches import on_meta

FRAMES = 16
"""The length of generated videos."""
TOKENS = 64
"""The length of generated sequences."""
SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512, 48, 16)
"""Sides of images that are tried for a model that names none: of ImageNet, CIFAR, MNIST, and then the usual others."""


def example(model: nn.Module, size: int = 4, seed: int = 0, device: str = "cpu") -> tuple[Any, str]:
    """Make a batch from a model's own specification: image size, vocabulary, number of features.

    Args:
        model: any module; if it takes images and tells no size, it is run on the meta device.
        size: how many inputs.
        seed: of the numbers: N(0, 1), or uniform tokens.
        device: ``"meta"`` for shapes alone.

    Returns:
        The batch, and in words what it was made from.

    Raises:
        InitframeError: the model says nothing of its inputs.

    >>> example(nn.Sequential(nn.Linear(5, 3)))[1]
    '4 × 5 numbers from N(0, 1), as the first layer (0) has inputs'
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    config = getattr(model, "config", None)
    for found in (_transformers(model, config, size), _timm(model, size), _first_layer(model, size)):
        if found is not None:
            shapes, words = found
            return {name: _made(shape, generator, device) for name, shape in shapes.items()} if shapes.keys() != {
                ""
            } else _made(shapes[""], generator, device), words
    fact = (
        "it says nothing of its inputs: no config, no pretrained_cfg, no layer that takes images, features or tokens."
    )
    raise InitframeError(Problem(f"model {type(model).__name__}", fact, "", "Give a batch."))


Shape = tuple[tuple[int, ...], int]
"""A shape, and the number of tokens to draw from; 0 for N(0, 1)."""


def _made(spec: Shape, generator: torch.Generator, device: str) -> Tensor:
    shape, tokens = spec
    if device == "meta":
        return torch.empty(shape, dtype=torch.int64 if tokens else torch.float32, device="meta")
    if tokens:
        return torch.randint(0, tokens, shape, generator=generator, device="cpu")
    return torch.randn(shape, generator=generator, device="cpu")


def _transformers(model: nn.Module, config: Any, size: int) -> tuple[dict[str, Shape], str] | None:
    """From a config of the transformers library."""
    if config is None or isinstance(config, Mapping) or not hasattr(config, "to_dict"):
        return None
    names = set(inspect.signature(model.forward).parameters)
    vocabulary = getattr(config, "vocab_size", None)
    side = getattr(config, "image_size", None)
    shapes: dict[str, Shape] = {}
    words = []
    if "pixel_values" in names and side is not None:
        height, width = side if isinstance(side, tuple | list) else (side, side)
        channels = getattr(config, "num_channels", 3)
        shapes["pixel_values"] = ((size, channels, height, width), 0)
        words.append(f"{size} images {channels}×{height}×{width} from N(0, 1), as config.image_size says")
    if "input_ids" in names and isinstance(vocabulary, int):
        length = min(TOKENS, getattr(config, "max_position_embeddings", None) or TOKENS)
        shapes["input_ids"] = ((size, length), vocabulary)
        words.append(f"{size} × {length} tokens, uniform over the {vocabulary} of config.vocab_size")
        if getattr(config, "is_encoder_decoder", False):
            shapes["decoder_input_ids"] = ((size, length), vocabulary)
    return (shapes, "; ".join(words)) if shapes else None


def _timm(model: nn.Module, size: int) -> tuple[dict[str, Shape], str] | None:
    """From timm's pretrained_cfg."""
    spec = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    shape = spec.get("input_size") if isinstance(spec, Mapping) else getattr(spec, "input_size", None)
    if not shape:
        return None
    shown = "×".join(map(str, shape))
    return {"": ((size, *shape), 0)}, f"{size} images {shown} from N(0, 1), as pretrained_cfg says"


def _first_layer(model: nn.Module, size: int) -> tuple[dict[str, Shape], str] | None:
    """From the first layer that takes images, features or tokens.

    Raises:
        InitframeError: it takes images, and none of the usual sizes fits.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            side = _side(model, module.in_channels)
            shape = (size, module.in_channels, side, side)
            return {
                "": (shape, 0)
            }, f"{size} images {shape[1]}×{side}×{side} from N(0, 1), as the first layer ({name}) has channels"
        if isinstance(module, nn.Conv3d):
            side = _side(model, module.in_channels, (FRAMES,))
            video = (size, module.in_channels, FRAMES, side, side)
            shown = "×".join(map(str, video[1:]))
            return {"": (video, 0)}, f"{size} videos {shown} from N(0, 1), as the first layer ({name}) has channels"
        if isinstance(module, nn.Linear):
            words = f"{size} × {module.in_features} numbers from N(0, 1), as the first layer ({name}) has inputs"
            return {"": ((size, module.in_features), 0)}, words
        if isinstance(module, nn.Embedding):
            words = f"{size} × {TOKENS} tokens, uniform over the {module.num_embeddings} of the first layer ({name})"
            return {"": ((size, TOKENS), module.num_embeddings)}, words
    return None


def _side(model: nn.Module, channels: int, before: tuple[int, ...] = ()) -> int:
    """The side of images that a model takes: its own ``image_size``, or the first of the usual sides that runs.

    Args:
        model: any module.
        channels: of the images.
        before: dimensions between channels and height: the frames of a video.

    Raises:
        InitframeError: none runs.
    """
    own = getattr(model, "image_size", None)
    if isinstance(own, int):
        return own
    with on_meta():
        fits = next((side for side in SIDES if _runs(model, (2, channels, *before, side, side))), None)
    if fits is not None:
        return fits
    linear = next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)), None)
    wants = f" Its layer {linear[0]!r} takes {linear[1].in_features} features." if linear else ""
    fact = f"it takes images of {channels} channels, but runs on no square one of the usual sizes.{wants}"
    fix = f"Give a batch of shape (inputs, {channels}, height, width)."
    raise InitframeError(Problem(f"model {type(model).__name__}", fact, f"Tried: {', '.join(map(str, SIDES))}.", fix))


def _runs(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a model takes a tensor of a shape: it is run without memory, on the meta device, which is the default."""
    parts = parts_of(model)
    named = parts.parameters | parts.buffers
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in named.items()}
    with as_before(parts), torch.no_grad():
        try:
            functional_call(model, state, (torch.empty(shape),), tie_weights=False)
        except Exception:  # noqa: BLE001  # a model may refuse a shape in its own way
            return False
    return True
