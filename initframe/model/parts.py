"""What a model is made of, found in one walk over its modules; each of torch's own iterators walks them again."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from initframe.model.names import bare_names


class Parts(NamedTuple):
    """The modules and tensors of a model.

    A module that a model has twice counts once, as ``torch.func.functional_call`` puts back what it took out only if
    each attribute of each module is named once. Tied tensors have a name for each attribute.

    Attributes:
        modules: each module by its first name, the model itself by ``""``.
        parameters: by the names of their attributes.
        buffers: likewise.
        bare: the names that tensors have without the model's wrappers, which plans use, by those with them; only
            those that differ.
    """

    modules: dict[str, nn.Module]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    bare: dict[str, str]

    def planned(self, name: str) -> str:
        """Give a tensor's name as plans have it."""
        return self.bare.get(name, name)


def parts_of(model: nn.Module) -> Parts:
    """Find the modules and tensors of a model.

    >>> one, other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    >>> other.weight = one.weight
    >>> modules, parameters, *_ = parts_of(nn.Sequential(one, one, other))
    >>> list(modules), list(parameters)
    (['', '0', '2'], ['0.weight', '2.weight'])
    """
    modules = dict(model.named_modules())
    parts = Parts(modules, {}, {}, bare_names(model, modules.values()))
    for name, module in parts.modules.items():
        prefix = f"{name}." if name else ""
        for found, own in ((parts.parameters, module._parameters), (parts.buffers, module._buffers)):  # noqa: SLF001
            for key, tensor in own.items():
                if tensor is not None:
                    found[prefix + key] = tensor
    return parts
