"""Functions of torch that are predicted as one operation, before torch takes them apart into several."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everywhere
from torch.overrides import TorchFunctionMode

from initframe.signal.grid import Grid
from initframe.signal.rules_recurrent import layer
from initframe.signal.shapes import Form, Shadow, shadow
from initframe.signal.simulate import CELLS
from initframe.signal.walk import Walk
from initframe.signal.watch import undispatched


class Functions(TorchFunctionMode):
    """Predicts linear and recurrent layers where torch is asked for them.

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


def linear(walk: Walk, input: Any, weight: Any, bias: Any = None) -> Tensor | None:  # noqa: A002  # torch's
    """The output of a linear layer that multiplies a signal with a matrix; nothing for any other.

    torch makes views of the input, the weight and the output, and adds the bias in the same operation only if the
    input's rows lie one after another in memory.
    """
    given = [input, weight] if bias is None else [input, weight, bias]
    if not all(type(one) is Shadow and type(one.state) is Grid for one in given):
        return None
    x, w = input.form, weight.form
    fits = len(x.shape) > 1 and len(w.shape) == 2 and x.shape[-1] == w.shape[1]
    if not fits or input.state.weight or not weight.state.weight or torch.is_autocast_enabled("cpu"):
        return None
    if any(one.form.dtype != x.dtype for one in given) or (bias is not None and bias.form.shape != w.shape[:1]):
        return None
    fused = bias is not None and (len(x.shape) == 2 or input.is_contiguous())
    shape = (*x.shape[:-1], w.shape[0])
    out = shadow(Form(shape, (*accumulate(shape[:0:-1], mul, initial=1),)[::-1], 0, x.dtype, x.device))
    with undispatched(input):
        if fused:
            walk.predicted(torch.ops.aten.addmm.default, (bias, input, weight), out)
        else:
            walk.predicted(torch.ops.aten.mm.default, (input, weight), out)
    return out if bias is None or fused else out + bias


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    F.linear: linear,
    **{getattr(torch, name): partial(layer, kind=name) for name in CELLS},
}
"""What is predicted whole: a function of the walk and torch's arguments, which returns nothing if it does not know."""
