"""What was written to every storage while a constructor ran, as symbols."""

from __future__ import annotations

import sys
from threading import get_ident
from types import FrameType
from typing import NamedTuple

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from initframe.construction import values as v
from initframe.construction.boxes import Geometry, geometry, is_all
from initframe.construction.origins import Place, caller, is_torch
from initframe.construction.values import Value
from initframe.construction.whole_calls import WHOLE, whole_call


class Part(NamedTuple):
    """A write to a part of a storage."""

    where: Geometry
    value: Value
    place: Place | None


class History:
    """What was written to one storage.

    Attributes:
        storage: held weakly, so that no other one is taken for it.
        value: what was written to the whole.
        parts: what was written to parts of it after that, in order.
        place: where the last write was.
        overwritten: how often it was written whole in vain.
    """

    __slots__ = ("overwritten", "parts", "place", "storage", "value")

    def __init__(self, storage: StorageWeakRef) -> None:
        self.storage = storage
        self.value: Value = None
        self.parts: list[Part] = []
        self.place: Place | None = None
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
        self.loaded: Place | None = None
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
        known, place = self._place()
        if known:
            self._note(tensor, value, place, fresh=fresh)

    def _note(self, tensor: Tensor, value: Value, place: Place | None, *, fresh: bool = True) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001
        history = self.histories.get(key)
        if history is None:
            history = self.histories[key] = History(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
        history.place = place
        if is_all(tensor):
            if fresh and (history.value is not None or history.parts):
                history.overwritten += 1
            history.value, history.parts = value, []
        elif value == v.REAL and isinstance(history.value, v.Real | v.Number) and not history.parts:
            history.value = v.REAL
        elif value != history.value or history.parts:
            history.parts.append(Part(geometry(tensor), value, place))

    def move(self, source: Tensor, target: Tensor) -> None:
        """Note that memory on meta takes the place of real one.

        Args:
            source: some view of the real memory, whose computed values are kept.
            target: all of the memory on meta.
        """
        old = self.history(source)
        storage = target.untyped_storage()
        new = self.histories[storage._cdata] = History(StorageWeakRef(storage))  # type: ignore[no-untyped-call]  # noqa: SLF001
        here = self._place()[1]  # loading a state_dict by assignment writes to no tensor: its frame alone tells
        if old is None:
            new.value, new.place = held(self.unrecorded(source), source), here
            return
        new.value, new.place, new.overwritten = held(old.value, source), old.place, old.overwritten
        new.parts = [part._replace(value=held(part.value, source, part.where)) for part in old.parts]

    def unrecorded(self, tensor: Tensor) -> Value:
        """Say what is known of real values that no call was seen to write.

        Args:
            tensor: any view of the memory.
        """
        key = tensor.untyped_storage()._cdata  # noqa: SLF001
        if any(one.numel() and one.untyped_storage()._cdata == key for one in self.hollow):  # noqa: SLF001
            return v.Unreadable("its values come from a file")
        return v.REAL

    def enter(self, frame: FrameType) -> None:
        """Note a function of torch.nn.init as a whole, once, whatever it does after that."""
        if frame is not self._inside.get(get_ident()):
            self._inside[get_ident()] = frame
            self._note(*whole_call(frame), caller(frame))

    def leave(self) -> None:
        """Let go of what was only needed while the constructor ran."""
        self._inside = {}
        self.hollow = []

    def _place(self) -> tuple[bool, Place | None]:
        """Find the line that is running; within a function that is noted as a whole, there is nothing more to note."""
        frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
        while frame is not None:
            code = frame.f_code
            if not is_torch(code.co_filename):
                return True, Place(code, frame.f_lineno)
            if code in WHOLE:
                self.enter(frame)
                return False, None
            if code.co_name == "_load_from_state_dict" and self.loaded is None:
                self.loaded = caller(frame)
            frame = frame.f_back
        return True, None


def held(value: Value, source: Tensor, where: Geometry | None = None) -> Value:
    """Give a value that outlives the memory it stands in.

    Args:
        value: of the whole storage, or of a part of it.
        source: any view of the storage, in real memory.
        where: the part.
    """
    if not isinstance(value, v.Real):
        return value
    if where is None and is_all(source):
        return v.Known(source.detach())
    if where is None:
        count = source.untyped_storage().nbytes() // source.itemsize
        where = Geometry((count,), (1,), 0)
    return v.Known(source.detach().as_strided(where.shape, where.strides, where.offset))
