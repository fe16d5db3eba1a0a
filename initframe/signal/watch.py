"""Following a forward pass: which module runs, which operations it calls, and what each of them gives.

Hooks know names, a dispatch mode sees every operation, also inside nested functions: together they give one sequence of
calls, the same one for a measured and a predicted pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from initframe.model.elsewhere import HOOK
from initframe.model.hooks import shown_by_hooks
from initframe.model.parametrizations import logical_name
from initframe.model.parts import Parts
from initframe.signal.batch import main_output
from initframe.signal.operations import SHOWN, Facts, facts
from initframe.signal.shapes import Shadow, storage


class Call(NamedTuple):
    """One call of a module, or of an operation inside a module, that has a row.

    Attributes:
        name: the row's name.
        number: which call of that name.
        op: the module's class, or the operation.
        kind: the operation that made the values, for saturation and the like.
        depth: the number of weighted layers so far, if the call is one.
        weight: the name of the weight that it used.
    """

    name: str
    number: int
    op: str
    kind: str
    depth: int | None = None
    weight: str | None = None


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow the forward pass of a model; a context that removes every hook at its end.

    Args:
        parts: of the model that will run.
        seen: told each call that has a row, with its output, when both are final.
        weights: names of parameters by the address of what holds their memory (:func:`storage`).
    """

    def __init__(self, parts: Parts, seen: Callable[[Call, Tensor], None], weights: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts, self.seen, self.weights = parts, seen, dict(weights)
        self._kept: list[Tensor] = []
        self.stack: list[nn.Module] = []
        self.used: set[str] = set()
        self._calls: defaultdict[str, int] = defaultdict(int)
        self._depth = 0
        self._pending: tuple[str, str, Tensor] | None = None
        self._made: tuple[Tensor, str] | None = None
        self._weight: list[str | None] = []
        self._names = {module: name for name, module in parts.modules.items()}
        self._thread = get_ident()

    @property
    def where(self) -> str:
        """The name of the module that is running, or that failed."""
        return self._names[self.stack[-1]] if self.stack else ""

    def __enter__(self) -> Watch:
        for module in self._names:
            module._forward_pre_hooks[id(self)] = self._enter  # noqa: SLF001  # torch's handles cost ten times the hooks
            module._forward_hooks[id(self)] = self._leave  # noqa: SLF001
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)  # type: ignore[no-untyped-call]
        for module in self._names:
            module._forward_pre_hooks.pop(id(self), None)  # noqa: SLF001
            module._forward_hooks.pop(id(self), None)  # noqa: SLF001

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, between telling the last one's result and noting its own."""
        kwargs = kwargs or {}
        known = facts(func)
        if known.asks:
            return func(*args, **kwargs)
        name, moves = known.name, known.moves
        if not moves and self._pending is not None and not self._takes_away(kwargs):
            self.flush()
        if known.weighs:
            self._note_weight(args)
        out = self.operate(func, known, args, kwargs)
        result = main_output(out)
        if result is None:
            return out
        if not moves:
            self._note(name, result, shown=_matters(name, args))
        elif self._pending is not None and args and args[0] is self._pending[2]:
            self._pending = (
                *self._pending[:2],
                result,
            )  # some subclasses' views have memory of their own
            self._made = (result, self._pending[1])
        return out

    def _takes_away(self, kwargs: Any) -> bool:
        """Whether an operation is accelerate's, which puts a weight on the meta device after its module has run."""
        return bool(self.stack) and HOOK in vars(self.stack[-1]) and kwargs.get("device") == META

    def operate(self, func: Any, known: Facts, args: Any, kwargs: Any) -> Any:  # noqa: ARG002  # for those who do more
        """Run an operation; the place to do more than that."""
        return func(*args, **kwargs)

    def made(self, op: str, weights: Iterable[Tensor | None], result: Tensor) -> None:
        """Note an operation that was not dispatched: what it multiplied with, and its result."""
        self.flush()
        self._note_weight(weights)
        self._note(op, result, shown=True)

    def _note(self, op: str, result: Tensor, *, shown: bool) -> None:
        """Note what an operation made; whether it has a row is known when it is known whose output it is."""
        self._made = (result, op)
        if shown and op in SHOWN and result.ndim > 1 and not (self.stack and isinstance(self.stack[-1], nn.RNNBase)):
            self._pending = (self.where, op, result)

    def flush(self) -> None:
        """Tell the last operation's result, now that nothing can be its module's output any more."""
        if self._pending is None:
            return
        module, op, tensor = self._pending
        self._pending = None
        self._tell(f"{module}/{op}", op, op, tensor)

    def _enter(self, module: nn.Module, _: Any) -> None:
        if get_ident() != self._thread:  # hooks are of all threads, and another one may use the model
            return
        if self._pending is not None:
            self.flush()
        self.stack.append(module)
        self._weight.append(None)
        if len(module._forward_pre_hooks) > 1:  # noqa: SLF001  # this watch's, and those that compute a weight
            for own in shown_by_hooks(module):
                self.computed(vars(module).get(own), ".".join(filter(None, (self.where, own))))

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        if get_ident() != self._thread:
            return
        self.stack.pop()
        weight = self._weight.pop()
        result = main_output(output)
        if isinstance(module, ParametrizationList):
            self.computed(result, logical_name(self._names[module]))
        if self._pending is not None:
            if result is not None and _share(self._pending[2], result):
                self._pending = None  # the module's own row says it
            else:
                self.flush()
        if result is None:
            return
        kind = self._made[1] if self._made and _share(self._made[0], result) else ""
        if weight is not None and kind not in ("matmul", "conv") and any(True for _ in module.children()):
            weight = None
        cls = _shown(type(module))  # type: ignore[arg-type]  # classes are hashable
        self._tell(self._names[module], cls, kind, result, weight)

    def _note_weight(self, args: Any) -> None:
        """Remember which weight the running module multiplies with."""
        if not self._weight:
            return
        for tensor in args:
            if isinstance(tensor, Tensor) and tensor.ndim > 1 and (name := self._name_of(tensor)):
                self._weight[-1] = name
                self.used.add(name)

    def _name_of(self, tensor: Tensor) -> str | None:
        """The name of a weight; of one that accelerate brought for this call, by where the module holds it."""
        known = self.weights.get(storage(tensor))
        module = self.stack[-1]
        if known is not None or HOOK not in vars(module):
            return known
        own = next((name for name, held in module._parameters.items() if held is not None and _share(held, tensor)), "")  # noqa: SLF001
        return self.parts.planned(".".join(filter(None, (self.where, own)))) if own else None

    def computed(self, weight: Tensor | None, name: str) -> None:
        """Note the weight that a parametrization or a hook has computed for this call.

        Args:
            weight: what was computed.
            name: of the weight, as if the module held it.
        """
        if isinstance(weight, Tensor):
            self.weights[storage(weight)] = name
            self._kept.append(weight)  # so that no other tensor gets its address

    def _tell(self, name: str, op: str, kind: str, tensor: Tensor, weight: str | None = None) -> None:
        number = self._calls[name]
        self._calls[name] += 1
        depth = None
        if weight is not None:
            self._depth += 1
            depth = self._depth
        with undispatched(tensor), torch._C.DisableTorchFunction():  # noqa: SLF001  # nothing that is done to tell of a call is a call
            self.seen(Call(name, number, op, kind, depth, weight), tensor)


