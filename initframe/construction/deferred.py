"""Build models without their parameters' memory; allocate and fill it once, on the device where it will be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from torch import nn

from initframe.applying.apply import Options, apply, apply_surveyed, reshard
from initframe.applying.checks import checked_seed, prepared
from initframe.applying.draw import Progress
from initframe.applying.locate import current_survey, demand_plan, uncovered
from initframe.applying.write import Generator
from initframe.construction.allocate import Allocated, Device, allocate, back_on_failure, demand_device
from initframe.construction.twins import Twins
from initframe.construction.watch import is_watched, recorded
from initframe.errors import Problem, ResolveError
from initframe.model.elsewhere import is_prepared
from initframe.model.memory import footprint, is_distributed
from initframe.model.names import walk
from initframe.model.scripted import is_scripted
from initframe.model.survey import Survey, survey
from initframe.model.uncompiled import uncompiled
from initframe.plan import Plan
from initframe.plan.report import Report
from initframe.recipe.recipe import Recipe
from initframe.resolver.only import Only, out_of_sight, restricted
from initframe.resolver.resolve import Written, resolve, resolve_surveyed

PIECEMEAL = "its layer computes it from others, and a param_init_fn is given one module's own tensors at a time."

CONSTRUCTOR = Recipe(unmatched="constructor", name="constructor")
"""The recipe of a model's own constructor."""


@contextmanager
def deferred() -> Iterator[None]:
    """Build models whose parameters take no memory; buffers are real, so that the tables in them are right.

    A parameter goes to the meta device when it is registered, and what a constructor writes to it after that costs
    nothing: :func:`materialize` brings the values. Parameters that share memory go on to share it. A constructor that
    needs a parameter's values fails, or makes a buffer of it that has no values either; docs/scale.md tells more. What
    other threads build at the same time keeps its memory.

    >>> with deferred():
    ...     model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> model[0].weight.device.type, model[1].running_var.tolist()
    ('meta', [1.0, 1.0])
    """
    if is_watched():
        yield  # what is built inside is recorded already
        return
    with recorded(Twins()):
        yield


@uncompiled
def materialize(
    model: nn.Module,
    recipe: Written | Plan | None = None,
    seed: int | None = None,
    device: Device = None,
    *,
    generator: Generator = "stream",
    measure: bool | Literal["after"] = False,
    verify_replicas: bool = False,
    only: Only = None,
    on_progress: Progress | None = None,
) -> Report:
    """Give a deferred model its memory and fill it by a recipe, once; what was tied is tied again.

    Works before and after ``fully_shard`` and ``parallelize_module``: every process allocates and fills its own shards.
    Tensors that have memory already are filled if a rule says so, and kept otherwise. The parameters are new objects:
    build the optimizer after this.

    Args:
        model: built under :func:`deferred`, or on the meta device.
        recipe: as :func:`initframe.resolve` takes it; or the plan of a whole model, of which this one is a stage.
            Without one, every parameter gets the distribution that the constructor gave it under :func:`deferred`.
        seed: 0 ≤ seed < 2⁶⁴, by default 0.
        device: where all of the model goes. By default, new tensors go to torch's default device, shards to their
            mesh's, and what is real stays. Under fully_shard's CPU offload: ``"cpu"``.
        generator: as for :func:`initframe.apply`.
        measure: likewise; what has no memory is measured after the write only.
        verify_replicas: as for :func:`initframe.apply`.
        only: names or patterns of the tensors that are meant, such as the keys that a checkpoint lacked; the rest of
            the model is out of sight, and what has no memory there gets none.
        on_progress: likewise.

    Returns:
        What happened.

    Raises:
        RecipeError: the recipe is wrong for every model.
        ResolveError: recipe and model do not fit together, a tensor would be left without values, there is no such
            device, or accelerate has prepared the model and its optimizer already. The model is as it was, without
            memory. So it is after any other exception, except that tensors that had memory may have been filled: for
            these, :func:`initframe.apply` has ``restore=True``.
        InitframeError: processes hold different values, after the write.

    >>> with deferred():
    ...     model = nn.Linear(2, 2)
    >>> report = materialize(model, {"rules": {"weight": "eye", "bias": "zeros"}})
    >>> model.weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> with deferred():
    ...     model = nn.LayerNorm(2)
    >>> report = materialize(model)  # as its constructor does
    >>> model.weight.tolist()
    [1.0, 1.0]
    """
    _demand_module(model)
    _demand_free_of_optimizers(model)
    if isinstance(recipe, Plan):
        seen = current_survey(recipe, model)
        plan = restricted(recipe, out_of_sight(only, seen))
    else:
        seen = survey(model)
        plan = resolve_surveyed(CONSTRUCTOR if recipe is None else recipe, seen, model, only)
    demand_device(device)
    scripted = _scripted_without_memory(seen)
    if problems := scripted or [*uncovered(plan, seen), *prepared(plan, model, seen, seed, generator)[1]]:
        raise ResolveError(*problems)
    if measure and any(tensor.is_meta for tensor in model.parameters()):
        measure = "after"
    with back_on_failure(model):
        allocate(model, device, left=_without_memory(plan, seen))
        reshard(model)
        options = Options(generator, measure, verify_replicas, on_progress=on_progress)
        return apply_surveyed(plan, seen.relocated(), model, seed, options)


