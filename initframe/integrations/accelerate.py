"""accelerate: fill a deferred model when it is sharded, and give its optimizer the parameters that it has then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from initframe.construction.deferred import materialize
from initframe.errors import Problem, ResolveError
from initframe.model.elsewhere import PREPARED
from initframe.model.names import walk
from initframe.resolver.resolve import Written


def prepare(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    *others: Any,
    recipe: Written | None,
    seed: int = 0,
) -> list[Any]:
    """Call ``accelerator.prepare`` and fill the model: under FSDP2 when it is sharded, otherwise before.

    accelerate finds an optimizer's parameters again by their memory. Parameters without memory are all the same to it:
    under FSDP2, it gives the optimizer one of them, many times. Here they are found by their names.

    Args:
        accelerator: whose ``prepare`` is called.
        model: deferred; or real in the main process and deferred in the others (``cpu_ram_efficient_loading``).
        optimizer: of the model's parameters, in any groups; it has taken no step.
        *others: what else is to be prepared: data loaders, schedulers.
        recipe: as :func:`initframe.resolve` takes it. ``None``: what its constructor gave a deferred model.
        seed: 0 ≤ seed < 2⁶⁴.

    Returns:
        What ``accelerator.prepare`` returns, as a list: the model, the optimizer, the others.

    Raises:
        ResolveError: the optimizer has parameters that the model has not, or has taken steps; the main process has no
            values to send; or recipe and model do not fit together.
    """
    names = {id(parameter): name for name, parameter in parameters(model)}
    groups = [[names.get(id(parameter), "") for parameter in group["params"]] for group in optimizer.param_groups]
    if problems := [*_unfit(optimizer, groups), *_nothing_to_send(accelerator, model)]:
        raise ResolveError(*problems)
    if not accelerator.is_fsdp2:
        _fill(model, optimizer, groups, recipe, seed)
    prepared = list(accelerator.prepare(model, optimizer, *others))
    if accelerator.is_fsdp2:
        mark = vars(prepared[0]).pop(PREPARED)  # materialize refuses it, as nothing else mends the optimizer
        _fill(prepared[0], prepared[1], groups, recipe, seed)
        setattr(prepared[0], PREPARED, mark)
    return prepared


def _fill(model: nn.Module, optimizer: Optimizer, groups: list[list[str]], recipe: Written | None, seed: int) -> None:
    """Materialize a model, and give an optimizer's groups the parameters of these names."""
    if recipe is not None or any(parameter.is_meta for parameter in model.parameters()):
        materialize(model, recipe, seed)
    found = dict(parameters(model))
    for group, names in zip(optimizer.param_groups, groups, strict=True):
        group["params"] = [found[name] for name in names]


def parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Give a model's parameters by the names that they have in the bare model; a tied one by each of its names.

    >>> [name for name, _ in parameters(nn.DataParallel(nn.Linear(2, 3)))]
    ['weight', 'bias']
    """
    for prefix, module in walk(model):
        yield from ((prefix + name, own) for name, own in module._parameters.items() if own is not None)  # noqa: SLF001


def _unfit(optimizer: Optimizer, groups: list[list[str]]) -> Iterator[Problem]:
    """Say why an optimizer cannot be given a model's new parameters."""
    if any("" in names for names in groups):
        fact = "it has parameters that the model has not."
        yield Problem("optimizer", fact, fix="Build it from the parameters of this model.")
    if optimizer.state:
        yield Problem("optimizer", "it has state of parameters that are going to be replaced.", fix="Build it anew.")


def _nothing_to_send(accelerator: Accelerator, model: nn.Module) -> Iterator[Problem]:
    """Say that the main process would send values that it has not."""
    plugin = accelerator.state.fsdp_plugin if accelerator.is_fsdp2 else None
    sends = accelerator.is_main_process and plugin is not None and plugin.cpu_ram_efficient_loading
    if sends and any(parameter.is_meta for parameter in model.parameters()):
        fact = "cpu_ram_efficient_loading sends the main process's values to the others, and it has none."
        yield Problem("model", fact, fix="Turn it off; or build the model with its memory in the main process.")
