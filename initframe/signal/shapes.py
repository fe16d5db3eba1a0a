"""Tensors without memory, and the shapes of operations' outputs, worked out by torch once for each set of inputs.

torch's fake tensors tell the shape that any operation gives, at the price of a dispatch through many layers. A model
repeats its operations, so what was found once is kept, and the output is made directly: a :class:`Shadow`, which has a
shape and the state that a prediction keeps of it, and costs a tenth of a fake tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from initframe.signal.caches import empty_caches
from initframe.signal.operations import Facts, facts

CPU = torch.device("cpu")
LARGEST = 8192
"""How many combinations are kept."""
SIMPLE = frozenset((int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format))
"""Types of arguments, besides tensors and lists, that an output's shape may depend on."""


class Form(NamedTuple):
    """What a tensor is without its values.

    Attributes:
        shape: its shape.
        stride: its stride.
        offset: where it begins in its memory.
        dtype: its dtype.
        device: the device that it claims.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device


class Shadow(FakeTensor):
    """A tensor without memory; a fake tensor to those who ask what it is, with nothing of theirs but the name.

    Attributes:
        form: what it is without its values.
        memory: a number that it shares with its views; negative, as no address is.
        base: the tensor that it is a view of, if it is one.
        state: what is known of its values.
    """

    form: Form
    memory: int
    base: Tensor | None
    state: Any

    device, layout, is_mkldnn = Tensor.device, Tensor.layout, Tensor.is_mkldnn  # a fake tensor's ask what is not here
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse what is done to it outside of a walk.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{func} of a tensor without memory")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Shadow({list(self.form.shape)}, {self.form.dtype})"


_memories = count(-1, -1)
_alive: list[ref[Shadow]] = []
"""All shadows of the predictions that are going on."""


def shadow(form: Form, of: Tensor | None = None) -> Shadow:
    """A tensor without memory.

    Args:
        form: what it is.
        of: the tensor that it is a view of.
    """
    shape, stride, offset, dtype, device = form
    made = Tensor._make_wrapper_subclass(Shadow, shape, stride, offset, None, dtype, torch.strided, device)  # noqa: SLF001
    made.form = form
    made.state = None
    _alive.append(ref(made))
    if of is None:
        made.memory, made.base = next(_memories), None
    else:
        made.memory = storage(of)
        made.base = of.base if type(of) is Shadow and of.base is not None else of
        if type(made.base) is Shadow:
            made.base.__dict__.setdefault("views", []).append(ref(made))
    return made


@contextmanager
def without_shadows() -> Iterator[None]:
    """Predict; afterwards, no cache of a function holds a shadow."""
    try:
        yield
    finally:
        left = {id(one): one for known in _alive if (one := known()) is not None}
        _alive.clear()
        if left:  # rarely: who predicts keeps none
            empty_caches(lambda tensor: id(tensor) in left)


class Output(NamedTuple):
    """One output of an operation.

    Attributes:
        source: which tensor argument it shares its memory with; ``None`` for a new tensor.
        same: whether it is that argument.
        form: what it is.
    """

    source: int | None
    same: bool
    form: Form


class Known(NamedTuple):
    """What an operation returns.

    Attributes:
        outputs: tensors, and what else there is between them.
        kind: list or tuple; ``None`` for one output.
    """

    outputs: tuple[Any, ...]
    kind: type | None


UNKNOWN = object()
"""Instead of the outputs of an operation that was not met before."""

_known: dict[Any, Known] = {}


class Shapes:
    """Runs operations on tensors without memory.

    Args:
        mode: of the fake tensors that tell shapes; it need not be active.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode

    def empty(
        self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: torch.device = CPU
    ) -> Shadow:
        """A new tensor without memory."""
        return shadow(Form(tuple(shape), tuple(stride), 0, dtype, device))

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation on tensors without memory; no dispatch mode may be active."""
        tensors: list[Tensor] = []
        key = self.key(facts(func), args, kwargs, tensors)
        if key is None:
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        out = self.known(key, tensors)
        return self.found(func, args, kwargs, key, tensors) if out is UNKNOWN else out

    def key(self, known: Facts, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """What decides about an operation's outputs; ``None`` if more than what can be told apart may.

        Args:
            known: of the operation.
            args: its arguments.
            kwargs: likewise.
            tensors: an empty list, which gets the tensors among them.
        """
        try:
            given = tuple([_part(value, tensors) for value in args])
            named = tuple([(name, _part(value, tensors)) for name, value in kwargs.items()]) if kwargs else ()
        except TypeError:
            return None
        return (known.number, torch.get_default_dtype(), given, named)

    def known(self, key: Any, tensors: list[Tensor]) -> Any:
        """The outputs of an operation that was met before, made again; else :data:`UNKNOWN`.

        Args:
            key: from :meth:`key`.
            tensors: among the operation's arguments.
        """
        known = _known.get(key)
        return UNKNOWN if known is None else _made(known, tensors)

    def found(self, func: Any, args: Any, kwargs: Any, key: Any, tensors: list[Tensor]) -> Any:
        """Run an operation on fake tensors, and keep what it gave."""
        fakes = {id(one): self._fake(one) for one in tensors}
        given, named = tree_map(lambda one: fakes[id(one)] if isinstance(one, Tensor) else one, (args, kwargs))
        with self.mode:
            out = func(*given, **named)
        moved = [_follows(one, form_of(fakes[id(one)])) for one in tensors]
        stand_ins = [fakes[id(one)] for one in tensors]
        found = tree_map(lambda one: _output(one, stand_ins) if isinstance(one, Tensor) else one, out)
        if isinstance(found, Output) or type(found) not in (list, tuple):
            known = Known((found,), None)
        else:
            known = Known(tuple(found), type(found))
        if not all(one is None or isinstance(one, Output | int) for one in known.outputs):
            return tree_map_only(Output, lambda one: _one(one, tensors), found, is_leaf=_is_output)
        if key is not None and not any(moved):
            if len(_known) >= LARGEST:
                _known.clear()
            _known[key] = known
        return _made(known, tensors)

    def _fake(self, tensor: Tensor) -> FakeTensor:
        shape, stride, offset, dtype, device = form_of(tensor)
        last = sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if 0 not in shape else -1
        memory = torch.empty(offset + last + 1, dtype=dtype, device="meta").as_strided(shape, stride, offset)
        return FakeTensor(self.mode, memory, device)


def form_of(tensor: Tensor) -> Form:
    """What a tensor is without its values."""
    if type(tensor) is Shadow:
        return tensor.form
    return Form(tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), tensor.dtype, tensor.device)


def _made(known: Known, tensors: list[Tensor]) -> Any:
    """The outputs of an operation."""
    if known.kind is None:
        found = known.outputs[0]
        return _one(found, tensors) if type(found) is Output else found
    return known.kind([_one(one, tensors) if type(one) is Output else one for one in known.outputs])


def _one(out: Output, tensors: list[Tensor]) -> Tensor:
    """One output that is a tensor."""
    source, same, form = out
    if source is None:
        return shadow(form)
    return tensors[source] if same else shadow(form, tensors[source])


def storage(tensor: Tensor) -> int:
    """The address of what holds a tensor's memory: views share it, tensors without memory have one, too."""
    if type(tensor) is Shadow:
        return tensor.memory
    try:
        return int(tensor.untyped_storage()._cdata)  # noqa: SLF001  # data_ptr is 0 for all that have no memory
    except (NotImplementedError, RuntimeError):  # sparse and opaque tensors
        return id(tensor)


