"""Tensors that torch's quantized modules hold packed, where no parameter or buffer shows them."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor, nn

PACKED = "is packed inside a quantized module. Fill the float model, then quantize."


def is_packed(module: nn.Module) -> bool:
    """Tell whether a module is one of torch.ao's, whose state_dict is made when asked for.

    >>> is_packed(nn.Linear(2, 3))
    False
    """
    cls: type = type(module)
    return _is_quantized(cls)


@lru_cache(maxsize=512)
def _is_quantized(cls: type) -> bool:
    return any(base.__module__.startswith("torch.ao.nn.quantized") for base in cls.__mro__)


def packed_state(module: nn.Module) -> dict[str, object]:
    """Collect what a quantized module keeps besides its parameters and buffers.

    Args:
        module: one module, of which ``is_packed`` holds.

    Returns:
        By name: copies of tensors, and things that are none.
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
