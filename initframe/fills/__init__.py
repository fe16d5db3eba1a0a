"""What a tensor will hold, as data: fills are read, compared and tested before anything is drawn.

Four families. *Elementwise* fills give every element from its own index alone. *Whole* fills need the full tensor (an
orthogonal matrix is not made element by element). Fills *on current values* start from what is there. *Composed* fills
put other fills into parts of a tensor. ``mean`` and ``std`` are the moments of the population that the elements come
from: what a truncated normal really has, not what was requested of the normal before it was cut. A fill of your own is
a subclass (:class:`Fill`).
"""

from initframe.fills.chain import Chain
from initframe.fills.composed import Blocks, Copied, Masked, Norms, Partial
from initframe.fills.current import Keep, OnCurrent, Scale, Shift, ShrinkPerturb
from initframe.fills.elementwise import Constant, Elementwise, Mapped, Normal, TruncatedNormal, Uniform
from initframe.fills.fill import Fill
from initframe.fills.stacked import Stacked
from initframe.fills.structured import Dirac, Identity, Orthogonal, Sparse
from initframe.fills.table import Table
from initframe.fills.whole import Fixed, Sampler, Scattered, Whole

__all__ = [
    "Blocks",
    "Chain",
    "Constant",
    "Copied",
    "Dirac",
    "Elementwise",
    "Fill",
    "Fixed",
    "Identity",
    "Keep",
    "Mapped",
    "Masked",
    "Normal",
    "Norms",
    "OnCurrent",
    "Orthogonal",
    "Partial",
    "Sampler",
    "Scale",
    "Scattered",
    "Shift",
    "ShrinkPerturb",
    "Sparse",
    "Stacked",
    "Table",
    "TruncatedNormal",
    "Uniform",
    "Whole",
]