def resolve_deferred(recipe: Written, build: Callable[[], nn.Module], *, only_read: bool = False) -> Plan:
    """Resolve a recipe against a model that is built without memory; or with it, if its own values are needed.

    Args:
        recipe: as :func:`initframe.resolve` takes it.
        build: builds the model, the same every time it is called.
        only_read: whether the plan is only read and never applied, so that no values are needed.

    Returns:
        The plan, to be given to :func:`materialize` with its own model.

    Raises:
        RecipeError: the recipe is wrong for every model.
        ResolveError: recipe and model do not fit together.

    >>> plan = resolve_deferred({"rules": {"weight": "zeros"}}, lambda: nn.Linear(2, 2))  # the bias keeps its numbers
    >>> plan.model.bias.device.type
    'cpu'
    """
    try:
        with deferred():
            model = build()
        seen = survey(model)
    except Exception:  # noqa: BLE001  # a constructor may read values that are not there; built for real, it may work
        return resolve(recipe, build())
    needs_values = any(slot.blocked and seen.places[slot.name].computed for slot in seen.slots)  # to be read
    if needs_values or (not only_read and _scripted_without_memory(seen)):
        return resolve(recipe, build())
    plan = resolve_surveyed(recipe, seen, model)
    if not only_read and uncovered(plan, seen):
        return resolve(recipe, build())
    plan.latest.take(seen, model)
    return plan


def param_init_fn(plan: Plan, seed: int = 0, device: Device = None) -> Callable[[nn.Module], nn.Module]:
    """Make the function that FullyShardedDataParallel and others call on every module without memory.

    Args:
        plan: of the whole deferred model, resolved before it is wrapped.
        seed: 0 ≤ seed < 2⁶⁴.
        device: where the parameters go; by default torch's default device.

    Returns:
        A function that materializes a module's own parameters, those of its children excepted, and returns the module.

    Raises:
        ResolveError: the plan leaves a tensor without values, or fills one that its layer computes from others; its
            model has changed; or there is no such device.

    >>> with deferred():
    ...     model = nn.Sequential(nn.Linear(2, 2))
    >>> init = param_init_fn(resolve({"rules": {"*.weight": "eye", "*.bias": "zeros"}}, model))
    >>> init(model[0]) is model[0]
    True
    >>> model[0].weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    demand_plan(plan, "param_init_fn")
    model = plan.model
    if not isinstance(model, nn.Module):
        fact = "the plan is of a state_dict or of no model."
        raise ResolveError(Problem("param_init_fn", fact, fix="Resolve the recipe against the module."))
    seed = checked_seed(seed)
    demand_device(device)
    seen = current_survey(plan, model)
    writes, problems = prepared(plan, model, seen, seed, "stream")
    fix = "Materialize the model before it is wrapped: initframe.materialize."
    problems += [Problem(w.name, PIECEMEAL, fix=fix) for w in writes if w.place.computed and not w.kept]
    kept = [w for w in writes if w.copied and w.copied.from_memory]
    problems += [Problem(w.name, "it is a copy of values that are kept elsewhere.", fix=fix) for w in kept]
    if problems := [*uncovered(plan, seen), *problems]:
        raise ResolveError(*problems)
    prefixes = {id(module): (module, prefix) for prefix, module in reversed(list(walk(model)))}
    so_far = Allocated({}, {})

    def init(module: nn.Module) -> nn.Module:
        own = (*module._parameters.items(), *module._buffers.items())  # noqa: SLF001
        new = [name for name, tensor in own if tensor is not None and tensor.is_meta]
        if new and id(module) not in prefixes:
            fact = f"it is not a module of {plan.title}."
            raise ResolveError(Problem(f"this {type(module).__name__}", fact, fix="Resolve the model again."))
        allocate(module, device, recurse=False, so_far=so_far)
        if new:
            prefix = prefixes[id(module)][1]
            apply(plan, seed, module={prefix + name: getattr(module, name) for name in new})
        return module  # accelerate puts what it is given back in the module's place

    return init


def _demand_module(model: object) -> None:
    """Refuse what has no modules to give memory to."""
    if not isinstance(model, nn.Module):
        given = "a state_dict" if isinstance(model, Mapping) else type(model).__name__
        fix = "The order is materialize(model, recipe, seed, device)."
        raise ResolveError(Problem("model", f"got {given}.", "A model is an nn.Module here.", fix))


def _demand_free_of_optimizers(model: nn.Module) -> None:
    """Refuse a model that accelerate has sharded: its optimizer got one parameter in the place of each."""
    lacking = sum(is_distributed(parameter) and parameter.is_meta for parameter in model.parameters())
    if lacking and is_prepared(model):
        fact = f"accelerate has prepared it before it had memory, and its optimizer got 1 of {lacking} parameters."
        fix = "Call initframe.integrations.accelerate.prepare in the place of accelerator.prepare and materialize."
        raise ResolveError(Problem("model", fact, fix=fix))


def _scripted_without_memory(seen: Survey) -> list[Problem]:
    """Refuse tensors without memory in modules of TorchScript, which keep the tensors that they have."""
    fact, fix = "it has no memory, and a scripted module keeps its tensors.", "Materialize the model, then script it."
    owners = {name: [o for o, _ in place.owners if isinstance(o, nn.Module)] for name, place in seen.places.items()}
    lacking = (name for name, own in owners.items() if any(tensor.is_meta for tensor in seen.places[name].held))
    return [Problem(name, fact, fix=fix) for name in lacking if any(map(is_scripted, owners[name]))]


def _without_memory(plan: Plan, seen: Survey) -> frozenset[Any]:
    """Find the memory of tensors that a plan has out of sight, but for what others share."""
    shared = {footprint(t) for s in seen.every if s.name not in plan.hidden for t in seen.places[s.name].held}
    return (
        frozenset(footprint(t) for name in plan.hidden if name in seen.places for t in seen.places[name].held) - shared
    )