def _follows(tensor: Tensor, form: Form) -> bool:
    """Give a tensor the form that an operation gave its stand-in; tell whether it is another one."""
    if type(tensor) is not Shadow or tensor.form == form:
        return False
    tensor.form = form
    with torch._C._DisableTorchDispatch():  # noqa: SLF001  # torch reads a shape from the tensor itself
        tensor.as_strided_(form.shape, form.stride, form.offset)
    return True


def _part(value: Any, tensors: list[Tensor]) -> Any:
    """The part of an argument in the key.

    Raises:
        TypeError: more than its shape may decide.
    """
    kind = type(value)
    if kind is Shadow:
        tensors.append(value)
        return value.form
    if kind in SIMPLE:
        return (kind, value)
    if kind is Tensor and value.layout is torch.strided and not value.is_quantized:
        tensors.append(value)
        return form_of(value)
    if kind is list or kind is tuple or kind is torch.Size:
        return tuple([_part(one, tensors) for one in value])
    raise TypeError


def _output(one: Tensor, fakes: list[FakeTensor]) -> Output:
    """One output of an operation on fake tensors."""
    source = next((i for i, fake in enumerate(fakes) if fake is one), None)
    same = source is not None
    if source is None and one.layout == torch.strided:
        memory = one.untyped_storage()._cdata  # noqa: SLF001  # data_ptr is 0 for all fake tensors
        source = next((i for i, fake in enumerate(fakes) if fake.untyped_storage()._cdata == memory), None)  # noqa: SLF001
    return Output(source, same, form_of(one))


def _is_output(value: Any) -> bool:
    return isinstance(value, Output)
