"""What a model is made of, found in one walk over its modules; each of torch's own iterators walks them again."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from initframe.signal.shapes import storage


class Parts(NamedTuple):
    """The modules and tensors of a model.

    Attributes:
        modules: each module by its first name, the model itself by ``""``.
        parameters: by all of their names.
        buffers: likewise.
    """

    modules: dict[str, nn.Module]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def names(self) -> dict[int, str]:
        """The first names of parameters, by the address of what holds their memory."""
        return {storage(parameter): name for name, parameter in reversed(self.parameters.items())}


def parts_of(model: nn.Module) -> Parts:
    """Find the modules and tensors of a model.

    >>> one = nn.Linear(2, 2, bias=False)
    >>> modules, parameters, _ = parts_of(nn.Sequential(one, one))
    >>> list(modules), list(parameters)
    (['', '0'], ['0.weight', '1.weight'])
    """
    names: dict[nn.Module, str] = {}
    parameters: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, name)
        prefix = f"{name}." if name else ""
        for found, own in ((parameters, module._parameters), (buffers, module._buffers)):  # noqa: SLF001
            for key, tensor in own.items():
                if tensor is not None:
                    found[prefix + key] = tensor
    return Parts({name: module for module, name in names.items()}, parameters, buffers)
