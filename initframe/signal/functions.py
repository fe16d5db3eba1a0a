"""Functions of torch that are predicted as one operation, before torch takes them apart into several."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from initframe.signal import rules_packed
from initframe.signal.grid import Grid
from initframe.signal.rules_packed import pack, unpack
from initframe.signal.rules_recurrent import layer
from initframe.signal.shapes import Form, Shadow, shadow
from initframe.signal.simulate import CELLS
from initframe.signal.walk import Walk

aten = torch.ops.aten


class Functions(TorchFunctionMode):
    """Predicts layers where torch is asked for them.

    Args:
        walk: the pass that they are part of; it is entered inside this mode.
    """

    def __init__(self, walk: Walk) -> None:
        super().__init__()
        self.walk = walk

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, or predict it."""
        one = FUNCTIONS.get(func)
        found = None if one is None else one(self.walk, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if found is None else found


def linear(walk: Walk, input: Any, weight: Any, bias: Any = None) -> Tensor | None:  # noqa: A002  # torch's name
    """The output of a linear layer that multiplies a signal with a matrix; nothing for any other.

    torch makes views of the input, the weight and the output, and adds the bias in the same operation only if the
    input's rows lie one after another in memory.
    """
    if not _are_plain(input, weight, bias) or input.state.weight or not weight.state.weight:
        return None
    x, w = input.form.shape, weight.form.shape
    if len(x) < 2 or len(w) != 2 or x[-1] != w[1] or (bias is not None and bias.form.shape != w[:1]):
        return None
    fused = bias is not None and (len(x) == 2 or input.is_contiguous())
    func, args = (aten.addmm.default, (bias, input, weight)) if fused else (aten.mm.default, (input, weight))
    out = walk.predicted(func, args, _dense((*x[:-1], w[0]), input))
    return out if bias is None or fused else out + bias


def batch_norm(walk: Walk, input: Any, *stored: Any, weight: Any, bias: Any, training: bool, **numbers: Any) -> Any:  # noqa: A002
    """The output of batch norm; nothing if torch would refuse it. Torch makes an empty tensor besides."""
    if not _are_plain(input, weight, bias) or not input.is_contiguous():
        return None
    shape = input.form.shape
    vectors = [one for one in (*stored, weight, bias) if one is not None]
    if any(type(one) is not Shadow or one.state is None or one.form.shape != shape[1:2] for one in vectors):
        return None
    if len(shape) < 2 or math.prod(shape) == shape[1] or not (training or all(one is not None for one in stored)):
        return None
    args = (input, weight, bias, *stored, training, numbers["momentum"], numbers["eps"])
    return walk.predicted(aten.native_batch_norm.default, args, _dense(shape, input))


def recurrent(walk: Walk, *args: Any, kind: str, **kwargs: Any) -> Any:
    """The outputs of a recurrent layer, on a tensor or on packed sequences."""
    packed = len(args) > 2 and not kwargs and isinstance(args[1], Tensor) and args[1].dtype == torch.int64
    return rules_packed.layer(walk, kind, args) if packed else layer(walk, *args, kind=kind, **kwargs)


def _are_plain(*tensors: Any) -> bool:
    """Whether tensors of one dtype, without memory, are known by their distributions, and torch casts none of them."""
    dtypes = set()
    for one in tensors:
        if one is not None:
            if type(one) is not Shadow or type(one.state) is not Grid:
                return False
            dtypes.add(one.form.dtype)
    return len(dtypes) == 1 and not torch.is_autocast_enabled("cpu")


def _dense(shape: tuple[int, ...], like: Shadow) -> Shadow:
    """A new tensor whose elements lie one after another."""
    stride = (*accumulate(shape[:0:-1], mul, initial=1),)[::-1]
    return shadow(Form(shape, stride, 0, like.form.dtype, like.form.device))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    nn.functional.linear: linear,
    nn.functional.batch_norm: batch_norm,
    **{getattr(torch, name): partial(recurrent, kind=name) for name in CELLS},
    torch._VF._pack_padded_sequence: pack,  # noqa: SLF001
    torch._VF._pad_packed_sequence: unpack,  # noqa: SLF001
}
"""What is predicted whole: a function of the walk and torch's arguments, which returns nothing if it does not know."""
