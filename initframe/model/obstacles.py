"""Why a tensor cannot be filled, and what to do about it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from initframe.errors import Problem
from initframe.model.memory import is_composite, is_lazy, is_transformed, local, overlaps_itself, reach

FILLABLE = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Obstacle(NamedTuple):
    """Why a tensor cannot be filled.

    Attributes:
        fact: to be read after "it".
        fix: what to do about it, as a sentence.
    """

    fact: str
    fix: str

    def on(self, name: str) -> Problem:
        """Give the problem that a tensor of that name has."""
        return Problem(name, f"it {self.fact}", fix=self.fix)


def obstacle(tensor: Tensor) -> Obstacle | None:
    """Say why a tensor cannot be filled.

    Args:
        tensor: a model's parameter or buffer.

    Returns:
        The fact and a fix; ``None`` for a tensor that can be filled.

    >>> obstacle(torch.zeros(2)) is None
    True
    >>> print(obstacle(torch.zeros(1).expand(3)).on("w"))
    w: it is expanded: several indices share one element, which holds one value only. Clone it first.
    """
    if is_lazy(tensor):
        return Obstacle(
            "is lazy: its shape is not known yet.", "Run one forward pass, or build the layer with its input size."
        )
    if found := _form_obstacle(tensor):
        return found
    return _memory_obstacle(local(tensor)) if tensor.dtype in FILLABLE else dtype_obstacle(tensor.dtype)


def is_integer(dtype: torch.dtype) -> bool:
    """Tell the dtypes of whole numbers, bool included.

    >>> is_integer(torch.uint8), is_integer(torch.float16)
    (True, False)
    """
    name = str(dtype).removeprefix("torch.")
    return name == "bool" or name.lstrip("u").startswith("int")


def dtype_obstacle(dtype: torch.dtype) -> Obstacle | None:
    """Say why no tensor of a dtype can be filled.

    >>> dtype_obstacle(torch.int64).fact
    'holds int64 numbers, and initialization draws real numbers.'
    """
    if dtype in FILLABLE:
        return None
    name = str(dtype).removeprefix("torch.")
    if dtype.is_complex:
        return Obstacle(
            f"is {name}, and no distribution says how its real and imaginary parts go together.",
            "Hold torch.view_as_real of it as the parameter, and fill that.",
        )
    if name.startswith("float"):
        return Obstacle(
            f"is {name}: numbers this coarse need a separate scale, which a fill cannot set.",
            "Fill it in float32 or bfloat16, then convert.",
        )
    if is_integer(dtype):
        return Obstacle(f"holds {name} numbers, and initialization draws real numbers.", "Leave it to the model.")
    return Obstacle(f"is {name}, a storage format without arithmetic.", "Fill the model first, then convert.")


def is_storable(tensor: Tensor) -> bool:
    """Whether nothing but its dtype keeps a tensor from being filled, so that it can hold a file's values as they are.

    >>> is_storable(torch.zeros(2, dtype=torch.int64)), is_storable(torch.zeros(1, dtype=torch.int64).expand(3))
    (True, False)
    """
    if is_lazy(tensor) or _form_obstacle(tensor) or tensor.dtype in FILLABLE or _memory_obstacle(local(tensor)):
        return False
    name = str(tensor.dtype).removeprefix("torch.")
    return tensor.dtype.is_complex or is_integer(tensor.dtype) or name.startswith("float8")


def _form_obstacle(tensor: Tensor) -> Obstacle | None:
    """Look at what kind of tensor it is."""
    if is_transformed(tensor):
        return Obstacle(
            "is what torch.func passes through vmap or grad: it has no memory of its own.",
            "Fill the model before it is transformed; initframe.populate makes the states of many.",
        )
    if tensor.is_quantized:
        return Obstacle("is quantized: its numbers are codes of a scale.", "Fill the float model, then quantize.")
    if tensor.is_nested:
        return Obstacle("is a nested tensor, which has several shapes.", "Hold its parts as separate parameters.")
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        return Obstacle(f"has the layout {layout}.", "Fill it dense, then convert.")
    if is_composite(tensor):
        kind = type(tensor).__name__
        return Obstacle(f"is a {kind}, made of other tensors.", "Fill the model first, then convert.")
    return None


def _memory_obstacle(tensor: Tensor) -> Obstacle | None:
    """Look at the memory that would be written."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return Obstacle(
            "was made in inference mode and takes no write outside of it.", "Build the model without it, or clone."
        )
    if not tensor.is_contiguous() and overlaps_itself(tensor):
        return Obstacle(
            "is expanded: several indices share one element, which holds one value only.", "Clone it first."
        )
    if _is_freed(tensor):
        return Obstacle(
            "has no memory behind all of its elements: its storage was resized.",
            "Have what freed it bring it back first, or give the tensor new memory.",
        )
    return None


def _is_freed(tensor: Tensor) -> bool:
    """Tell whether a tensor reaches past the end of its storage, as after ``untyped_storage().resize_(0)``."""
    if tensor.is_meta or not tensor.numel():
        return False
    return bool((tensor.storage_offset() + reach(tensor)) * tensor.itemsize > tensor.untyped_storage().nbytes())


PACKED = Obstacle("is packed inside a quantized module.", "Fill the float model, then quantize.")


@lru_cache(maxsize=512)
def is_packed(cls: type) -> bool:
    """Tell whether a class of modules is one of torch.ao's quantized ones, whose state_dict is computed on request.

    >>> is_packed(nn.Linear)
    False
    """
    return any(base.__module__.startswith("torch.ao.nn.quantized") for base in cls.__mro__)


def packed_state(module: nn.Module) -> dict[str, object]:
    """Collect what a quantized module holds in addition to its parameters and buffers.

    Args:
        module: one module, of which ``is_packed`` holds.

    Returns:
        By name: copies of tensors, and other objects.
    """
    state: dict[str, object] = {}
    module._save_to_state_dict(state, "", True)  # noqa: SLF001
    if isinstance(getattr(module, "_packed_params", None), nn.Module):
        state |= _weight_and_bias(module)
    own = module._parameters.keys() | module._buffers.keys()  # noqa: SLF001
    return {name: value for name, value in state.items() if name not in own}


def _weight_and_bias(module: nn.Module) -> dict[str, object]:
    """Unpack a quantized Linear, whose state_dict holds its weight and bias as one tuple only."""
    unpack = getattr(module, "_weight_bias", None)
    unpacked = unpack() if callable(unpack) else None
    if not isinstance(unpacked, tuple):
        return {}
    pairs = zip(("weight", "bias"), unpacked, strict=False)
    return {name: tensor for name, tensor in pairs if isinstance(tensor, Tensor)}
