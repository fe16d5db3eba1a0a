"""Why a tensor cannot be filled, with what to do about it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from initframe.model.memory import is_composite, local, overlaps_itself

FILLABLE = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def obstacle(tensor: Tensor) -> str | None:
    """Say why a tensor cannot be filled.

    Args:
        tensor: a model's parameter or buffer.

    Returns:
        The fact and a fix, to be read after the tensor's name; ``None`` for a tensor that can be filled.

    >>> obstacle(torch.zeros(2)) is None
    True
    >>> obstacle(torch.zeros(1).expand(3))
    'is expanded: several indices share one element, which holds one value only. Clone it first.'
    """
    if is_lazy(tensor):
        return "is lazy: its shape is not known yet. Run one forward pass, or build the layer with its input size."
    return _form_obstacle(tensor) or dtype_obstacle(tensor.dtype) or _memory_obstacle(local(tensor))


def is_integer(dtype: torch.dtype) -> bool:
    """Tell the dtypes of whole numbers, bool included.

    >>> is_integer(torch.uint8), is_integer(torch.float16)
    (True, False)
    """
    name = str(dtype).removeprefix("torch.")
    return name == "bool" or name.lstrip("u").startswith("int")


def dtype_obstacle(dtype: torch.dtype) -> str | None:
    """Say why no tensor of a dtype can be filled.

    >>> dtype_obstacle(torch.int64)
    'holds int64 numbers, and the laws of initialization are of real numbers. Leave it to the model.'
    """
    if dtype in FILLABLE:
        return None
    name = str(dtype).removeprefix("torch.")
    if dtype.is_complex:
        return (
            f"is {name}, and no law says how the real and the imaginary part go together. "
            "Hold torch.view_as_real of it as the parameter, and fill that."
        )
    if name.startswith("float"):
        return (
            f"is {name}: numbers this coarse need a scale beside them, which a fill knows nothing of. "
            "Fill it in float32 or bfloat16, then convert."
        )
    if is_integer(dtype):
        return f"holds {name} numbers, and the laws of initialization are of real numbers. Leave it to the model."
    return f"is {name}, a storage format without arithmetic. Fill the model first, then convert."


def _form_obstacle(tensor: Tensor) -> str | None:
    """Look at what kind of tensor it is."""
    if tensor.is_quantized:
        return "is quantized: its numbers are codes of a scale. Fill the float model, then quantize."
    if tensor.is_nested:
        return "is a nested tensor, which has no one shape. Hold its parts as parameters of their own."
    if tensor.layout != torch.strided:
        return f"has the layout {str(tensor.layout).removeprefix('torch.')}. Fill it dense, then convert."
    if is_composite(tensor):
        return f"is a {type(tensor).__name__}, made of other tensors. Fill the model first, then convert."
    return None


def _memory_obstacle(tensor: Tensor) -> str | None:
    """Look at the memory that would be written."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "was made in inference mode and takes no write outside of it. Build the model without it, or clone."
    if overlaps_itself(tensor):
        return "is expanded: several indices share one element, which holds one value only. Clone it first."
    return None
