"""initframe: an initialization is a pure function, (recipe, seed, tensor name, element index) → value.

``list_presets()`` and ``list_initializers()`` name what there is. ``reinit(model, recipe, seed)`` is the shortest way;
``resolve(recipe, model)`` shows a plan first, and ``apply(plan, seed)`` writes it. ``trace``, ``identify`` and
``describe`` read an initialization; ``propagate``, ``predict``, ``compare`` and ``calibrate`` are for the signal;
``manifest``, ``verify`` and ``regenerate`` keep and check it; ``deferred`` and ``materialize`` are for large models.

>>> import initframe
>>> from torch import nn
>>> report = initframe.reinit(nn.Linear(3, 3), {"rules": {"*.weight": "xavier_uniform"}}, seed=0)
>>> report.plan.untouched
('bias',)
"""

import typing as _typing

from initframe.applying.apply import apply as apply
from initframe.applying.apply import fill_ as fill_
from initframe.applying.apply import reinit as reinit
from initframe.applying.populate import populate as populate
from initframe.applying.write_checkpoint import write_checkpoint as write_checkpoint
from initframe.construction.deferred import deferred as deferred
from initframe.construction.deferred import materialize as materialize
from initframe.construction.deferred import param_init_fn as param_init_fn
from initframe.errors import InitframeError as InitframeError
from initframe.errors import RecipeError as RecipeError
from initframe.errors import ResolveError as ResolveError
from initframe.errors import SourceError as SourceError
from initframe.fills import Blocks as Blocks
from initframe.fills import Chain as Chain
from initframe.fills import Constant as Constant
from initframe.fills import Dirac as Dirac
from initframe.fills import Elementwise as Elementwise
from initframe.fills import Fill as Fill
from initframe.fills import Identity as Identity
from initframe.fills import Keep as Keep
from initframe.fills import Masked as Masked
from initframe.fills import Normal as Normal
from initframe.fills import Orthogonal as Orthogonal
from initframe.fills import Scale as Scale
from initframe.fills import Shift as Shift
from initframe.fills import ShrinkPerturb as ShrinkPerturb
from initframe.fills import Sparse as Sparse
from initframe.fills import Table as Table
from initframe.fills import TruncatedNormal as TruncatedNormal
from initframe.fills import Uniform as Uniform
from initframe.initializers import Declined as Declined
from initframe.initializers import initializer as initializer
from initframe.initializers import list_initializers as list_initializers
from initframe.model.slot import Slot as Slot
from initframe.model.survey import survey as survey
from initframe.plan import Assignment as Assignment
from initframe.plan import Plan as Plan
from initframe.plan.differences import Difference as Difference
from initframe.plan.differences import Differences as Differences
from initframe.plan.differences import diff as diff
from initframe.plan.manifest import manifest as manifest
from initframe.plan.param_groups import CompanionWarning as CompanionWarning
from initframe.plan.report import Report as Report
from initframe.recipe.presets import list_presets as list_presets
from initframe.recipe.recipe import Recipe as Recipe
from initframe.recipe.recipe import Rule as Rule
from initframe.recipe.recipe import load_recipe as load_recipe
from initframe.resolver.resolve import resolve as resolve
from initframe.verification.regenerate import regenerate as regenerate
from initframe.verification.result import Verification as Verification
from initframe.verification.verify import verify as verify
from initframe.version import __version__ as __version__

if _typing.TYPE_CHECKING:
    from initframe.construction.describe import describe as describe
    from initframe.construction.identify import identify as identify
    from initframe.construction.trace import trace as trace
    from initframe.signal.calibrate import CalibrationWarning as CalibrationWarning
    from initframe.signal.calibrate import calibrate as calibrate
    from initframe.signal.compare import Comparison as Comparison
    from initframe.signal.compare import compare as compare
    from initframe.signal.predict import predict as predict
    from initframe.signal.propagate import propagate as propagate
    from initframe.signal.signal import Signal as Signal

__all__ = [
    "Assignment",
    "Blocks",
    "CalibrationWarning",
    "Chain",
    "CompanionWarning",
    "Comparison",
    "Constant",
    "Declined",
    "Difference",
    "Differences",
    "Dirac",
    "Elementwise",
    "Fill",
    "Identity",
    "InitframeError",
    "Keep",
    "Masked",
    "Normal",
    "Orthogonal",
    "Plan",
    "Recipe",
    "RecipeError",
    "Report",
    "ResolveError",
    "Rule",
    "Scale",
    "Shift",
    "ShrinkPerturb",
    "Signal",
    "Slot",
    "SourceError",
    "Sparse",
    "Table",
    "TruncatedNormal",
    "Uniform",
    "Verification",
    "__version__",
    "apply",
    "calibrate",
    "compare",
    "deferred",
    "describe",
    "diff",
    "fill_",
    "identify",
    "initializer",
    "list_initializers",
    "list_presets",
    "load_recipe",
    "manifest",
    "materialize",
    "param_init_fn",
    "populate",
    "predict",
    "propagate",
    "regenerate",
    "reinit",
    "resolve",
    "survey",
    "trace",
    "verify",
    "write_checkpoint",
]

_SIGNALS = {"CalibrationWarning", "Comparison", "Signal", "calibrate", "compare", "predict", "propagate"}
_CONSTRUCTION = {"describe", "identify", "trace"}
_LATER = _SIGNALS | _CONSTRUCTION
"""Names that are loaded when they are first asked for: an application of a recipe does not need them."""


def __getattr__(name: str) -> _typing.Any:
    if name in _CONSTRUCTION:
        from initframe.construction import describe, identify, trace  # noqa: PLC0415  # not before it is needed

        return getattr({"describe": describe, "identify": identify, "trace": trace}[name], name)
    if name not in _SIGNALS:
        raise AttributeError(f"module 'initframe' has no attribute {name!r}")
    from initframe.signal import calibrate, compare, predict, propagate, signal  # noqa: PLC0415  # not before it is needed

    return next(getattr(home, name) for home in (calibrate, compare, predict, propagate, signal) if hasattr(home, name))


def __dir__() -> list[str]:
    """Name what is there already, and what is loaded later."""
    return sorted({*globals(), *_LATER})
