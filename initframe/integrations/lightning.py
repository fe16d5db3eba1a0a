"""Lightning: initialize a model once, before its optimizer exists."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from initframe.applying.apply import reinit
from initframe.applying.checks import checked_seed
from initframe.construction.deferred import materialize
from initframe.errors import Problem, ResolveError, closest
from initframe.plan.report import Report
from initframe.recipe.recipe import load_recipe

_DONE = "_initframe_initialized"


class Initialize(Callback):
    """Initialize a model once: right after ``configure_model``, before a checkpoint is loaded and before the optimizer.

    The model itself remembers that it was initialized. No later fit, validation, test or prediction does it again, with
    whichever trainer or callback. What a checkpoint (``ckpt_path``) holds is loaded over the initialization.

    A deferred model is materialized, sharded or not. A module from ``load_from_checkpoint`` is a new one, of which
    nobody can tell that it was loaded: train it without this callback, or with ``ckpt_path``.

    Args:
        recipe: as :func:`initframe.resolve` takes it; in a config of LightningCLI a preset's name, a file, a mapping,
            or a list of them. ``None``: what the constructor gave a deferred model.
        seed: 0 ≤ seed < 2⁶⁴.
        attribute: where the LightningModule holds the model, such as ``"model"``; names are those of the model alone.
            By default, the LightningModule is the model.

    Attributes:
        report: what happened; ``None`` before, and if the model was initialized already.

    Raises:
        RecipeError: the recipe is wrong for every model.

    >>> module = LightningModule()
    >>> module.model = nn.Linear(2, 2)
    >>> callback = Initialize({"rules": {"weight": "eye", "bias": "zeros"}}, seed=0, attribute="model")
    >>> callback.initialize(module)
    >>> module.model.weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, recipe: Any, seed: int = 0, attribute: str | None = None) -> None:
        self.recipe = None if recipe is None else load_recipe(recipe)
        self.seed = checked_seed(seed)
        self.attribute = attribute
        self.report: Report | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's
        """Have the model initialized as soon as it is configured: Lightning has no hook between that and the optimizer.

        The module's ``configure_model`` is put back when it is called.
        """
        configure, own = pl_module.configure_model, vars(pl_module)
        found = own.get("configure_model")

        def configure_and_initialize() -> None:
            own.pop("configure_model", None)
            if found is not None:
                own["configure_model"] = found
            configure()
            self.initialize(pl_module)

        own["configure_model"] = configure_and_initialize

    def initialize(self, pl_module: LightningModule) -> None:
        """Initialize the model of a LightningModule, unless that was done before.

        Args:
            pl_module: it, configured.

        Raises:
            ResolveError: recipe and model do not fit together, or the attribute is no module. Nothing was written.
        """
        model = self._model(pl_module)
        if vars(model).get(_DONE):
            return
        if self.recipe is None or any(parameter.is_meta for parameter in model.parameters()):
            self.report = materialize(model, self.recipe, self.seed)
        else:
            self.report = reinit(model, self.recipe, self.seed)
        vars(model)[_DONE] = True

    def _model(self, pl_module: LightningModule) -> nn.Module:
        """Find the model in its LightningModule."""
        try:
            model: nn.Module = pl_module.get_submodule(self.attribute or "")
        except AttributeError:
            names = [name for name, _ in pl_module.named_modules() if name]
            fact = f"{type(pl_module).__name__} has no module {self.attribute!r} when it is configured."
            raise ResolveError(Problem("attribute", fact, closest(str(self.attribute), names))) from None
        return model
