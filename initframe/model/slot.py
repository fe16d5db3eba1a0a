"""One place in a model that holds a tensor, as plain facts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from initframe.errors import Problem
from initframe.frozen import opened
from initframe.model.fans import PLAIN, Meaning

Kind = Literal["parameter", "buffer"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in a model that holds a tensor: read-only facts, no tensor.

    Attributes:
        name: canonical name, the first in ``named_parameters()``, free of what wrappers added.
        shape: the global shape, never a shard's.
        dtype: the tensor's dtype.
        kind: ``"parameter"`` or ``"buffer"``.
        aliases: further names of the same tensor (ties).
        module_types: class names of the owning module and its bases, most derived first.
        layer: the class of torch.nn that the owning module is or derives from (``"Linear"``), if any.
        settings: the plain numbers among the owning module's attributes (``{"in_features": 5, …}``).
        fan_in: torch's fan_in; a bias has its weight's; ``None`` for a tensor without fans.
        fan_out: torch's fan_out, likewise.
        effective_fan_in: the number of inputs that are summed into one output; it differs from torch's count for
            grouped and transposed convolutions and fused projections.
        effective_fan_out: likewise for the backward pass.
        fused: how many projections share the tensor; the effective fans are those of one of them (attention's
            in_proj_weight: 3, LSTM: 4, GRU: 3); otherwise 1.
        meaning: how the layer reads the weight, or a bias's weight: groups, stride, blocks, transposed.
        padding_row: the row of an embedding that stays zero, if any.
        requires_grad: whether the tensor is trained; frozen tensors are initialized all the same, and marked.
        blocked: why the tensor cannot be filled (lazy, quantized, integer, …), to be read after "it", or ``None``.
        alias_types: class names of each alias's owner, in the order of ``aliases``: a tied tensor has several owners.
        persistent: whether ``state_dict()`` holds it; only a buffer's may be false.
        lazy: whether no shape is known, so that no expression over it has an answer; such a slot is blocked, too.
        resettable: whether a blocked tensor may be set to zero all the same (BatchNorm's num_batches_tracked).
        storable: whether a blocked tensor may take values of its own kind from a file: only its dtype is in the way.
        part_of: the slot whose value a parametrization computes from this tensor; ``None`` outside ``Survey.raw``.
        exact: whether a parametrized tensor comes out as it is filled, up to rounding; true of all others.
        notes: what a reader of the plan should know (a parametrization that rescales, say).
        constructed: what the constructor did to it, if that was recorded (initframe.model.remembered); not compared.
        remedy: what to do about a tensor that is blocked, as a sentence.
        set_by: the class, not torch's, whose own code sets this tensor of a torch layer; ``None`` if torch's does.
        views: those of the aliases that show the same elements in another form, as a transposed weight does.
        shares: the tensors that share part of its memory, directly or through one another: it is blocked for this
            reason, and may be filled if all of them are kept.
        axes: what each dimension means, if the rule at hand says it: ``out``, ``in``, ``kernel``, ``batch``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    kind: Kind = "parameter"
    aliases: tuple[str, ...] = ()
    module_types: tuple[str, ...] = ()
    layer: str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    fan_in: float | None = None
    fan_out: float | None = None
    effective_fan_in: float | None = None
    effective_fan_out: float | None = None
    fused: int = 1
    meaning: Meaning = PLAIN
    padding_row: int | None = None
    requires_grad: bool = True
    blocked: str | None = None
    notes: tuple[str, ...] = ()
    alias_types: tuple[tuple[str, ...], ...] = ()
    persistent: bool = True
    lazy: bool = False
    resettable: bool = False
    storable: bool = False
    part_of: str | None = None
    exact: bool = True
    remedy: str = ""
    constructed: Any = field(default=None, compare=False, repr=False)
    set_by: str | None = None
    views: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()

    @property
    def problem(self) -> Problem | None:
        """Why the tensor cannot be filled, as data; ``None`` if it can."""
        return Problem(self.name, f"it {self.blocked}", fix=self.remedy) if self.blocked else None

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def output_dim(self) -> int:
        """The axis along which outputs are counted: as ``axes`` say, else 1 if the layer's weights are transposed."""
        return self.axes.index("out") if "out" in self.axes else int(self.meaning.transposed)

    @property
    def attribute(self) -> str:
        """The last segment of the name: ``weight`` of ``features.0.weight``."""
        return self.name.rpartition(".")[2]


OpenSlot = opened(Slot)
"""What becomes a slot when it is given the class."""
