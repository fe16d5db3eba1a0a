"""A pickle of tensors, walked through without making any: what it names, and whether it is a state_dict's.

torch's reader (``weights_only=True``) runs no code, but it lets a small file take any memory: ``bytearray(6 * 10**9)``
and ``torch.FloatStorage(10**10)`` are calls that it makes, and a key of tuples in tuples ends the process. So a pickle
is walked through first by the standard library's unpickler in Python, with stand-ins for all that it names.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch

from initframe.limits import EXPANDED_BYTES, PICKLE_STEPS, PICKLE_STEPS_PER_TENSOR

_SCALARS = (str, int, float, bool, bytes, type(None))
_REBUILD = ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "sparse_tensor")
_ITEM_SIZES = {
    2: ("Half", "BFloat16", "Short"),
    4: ("Float", "Int", "QInt32"),
    8: ("Double", "Long", "ComplexFloat"),
    16: ("ComplexDouble",),
}
"""Of the storages that torch names by type: to ask them for their dtype is deprecated."""
_FORBIDDEN = (
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),  # take memory before they read
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.STACK_GLOBAL, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX),
)


class Malformed(Exception):  # noqa: N818  # caught where the walk begins
    """A pickle does what torch.save writes in none."""


class _StandIn:
    """Something that a pickle has made or named; it has no content and takes any state."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Forget it."""


class _Mapping(dict[Any, Any]):
    """Stands for an OrderedDict, whose metadata is forgotten."""

    def __setstate__(self, state: object) -> None:
        """Forget it."""


class Walked(NamedTuple):
    """What a pickle holds.

    Attributes:
        strangers: the names of what no state_dict is made of, in order.
        fault: why it is none of torch.save, or damaged; empty if it is sound.
        storages: how many bytes the memory of tensors has, by its key in the file.
    """

    strangers: list[str]
    fault: str
    storages: dict[str, int]


def walk(pickled: bytes, tensors: int = 0) -> Walked:
    r"""Walk through a pickle, and say what it holds.

    Args:
        pickled: a pickle of protocol 2, as torch.save writes it.
        tensors: how many tensors the file has memory for: each may take some steps.

    Returns:
        What it holds.

    >>> walk(pickle.dumps({"a": bytearray(3)}, protocol=2)).strangers
    ['__builtin__.bytearray']
    >>> walk(b"\x80\x02}.")
    Walked(strangers=[], fault='', storages={})
    """
    walker = _Walk(_Counted(pickled, PICKLE_STEPS + PICKLE_STEPS_PER_TENSOR * tensors))
    fault = ""
    try:
        walker.load()
    except Malformed as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001  # of a damaged pickle, any
        fault = f"its pickle is damaged ({type(error).__name__})"
    return Walked(list(dict.fromkeys(walker.strangers)), fault, walker.storages)


