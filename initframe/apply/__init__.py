"""Plan → tensors: the only code that writes to a tensor."""

from initframe.apply.applying import apply as apply
from initframe.apply.applying import fill_ as fill_
from initframe.apply.applying import reinit as reinit
