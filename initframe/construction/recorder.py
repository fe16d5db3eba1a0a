"""What was written to every storage while a constructor ran, as symbols; and what a tensor holds therefore."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from threading import get_ident
from types import FrameType
from typing import Any, NamedTuple

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from initframe.construction.boxes import Geometry, apart, box_of, geometry, is_all
from initframe.construction.origins import SourceLine, caller, is_torch
from initframe.construction.values import REAL, REPEATED, Drawn, Number, Real, Structured, Tabulated, Unreadable, Value
from initframe.construction.whole_calls import WHOLE, whole_call

Pieces = Sequence[tuple[tuple[slice, ...], Value]]
"""What was written to a tensor in parts: where, by slices, and what."""

_COMPLEX = Unreadable("complex numbers are used")
_MIXED = Unreadable("it is computed from a tensor that was written in parts")


class PartialWrite(NamedTuple):
    """A write to a part of a storage."""

    where: Geometry
    value: Value
    line: SourceLine | None


class History:
    """What was written to one storage.

    Attributes:
        storage: held weakly, so that no other one is taken for it.
        value: what was written to the whole.
        parts: what was written to parts of it after that, in order.
        line: where the last write was.
        overwritten: how often it was written whole in vain.
    """

    __slots__ = ("line", "overwritten", "parts", "storage", "value")

    def __init__(self, storage: StorageWeakRef) -> None:
        self.storage = storage
        self.value: Value = None
        self.parts: list[PartialWrite] = []
        self.line: SourceLine | None = None
        self.overwritten = 0


class Recorder:
    """Notes every write to a tensor in the history of its storage, as :mod:`initframe.construction.watch` sees them.

    Attributes:
        histories: by the storage's address.
        loaded: where trained values were loaded, if they were.
        hollow: tensors that had no element when they were made: torch.load gives them a file's memory.
        registered: the shapes of all parameters that modules were given, in order.
        thread: the one that builds the model.
        most: elements that a factory may allocate; what is larger is made on meta, because it can be a parameter only.
            ``None``: any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.histories: dict[int, History] = {}
        self.loaded: SourceLine | None = None
        self.hollow: list[Tensor] = []
        self.registered: list[tuple[int, ...]] = []
        self.thread = get_ident()
        self._inside: dict[int, FrameType] = {}

    def history(self, tensor: Tensor) -> History | None:
        """Give the history of a tensor's storage, if anything is known of it."""
        return self.histories.get(tensor.untyped_storage()._cdata)  # noqa: SLF001

    def write(self, tensor: Tensor, value: Value, *, fresh: bool = True) -> None:
        """Note that a tensor was written.

        Args:
            tensor: any view of a storage.
            value: what it holds now.
            fresh: whether the new values have nothing to do with the old ones.
        """
        known, line = self._line()
        if known:
            self._note(tensor, value, line, fresh=fresh)

    def _note(self, tensor: Tensor, value: Value, line: SourceLine | None, *, fresh: bool = True) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001
        history = self.histories.get(key)
        if history is None:
            history = self.histories[key] = History(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
        history.line = line
        if is_all(tensor):
            if fresh and (history.value is not None or history.parts):
                history.overwritten += 1
            history.value, history.parts = value, []
        elif value == REAL and isinstance(history.value, Real | Number) and not history.parts:
            history.value = REAL
        elif value != history.value or history.parts:
            history.parts.append(PartialWrite(geometry(tensor), value, line))

    def move(self, source: Tensor, target: Tensor) -> None:
        """Note that memory on meta takes the place of real one.

        Args:
            source: some view of the real memory, whose computed values are kept.
            target: all of the memory on meta.
        """
        old = self.history(source)
        storage = target.untyped_storage()
        new = self.histories[storage._cdata] = History(StorageWeakRef(storage))  # type: ignore[no-untyped-call]  # noqa: SLF001
        here = self._line()[1]  # loading a state_dict by assignment writes to no tensor: its frame alone tells
        if old is None:
            new.value, new.line = held(self.unrecorded(source), source), here
            return
        new.value, new.line, new.overwritten = held(old.value, source), old.line, old.overwritten
        new.parts = [part._replace(value=held(part.value, source, part.where)) for part in old.parts]

    def read(self, tensor: Tensor) -> Value:
        """Give the value of a tensor, whatever view of a storage it is."""
        history = self.history(tensor)
        if history is None:
            if tensor.is_meta:
                return Unreadable("nothing is known of the values that it comes from")
            return self.unrecorded(tensor)
        if history.parts:
            here = geometry(tensor)
            for part in reversed(history.parts):
                if part.where == here:
                    return part.value
                if not apart(part.where, here):
                    return _mixed(history, tensor)
        value = history.value
        if isinstance(value, Drawn | Structured) and not _is_dense(tensor):
            return REPEATED
        if is_all(tensor) or isinstance(value, Number | Real | Unreadable | None):
            return value
        if isinstance(value, Tabulated):
            where, whole = geometry(tensor), value.values
            if not whole.is_contiguous():
                return _MIXED
            return Tabulated(whole.as_strided(where.shape, where.strides, where.offset))
        if isinstance(value, Structured):
            return Unreadable(f"a part of {value.fill.kind} is used")
        return value

    def operand(self, given: Any) -> Value:
        """Read what an operation is given: a number, or a tensor."""
        if not isinstance(given, Tensor):
            return Number(float(given)) if isinstance(given, int | float) else _COMPLEX
        if given.is_complex():
            return _COMPLEX
        found = self.read(given)
        if isinstance(found, Real) and given.numel() == 1 and not given.is_meta:
            return Number(float(given.item()))
        return found

    def number(self, given: Any) -> Value:
        """Read what is written to every element: a number, or a tensor of one element."""
        found = self.operand(given)
        if isinstance(found, Number | Unreadable):
            return found
        return Number(float(given.item())) if isinstance(found, Real | Tabulated) and not given.is_meta else REPEATED

    def pieces(self, tensor: Tensor) -> Pieces | None:
        """Give what was written to a tensor in parts, as slices; ``None`` if it was written whole, or not by slices."""
        history = self.history(tensor)
        if history is None or not history.parts:
            return None
        here = geometry(tensor)
        found: list[tuple[tuple[slice, ...], Value]] = [] if history.value is None else [((), history.value)]
        for part in history.parts:
            box = box_of(part.where, here)
            if box is None:
                return None
            found.append((tuple(slice(a, b) for a, b in box), part.value))
        return found

    def unrecorded(self, tensor: Tensor) -> Value:
        """Say what is known of real values that no call was seen to write.

        Args:
            tensor: any view of the memory.
        """
        key = tensor.untyped_storage()._cdata  # noqa: SLF001
        if any(one.numel() and one.untyped_storage()._cdata == key for one in self.hollow):  # noqa: SLF001
            return Unreadable("its values come from a file")
        return REAL

    def enter(self, frame: FrameType) -> None:
        """Note a function of torch.nn.init as a whole, once, whatever it does after that."""
        if frame is not self._inside.get(get_ident()):
            self._inside[get_ident()] = frame
            self._note(*whole_call(frame), caller(frame))

    def leave(self) -> None:
        """Let go of what was only needed while the constructor ran."""
        self._inside = {}
        self.hollow = []

    def _line(self) -> tuple[bool, SourceLine | None]:
        """Find the line that is running; within a function that is noted as a whole, there is nothing more to note."""
        frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
        while frame is not None:
            code = frame.f_code
            if not is_torch(code.co_filename):
                return True, caller(frame)
            if code in WHOLE:
                self.enter(frame)
                return False, None
            if code.co_name == "_load_from_state_dict" and self.loaded is None:
                self.loaded = caller(frame)
            frame = frame.f_back
        return True, None


def _mixed(history: History, tensor: Tensor) -> Value:
    """What is known of a tensor that was written in several parts."""
    known = (history.value, *(part.value for part in history.parts))
    if all(isinstance(value, Real | Number | Tabulated) for value in known) and not tensor.is_meta:
        return REAL
    return next((value for value in known if isinstance(value, Unreadable)), _MIXED)


def _is_dense(tensor: Tensor) -> bool:
    """Whether no element of a view is seen twice."""
    return all(stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1)


def held(value: Value, source: Tensor, where: Geometry | None = None) -> Value:
    """Give a value that outlives the memory it stands in.

    Args:
        value: of the whole storage, or of a part of it.
        source: any view of the storage, in real memory.
        where: the part.
    """
    if not isinstance(value, Real):
        return value
    if where is None and is_all(source):
        return Tabulated(source.detach())
    if where is None:
        count = source.untyped_storage().nbytes() // source.itemsize
        where = Geometry((count,), (1,), 0)
    return Tabulated(source.detach().as_strided(where.shape, where.strides, where.offset))
