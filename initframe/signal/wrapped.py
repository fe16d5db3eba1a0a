"""Models whose tensors other libraries divide, move, or hold elsewhere: running them without that, or refusing to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from initframe.errors import Problem
from initframe.model.elsewhere import (
    OFFLOADED,
    elsewhere,
    gathers,
    is_hook_of,
    is_partitioned,
    places_all_inside,
    without_hooks,
)
from initframe.model.parts import Parts
from initframe.plan import Plan


@contextmanager
def undivided(parts: Parts) -> Iterator[None]:
    """Take off the hooks of fully_shard, tensor parallelism and accelerate: they divide, gather and move tensors."""
    wrapped = {module: vars(module)["forward"] for module in parts.modules.values() if without_hooks(module)}
    for module in wrapped:
        vars(module)["forward"] = without_hooks(module)
    kept: list[tuple[dict[int, Any], dict[int, Any]]] = []
    for module in parts.modules.values():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):  # noqa: SLF001
            if theirs := [key for key, hook in hooks.items() if is_hook_of("torch.distributed", hook)]:
                kept.append((hooks, dict(hooks)))
                for key in theirs:
                    del hooks[key]
    try:
        yield
    finally:
        for module, forward in wrapped.items():
            vars(module)["forward"] = forward
        for hooks, before in kept:
            hooks.clear()
            hooks.update(before)


def placeless(parts: Parts, *, predicted: bool) -> list[Problem]:
    """What speaks against running a model that DeepSpeed ZeRO-3 has partitioned: its elements are not here.

    Args:
        parts: of the model.
        predicted: whether it runs without values, so that nothing gathers them.
    """
    name = next((name for name, tensor in parts.parameters.items() if is_partitioned(tensor)), None)
    if name is None or (not predicted and any(map(gathers, parts.modules.values()))):
        return []
    fact = "it is partitioned by DeepSpeed ZeRO-3: this process holds a placeholder without elements."
    if predicted:
        fix = "Predict from a plan of the model before it is partitioned, which may be on the meta device."
    else:
        fix = "Run the engine of deepspeed.initialize, which gathers it, or the model before it is partitioned."
    return [Problem(f"tensor {name!r}", fact, "", fix)]


def away(plan: Plan, parts: Parts) -> list[Problem]:
    """Refuse tensors that accelerate offloads and the plan does not draw: their values are elsewhere."""
    drawn = {name for a in plan.assignments if not a.fill.needs_current for name in (a.slot.name, *a.slot.aliases)}
    found, inside = [], ""
    for module_name, module in parts.modules.items():
        if inside and module_name.startswith(inside):
            placed = True
        else:
            placed = places_all_inside(module)
            inside = f"{module_name}." * bool(module_name) if placed else ""
        for own, tensor in module._parameters.items():  # noqa: SLF001
            name = parts.planned(".".join(filter(None, (module_name, own))))
            if tensor is not None and name not in drawn and elsewhere(module, tensor, placed=placed) is OFFLOADED:
                found.append(name)
    if not found:
        return []
    fact = "it is offloaded by accelerate, and the plan keeps its values, which a prediction cannot read."
    fix = (
        "Give it a rule before the model is dispatched, or call accelerate.hooks.remove_hook_from_module(model, "
        "recurse=True). initframe.propagate measures the model as it is."
    )
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return [Problem(f"tensor {found[0]!r}{more}", fact, "", fix)]