def weights_of(parts: Parts) -> dict[int, str]:
    """The first names of a model's parameters, as plans have them, by the address of what holds their memory."""
    return {storage(parameter): parts.planned(name) for name, parameter in reversed(parts.parameters.items())}


def undispatched(tensor: Tensor) -> AbstractContextManager[Any]:
    """Have no dispatch mode see what is done with a tensor.

    torch's own tensors need no dispatch at all then, which is ten times as fast to arrange as it is to put every mode
    aside. Other classes do their work in it.
    """
    if type(tensor) in OWN:
        return torch._C._DisableTorchDispatch()  # noqa: SLF001
    return _disable_current_modes()


META = torch.device("meta")
OWN = frozenset((Tensor, nn.Parameter, Shadow))
"""Classes whose operations need no dispatch to Python."""


def _share(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors share their memory."""
    return one is other or storage(one) == storage(other)


def _matters(name: str, args: Any) -> bool:
    """Whether an operation says something about the signal: a sum or product with a number does not."""
    if name not in ("add", "mul"):
        return True
    return len(args) > 1 and all(isinstance(a, Tensor) and a.ndim > 1 and a.is_floating_point() for a in args[:2])


@lru_cache(maxsize=1024)
def _shown(cls: type) -> str:
    """The name of a module's own class."""
    return next((base.__name__ for base in cls.__mro__ if not _injected(base)), "Module")


def _injected(cls: type) -> bool:
    """Tell the classes that parametrizations and fully_shard put in front of a module's own."""
    return cls.__module__ == "torch.nn.utils.parametrize" or cls.__module__.startswith("torch.distributed.")