class _Counted(io.BytesIO):
    """Bytes that are read in a bounded number of steps: each is one of a pickle, and takes a microsecond."""

    def __init__(self, content: bytes, steps: int) -> None:
        super().__init__(content)
        self.left = steps

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does."""
        self.left -= 1
        if self.left < 0:
            raise Malformed("its pickle has more steps than its tensors need")
        return super().read(size)


class _Walk(pickle._Unpickler):  # noqa: SLF001  # the one in C reserves memory for any memo
    """The unpickler in Python, with stand-ins; it makes dicts, lists, tuples and scalars only."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.strangers: list[str] = []
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Give the stand-in of a name."""
        module = "builtins" if module == "__builtin__" else module
        full = f"{module}.{name}"
        if full in _CALLS:
            return _CALLS[full]
        if _is_only_named(module, name):
            return self._named(full)
        self.strangers.append(full if module != "builtins" else f"__builtin__.{name}")
        return lambda *_: _StandIn(full)

    def persistent_load(self, pid: Any) -> Any:
        """Give the stand-in of a storage."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise Malformed("it has a storage that torch.save does not write")
        _, kind, key, _, count = pid
        if not isinstance(kind, _StandIn) or not isinstance(count, int) or count < 0:
            raise Malformed("it has a storage that torch.save does not write")
        self.storages[key] = max(self.storages.get(key, 0), count * _item_size(kind.name))
        return _StandIn("storage")

    def _named(self, full: str) -> Any:
        """Stand for a type or a dtype, which a state_dict names and never calls."""
        walk = self

        class Named(_StandIn):
            def __call__(self, *_: object) -> _StandIn:
                walk.strangers.append(f"{self.name}(…)")
                return _StandIn(self.name)

        return Named(full)

    def _set(self, mapping: Any, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            mapping[_hashable(key)] = value

    def load_setitem(self) -> None:
        """Set one entry."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        """Set several entries."""
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def load_dict(self) -> None:
        """Make a mapping of pairs."""
        items = self.pop_mark()
        self.append({})
        self._set(self.stack[-1], items)

    def load_newobj(self) -> None:
        """Make an object of a class."""
        args = self.stack.pop()
        self.stack[-1] = self.stack[-1](*args)

    def load_additems(self) -> None:
        """Add to a set, which stays empty here."""
        for item in self.pop_mark():
            _hashable(item)

    def load_frozenset(self) -> None:
        """Make a set, which stays empty here."""
        for item in self.pop_mark():
            _hashable(item)
        self.append(_StandIn("frozenset"))

    def load_forbidden(self) -> None:
        """Refuse a step."""
        raise Malformed("its pickle has a step that torch.save does not write")

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch.update(dict.fromkeys((code[0] for code in _FORBIDDEN), load_forbidden))


def _hashable(key: Any) -> Any:
    """Give a key back; tuples in tuples are refused, as the hash of a deep one ends the process."""
    if isinstance(key, _SCALARS) or (isinstance(key, tuple) and all(isinstance(part, _SCALARS) for part in key)):
        return key
    if isinstance(key, _StandIn):
        return id(key)
    raise Malformed(f"a key of a mapping is a {type(key).__name__}")


def _item_size(storage: str) -> int:
    """Return the bytes of one element of a storage's type; of others than these, torch has no values here."""
    kind = storage.rpartition(".")[2].removesuffix("Storage")
    return next((size for size, kinds in _ITEM_SIZES.items() if kind in kinds), 1)


def _is_only_named(module: str, name: str) -> bool:
    """Whether a name is that of a dtype, a quantization scheme or a storage."""
    if module == "torch":
        kinds = torch.dtype, torch.qscheme, torch.layout
        return name in ("Tensor",) or name.endswith("Storage") or isinstance(vars(torch).get(name), kinds)
    return (module, name) in {("torch.storage", "UntypedStorage"), ("torch.storage", "TypedStorage")}


def _mapping(*given: Any) -> _Mapping:
    """Stand for the call of a mapping; torch.save fills it afterwards."""
    if any(isinstance(one, list | dict | tuple) and one for one in given):
        raise Malformed("it has a mapping that torch.save does not write")
    return _Mapping()


def _set(items: Any = ()) -> _StandIn:
    for item in items:
        _hashable(item)
    return _StandIn("set")


def _text(text: Any, encoding: Any = "utf-8") -> bytes:
    """Stand for ``codecs.encode``, by which protocol 2 writes bytes; other encodings take quadratic time."""
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8", "ascii"):
        raise Malformed("it has bytes that torch.save does not write")
    return text.encode(encoding)


def _quantized(storage: Any, offset: Any, size: tuple[int, ...], *_: Any) -> _StandIn:
    """Stand for a quantized tensor, which is made empty before it gets its memory."""
    del storage, offset
    if math.prod(size) > EXPANDED_BYTES:
        raise Malformed(f"a quantized tensor has {math.prod(size)} elements; {EXPANDED_BYTES} is the limit")
    return _StandIn("tensor")


def _made(name: str) -> Callable[..., _StandIn]:
    return lambda *_: _StandIn(name)


def _of_type(function: Callable[..., Any], kind: object, arguments: tuple[Any, ...], state: object) -> Any:
    """Stand for a tensor with attributes, which another call makes."""
    del kind, state
    return function(*arguments)


_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("collections.OrderedDict", "collections.Counter"), _mapping),
    **{f"torch._utils._rebuild_{name}": _made("tensor") for name in _REBUILD},
    **dict.fromkeys(("torch.nn.parameter.Parameter", "torch.Size", "torch.device"), _made("tensor")),
    **dict.fromkeys(("torch.serialization._get_layout", "builtins.complex"), _made("layout")),
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "_codecs.encode": _text,
    "builtins.set": _set,
}
"""What a state_dict calls, each with what stands for it; none takes more memory than its arguments."""
