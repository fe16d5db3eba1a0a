"""Operations of ATen: what people call them, which have a row of their own, and what their schemas say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

NAMES = {
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "convolution": "conv",
    "_convolution": "conv",
    "addmm": "matmul",
    "mm": "matmul",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_batch_norm_with_update": "batch_norm",
    "_batch_norm_no_update": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "_fused_rms_norm": "rms_norm",
    "max_pool2d_with_indices": "max_pool",
    "max_pool3d_with_indices": "max_pool",
    "avg_pool2d": "avg_pool",
    "avg_pool3d": "avg_pool",
    "_adaptive_avg_pool2d": "avg_pool",
    "_adaptive_avg_pool3d": "avg_pool",
    "adaptive_max_pool2d": "max_pool",
    "adaptive_max_pool3d": "max_pool",
    "mkldnn_max_pool2d": "max_pool",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
    "_scaled_dot_product_flash_attention": "attention",
    "_scaled_dot_product_efficient_attention": "attention",
    "_scaled_dot_product_cudnn_attention": "attention",
    "_scaled_dot_product_attention_math": "attention",
    "_prelu_kernel": "prelu",
}
"""What people call an operation of ATen."""

SHOWN = {
    *NAMES.values(),
    *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "hardsigmoid"),
    *("sigmoid", "tanh", "hardtanh", "softplus", "threshold", "glu", "clamp", "clamp_min"),
    *("add", "mul", "cat", "mean", "embedding", "upsample_nearest2d", "upsample_bilinear2d"),
}
"""Operations that have a row of their own."""

VIEWS = {"_unsafe_view", "_reshape_alias", "detach", "alias"}
"""Operations that share memory and are not marked as views."""


class Facts(NamedTuple):
    """What is known of an overload before it is called.

    Attributes:
        name: as people know the operation.
        is_view: whether its output shares memory with its input, as torch marks it.
        moves: whether it only moves elements, marked or not.
        random: whether it draws numbers.
        mutable: whether it writes to an argument.
        pointwise: whether it is elementwise.
        arguments: their names.
        by_name: those of them that are given by name only.
        defaults: of those that have one.
        asks: whether it asks a tensor for a fact, its device say, and computes nothing.
        weighs: whether it multiplies with weights.
        number: of the overload; as good as the overload itself in a key, and sooner hashed.
    """

    name: str
    is_view: bool
    moves: bool
    random: bool
    mutable: bool
    pointwise: bool
    arguments: tuple[str, ...]
    by_name: frozenset[str]
    defaults: Mapping[str, Any]
    asks: bool
    weighs: bool
    number: int


_found: dict[int, tuple[Any, Facts]] = {}


def facts(func: Any) -> Facts:
    """What is known of an overload.

    >>> facts(torch.ops.aten.relu_.default).mutable, facts(torch.ops.aten.t.default).moves
    (True, True)
    """
    known = _found.get(id(func))  # an overload hashes by its text, which is asked for several times an operation
    if known is None:
        known = _found[id(func)] = (func, _facts(func, len(_found)))  # kept, so that no other one gets its address
    return known[1]


def _facts(func: Any, number: int) -> Facts:
    packet: str = func.overloadpacket.__name__
    name = packet if packet.startswith("__") else packet.rstrip("_")
    schema = func._schema  # noqa: SLF001  # there is no public way to an overload's schema
    known = NAMES.get(packet, name)
    return Facts(
        name=known,
        is_view=func.is_view,
        moves=func.is_view or packet in VIEWS,
        random=torch.Tag.nondeterministic_seeded in func.tags,
        mutable=schema.is_mutable,
        pointwise=torch.Tag.pointwise in func.tags,
        arguments=tuple(argument.name for argument in schema.arguments),
        by_name=frozenset(argument.name for argument in schema.arguments if argument.kwarg_only),
        defaults={a.name: a.default_value for a in schema.arguments if a.has_default_value()},
        asks=func.namespace == "prim",
        weighs=known in ("matmul", "conv", "mkldnn_rnn_layer"),
        number=number,
    )


def op_name(func: Any) -> str:
    """The name of a dispatched operation, as people know it.

    >>> op_name(torch.ops.aten.relu_.default), op_name(torch.ops.aten.addmm.default)
    ('relu', 'matmul')
    """
    return facts(func).name
