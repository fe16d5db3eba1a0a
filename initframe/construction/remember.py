"""After the constructor: what is known of every parameter goes into the module that owns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initframe.construction.boxes import Geometry, geometry
from initframe.construction.readout import constructed
from initframe.construction.recorder import Recorder
from initframe.fills.constructed import Constructed
from initframe.model.computed import Parametrization
from initframe.model.parametrizations import parametrizations
from initframe.model.remembered import remember


def remember_all(modules: Iterable[nn.Module], recorder: Recorder) -> None:
    """Keep what a recorder noted in every module, those inside of the given ones included.

    Args:
        modules: whatever was built.
        recorder: what was noted meanwhile.
    """
    known: dict[tuple[int, Geometry], Constructed] = {}

    def look_up(tensor: Tensor) -> Constructed:
        history = recorder.history(tensor)
        key = id(history), geometry(tensor)
        if history is None or key not in known:
            known[key] = constructed(tensor, history)
        return known[key]

    seen: set[int] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        waiting += [child for child in module._modules.values() if child is not None]  # noqa: SLF001
        own = module._parameters.items()  # noqa: SLF001
        found = {name: look_up(p) for name, p in own if p is not None and not is_lazy(p)}
        if _may_compute(module):
            found |= {name: how for name, how in _computed(parametrizations(module), look_up) if how}
        if found:
            remember(module, found)


def _may_compute(module: nn.Module) -> bool:
    """Whether a module may have tensors that are computed from others."""
    return "parametrizations" in module._modules or bool(module._forward_pre_hooks)  # noqa: SLF001


def _computed(found: Mapping[str, Parametrization], look_up: object) -> Iterable[tuple[str, Constructed | None]]:
    """What the constructor gave to tensors that are computed from parameters.

    A norm that was split off is known from what it is the norm of: filling the whole sets it again.
    """
    for name, how in found.items():
        laws = [look_up(tensor) for tensor in how.originals.values()]  # type: ignore[operator]
        if len(laws) == 1:
            yield name, laws[0]
        elif len(laws) == 2 and how.exact and "norm" in laws[0].reason and laws[1].fill is not None:
            yield name, laws[1]
        elif not all(law.fill for law in laws):
            fault = next(law for law in laws if law.fill is None)
            yield (
                name,
                Constructed(
                    how.shape or (),
                    None,
                    f"it is computed from others, of which one is not read: {fault.reason}",
                    fault.origin,
                ),
            )
