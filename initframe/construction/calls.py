"""What each call of torch writes: a table from torch's functions to what is noted of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from initframe.construction.arithmetic_calls import clamped, elementwise
from initframe.construction.call import Function, Interpreter, TorchCall
from initframe.construction.copying_calls import cloned, copied, joined, padded, set_item
from initframe.construction.drawing_calls import (
    drawn_in_place,
    drawn_otherwise,
    exponential,
    filled,
    kaiming_uniform,
    log_normal,
    made,
    made_by_draw,
    made_empty,
    made_eye,
    made_full,
    torch_normal,
    zeroed,
)
from initframe.construction.unknown_calls import unknown
from initframe.construction.values import Number

IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]


def _found(name: str, homes: Iterable[Any] = (torch.Tensor, torch, nn.functional, torch.special)) -> Iterator[Function]:
    """Every function of torch that goes by a name."""
    for home in homes:
        function = getattr(home, name, None)
        if callable(function):
            yield function


_VIEWS = """
    detach detach_ view view_as t transpose permute unsqueeze squeeze narrow chunk split split_with_sizes select expand
    expand_as unbind swapaxes movedim as_strided unfold diagonal broadcast_tensors requires_grad_
"""
_QUESTIONS = """
    dim size numel stride nelement ndimension is_contiguous untyped_storage storage storage_offset element_size
    is_floating_point is_complex is_inference data_ptr get_device item tolist equal allclose register_hook
    register_post_accumulate_grad_hook has_names is_same_size is_pinned share_memory_ is_shared dim_order __len__
    __bool__ __float__ __int__ __format__ __repr__ __hash__ __contains__ __reduce_ex__
"""


def _accessors() -> Iterator[Function]:
    for name in dir(torch.Tensor):
        attribute = getattr(torch.Tensor, name, None)
        if type(attribute).__name__ in ("getset_descriptor", "property"):
            yield from (getattr(attribute, how) for how in ("__get__", "__set__", "__delete__"))


IGNORED: frozenset[Function] = frozenset(
    {
        *_accessors(),
        *(function for name in (_VIEWS + _QUESTIONS).split() for function in _found(name)),
        torch._C._set_grad_enabled,  # noqa: SLF001
    }
) - {IS_META}
"""Functions that write to no tensor and make no memory of one."""


_OPERATIONS = {
    "add": "add add_ __add__ __radd__ __iadd__",
    "sub": "sub sub_ subtract subtract_ __sub__ __isub__",
    "mul": "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__",
    "div": "div div_ divide divide_ true_divide true_divide_ __div__ __truediv__ __itruediv__ __idiv__",
    "pow": "pow pow_ __pow__ __ipow__",
    "remainder": "remainder remainder_ __mod__",
    "max": "maximum fmax",
    "min": "minimum fmin",
    "neg": "neg neg_ negative negative_ __neg__",
    "abs": "abs abs_ absolute absolute_ __abs__",
    "sign": "sign sign_",
    "square": "square square_",
    "sqrt": "sqrt sqrt_",
    "rsqrt": "rsqrt rsqrt_",
    "reciprocal": "reciprocal reciprocal_",
    "exp": "exp exp_",
    "expm1": "expm1 expm1_",
    "log": "log log_",
    "log1p": "log1p log1p_",
    "log2": "log2 log2_",
    "sin": "sin sin_",
    "cos": "cos cos_",
    "tan": "tan tan_",
    "tanh": "tanh tanh_",
    "sigmoid": "sigmoid sigmoid_ expit",
    "logit": "logit logit_",
    "softplus": "softplus",
    "erf": "erf erf_",
    "erfinv": "erfinv erfinv_",
}
_SWAPPED = {"sub": "__rsub__ rsub", "div": "__rdiv__ __rtruediv__", "pow": "__rpow__"}
_COPIES = """
    clone contiguous to type type_as float half bfloat16 double cpu cuda reshape reshape_as flatten ravel __deepcopy__
    positive __pos__
"""
_OTHER_DRAWS = """
    randint randint_like randperm bernoulli bernoulli_ multinomial poisson random_ cauchy_ geometric_ binomial dropout
    alpha_dropout feature_alpha_dropout rrelu gumbel_softmax
"""
_OTHERS: dict[str, Interpreter] = {
    "zero_": zeroed,
    "fill_": filled,
    "copy_": copied,
    "__setitem__": set_item,
    "uniform_": drawn_in_place("uniform", "from", "to"),
    "normal_": drawn_in_place("normal", "mean", "std"),
    "exponential_": exponential,
    "log_normal_": log_normal,
    "eye": made_eye,
    "normal": torch_normal,
    "empty": made_empty,
    "empty_like new_empty empty_strided empty_permuted": made(),
    "zeros zeros_like new_zeros": made(Number(0.0)),
    "ones ones_like new_ones": made(Number(1.0)),
    "full full_like new_full": made_full,
    "rand rand_like": made_by_draw("uniform", 0.0, 1.0),
    "randn randn_like": made_by_draw("normal", 0.0, 1.0),
    "pad": padded,
    "cat concat concatenate stack": joined,
    "clamp clamp_ clip clip_ clamp_min clamp_min_ clamp_max clamp_max_": clamped,
    _COPIES: cloned,
    _OTHER_DRAWS: drawn_otherwise,
}


_INIT: dict[str, Interpreter] = {
    "uniform_": drawn_in_place("uniform", "a", "b"),
    "normal_": drawn_in_place("normal", "mean", "std"),
    "constant_": filled,
    "kaiming_uniform_": kaiming_uniform,
}
"""Functions of torch.nn.init that modes see, by name: libraries put wrappers of theirs in their places."""


def _table() -> dict[Function, Interpreter]:
    table: dict[Function, Interpreter] = {}
    for operation, names in _OPERATIONS.items():
        table |= {f: elementwise(operation) for name in names.split() for f in _found(name)}
    for operation, names in _SWAPPED.items():
        table |= {f: elementwise(operation, swapped=True) for name in names.split() for f in _found(name)}
    table |= {f: known for names, known in _OTHERS.items() for name in names.split() for f in _found(name)}
    return table | {getattr(nn.init, name): known for name, known in _INIT.items()}


_INTERPRETERS = _table()


def interpret(call: TorchCall) -> Any:
    """Make a call, and note what it writes.

    Args:
        call: of any function of torch.

    Returns:
        What the function returns.
    """
    known = _INTERPRETERS.get(call.function)
    if known is None and "tensor" in call.named:
        known = _INIT.get(getattr(call.function, "__name__", ""))
    return (known or unknown)(call)
