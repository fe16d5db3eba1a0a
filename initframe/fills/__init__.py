"""What a tensor will hold, as data: fills are read, compared and tested before anything is drawn.

Three families. *Elementwise* fills give every element from its own index alone. *Whole* fills need the full tensor
(an orthogonal matrix is not made element by element). *Composed* fills put other fills into parts of a tensor.
``mean`` and ``std`` are the moments of the population that the elements come from: what a truncated normal really
has, not what was asked of the normal before it was cut.
"""

from initframe.fills.composed import Blocks, Masked
from initframe.fills.current import Keep, OnCurrent, Scale, Shift, ShrinkPerturb
from initframe.fills.elementwise import Constant, Elementwise, Normal, TruncatedNormal, Uniform
from initframe.fills.fill import Fill
from initframe.fills.scattered import Dirac, Identity, Scattered
from initframe.fills.whole import Draw, Orthogonal, Sparse, Whole

__all__ = [
    "Blocks",
    "Constant",
    "Dirac",
    "Draw",
    "Elementwise",
    "Fill",
    "Identity",
    "Keep",
    "Masked",
    "Normal",
    "OnCurrent",
    "Orthogonal",
    "Scale",
    "Scattered",
    "Shift",
    "ShrinkPerturb",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "Whole",
]
