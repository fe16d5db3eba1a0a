"""Hostile checkpoints: pickles that call, files that claim, archives that are damaged."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.attacks.texts import MARK

TOUCH = f"touch {MARK}"
STATE = {"0.weight": torch.zeros(4, 4), "0.bias": torch.zeros(4)}


class Call:
    """Pickles as a call."""

    def __init__(self, function: str, *args: Any) -> None:
        self.function, self.args = function, args


def written(value: Any) -> bytes:
    """Write a pickle by hand, of what is in it: calls of any function, dicts, lists, texts and numbers."""
    match value:
        case Call():
            module, _, name = value.function.rpartition(".")
            arguments = b"(" + b"".join(map(written, value.args)) + b"t"
            return f"c{module}\n{name}\n".encode() + arguments + b"R"
        case dict():
            return b"}" + b"".join(written(key) + written(item) + b"s" for key, item in value.items())
        case list() | tuple():
            return b"(" + b"".join(map(written, value)) + (b"l" if isinstance(value, list) else b"t")
        case bytes():
            return value  # steps of their own
    return pickle.dumps(value, protocol=2)[2:-1]


def archive(path: Path, pickled: bytes, parts: dict[str, bytes] | None = None, **options: Any) -> None:
    """Write what torch.save writes, with a pickle and parts of one's own."""
    with zipfile.ZipFile(path, "w", **options) as new:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **(parts or {})}.items():
            new.writestr(zipfile.ZipInfo(f"archive/{name}") if not options else f"archive/{name}", content)


CALLS = {
    "os.system": [TOUCH],
    "posix.system": [TOUCH],
    "subprocess.call": [["touch", MARK]],
    "subprocess.Popen": [["touch", MARK]],
    "builtins.eval": [f"open('{MARK}','w')"],
    "builtins.exec": [f"open('{MARK}','w')"],
    "__builtin__.eval": [f"open('{MARK}','w')"],
    "builtins.open": [MARK, "w"],
    "io.open": [MARK, "w"],
    "builtins.getattr": ["x", "__class__"],
    "builtins.__import__": ["os"],
    "builtins.compile": ["1", "", "eval"],
    "importlib.import_module": ["os"],
    "runpy.run_path": ["x.py"],
    "pathlib.Path": [MARK],
    "shutil.rmtree": ["nothing"],
    "pickle.loads": [""],
    "torch.load": [MARK],
    "torch.hub.load": ["x", "y"],
    "torch.jit.load": [MARK],
    "torch.ops.load_library": [MARK],
    "torch.storage._load_from_bytes": [""],
    "torch.nn.Linear": [3, 3],
    "torch.nn.modules.linear.Linear": [3, 3],
    "torch.zeros": [10**10],
    "torch.FloatTensor": [10**10],
    "torch.FloatStorage": [10**10],
    "torch.ByteStorage": [10**10],
    "torch.storage.UntypedStorage": [10**10],
    "torch.storage.TypedStorage": [10**10],
    "torch._utils._rebuild_meta_tensor_no_storage": [1],
    "torch._utils._rebuild_wrapper_subclass": [1],
    "torch._utils._rebuild_nested_tensor": [1],
    "builtins.bytearray": [6 * 10**9],
    "__builtin__.bytearray": [6 * 10**9],
    "builtins.bytes": [6 * 10**9],
    "builtins.range": [10**10],
    "builtins.list": ["abc"],
    "numpy.zeros": [10**10],
    "numpy.core.multiarray._reconstruct": [1],
    "_codecs.encode": ["é" * 10_000, "punycode"],
    "collections.OrderedDict": [[["a", 1]]],
    "collections.defaultdict": [1],
    "functools.partial": [1],
    "operator.attrgetter": ["x"],
    "types.FunctionType": [1],
    "initframe.load_recipe": ["x"],
    "nosuchmodule.x": [1],
}
STEPS = {
    "deep_key": b"}" + b")" + b"\x85" * 1_000_000 + b"Ns",
    "deep_list": b"]" * 600_000,
    "memo": b"]r\xff\xff\xff\x7f",
    "memo_text": b"]p2147483647\n",
    "bytearray8": b"\x96" + b"\xff" * 7 + b"\x0f",
    "frame": b"\x95" + b"\xff" * 7 + b"\x0f]",
    "long4": b"\x8b\xff\xff\xff\x7f",
    "text8": b"\x8d" + b"\xff" * 7 + b"\x0f",
    "bytes8": b"\x8e" + b"\xff" * 7 + b"\x0f",
    "long_text": b"L" + b"9" * 100_000 + b"L\n",
    "int_text": b"I" + b"9" * 100_000 + b"\n",
    "float_text": b"Fnan nan\n",
    "stack": b"R",
    "pops": b"0" * 100,
    "marks": b"(" * 700_000,
    "extension": b"\x82\x01",
    "stack_global": pickle.dumps("os")[2:-1] + pickle.dumps("system")[2:-1] + b"\x93",
    "inst": f"(S'{TOUCH}'\nios\nsystem\n".encode(),
    "obj": f"(cos\nsystem\nS'{TOUCH}'\no".encode(),
    "newobj": b"cos\nsystem\n)\x81",
    "build": b"ctorch\nSize\n)R}(X\x01\x00\x00\x00aK\x01ub0",
    "list_key": b"}]Ns",
    "persistent": b"X\x01\x00\x00\x00aQ",
    "persistent_text": b"Pabc\n",
    "nothing": b"",
}


def _in_archives() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Give archives whose pickles do more than tensors need."""
    for function, arguments in CALLS.items():
        value = Call(function, *arguments)
        for place, whole in {
            "top": value,
            "inside": {"0.weight": value},
            "metadata": {"state_dict": {"a": [value]}},
        }.items():
            pickled = b"\x80\x02" + written(whole) + b"."
            yield f"{function} at {place}", lambda path, pickled=pickled: archive(path, pickled)
    for name, steps in STEPS.items():
        yield f"pickle: {name}", lambda path, steps=steps: archive(path, b"\x80\x02" + steps + b".")


def _saved(
    edit: Callable[[str, bytes], bytes | None] = lambda _, part: part,
    more: dict[str, bytes] | None = None,
    **options: Any,
):
    """Save a real checkpoint with parts that are changed, left out or added."""

    def write(path: Path) -> None:
        file = io.BytesIO()
        torch.save(STATE, file)
        with zipfile.ZipFile(file) as old:
            parts = {info.filename.partition("/")[2]: old.read(info) for info in old.infolist()}
        changed = {name: new for name, part in parts.items() if (new := edit(name, part)) is not None}
        archive(path, changed.pop("data.pkl", b""), {**changed, **(more or {})}, **options)

    return write


def _bytes(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of a real checkpoint."""

    def write(path: Path) -> None:
        file = io.BytesIO()
        torch.save(STATE, file)
        path.write_bytes(content(file.getvalue()))

    return write


def _other(replace: dict[str, bytes | None]) -> Callable[[str, bytes], bytes | None]:
    def edit(name: str, part: bytes) -> bytes | None:
        return replace.get(name, part)

    return edit


def _expanded(path: Path) -> None:
    torch.save({"0.weight": torch.zeros(1).expand(10**10), "0.bias": torch.zeros(4)}, path)


def _shared(path: Path) -> None:
    names = {f"n{i}": 0 for i in range(3_000)}
    torch.save({f"s{i}": names for i in range(3_000)}, path)


ARCHIVES: dict[str, Callable[[Path], None]] = {
    **dict(_in_archives()),
    "byteorder big": _saved(_other({"byteorder": b"big"})),
    "byteorder odd": _saved(_other({"byteorder": b"\xff" * 1000})),
    "no data": _saved(_other({"data/0": None})),
    "short data": _saved(_other({"data/0": b"x"})),
    "no pickle": _saved(_other({"data.pkl": b""})),
    "torchscript": _saved(more={"code/x.py": b"", "constants.pkl": b""}),
    "exported": _saved(more={"archive_format": b"pt2"}),
    "models": _saved(more={"models/model.json": b"{}"}),
    "compressed": _saved(compression=zipfile.ZIP_DEFLATED),
    "bz2": _saved(compression=zipfile.ZIP_BZIP2),
    "lzma": _saved(compression=zipfile.ZIP_LZMA),
    "bomb": lambda path: archive(path, b"", {"data/0": b"\0" * 10**7}, compression=zipfile.ZIP_DEFLATED),
    "long pickle": lambda path: archive(path, b"\x80\x02" + b"0" * (1 << 25)),
    "many parts": lambda path: archive(path, b"\x80\x02}.", {f"data/{i}": b"" for i in range(2_000)}),
    "encrypted": _bytes(
        lambda b: b.replace(b"PK\x01\x02\x00\x00\x00\x00\x00\x08", b"PK\x01\x02\x00\x00\x00\x00\x01\x08")[:-30]
    ),
    "expanded": _expanded,
    "shared mappings": _shared,
    "bare pickle": lambda path: path.write_bytes(b"\x80\x02" + written(Call("os.system", TOUCH)) + b"."),
    "bare protocol 4": lambda path: path.write_bytes(b"\x80\x04" + written(Call("os.system", TOUCH)) + b"."),
    "text pickle": lambda path: path.write_bytes(written(Call("os.system", TOUCH)) + b"."),
    "python": lambda path: path.write_bytes(f"open('{MARK}', 'w')".encode()),
    "npz": lambda path: archive(path, b"", {"arr_0.npy": b"\x93NUMPY"}),
    "npy": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"),
    "hdf5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
    "gzip": lambda path: path.write_bytes(b"\x1f\x8b" + b"\0" * 100),
    "tar": lambda path: path.write_bytes(b"storages" + b"\0" * 504),
    "nothing": lambda path: path.write_bytes(b""),
    "head only": lambda path: path.write_bytes(b"PK\x03\x04"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    **{f"cut at {n}": _bytes(lambda b, n=n: b[: len(b) * n // 12]) for n in range(1, 12)},
    **{
        f"version {n}": _bytes(lambda b, n=n: b.replace(b"PK\x01\x02", b"PK\x01\x02" + bytes([n]) * 6))
        for n in (1, 99, 255)
    },
}


def _header(table: Any, data: bytes = b"", size: int | None = None, claim: int | None = None) -> Callable[[Path], None]:
    """Write safetensors with a header of one's own; the file may be longer than what is written, without blocks."""

    def write(path: Path) -> None:
        text = table if isinstance(table, bytes) else json.dumps(table).encode()
        path.write_bytes(struct.pack("<Q", len(text) if claim is None else claim) + text + data)
        if size is not None:
            os.truncate(path, 8 + len(text) + size)

    return write


def _entry(dtype: Any = "F32", shape: Any = (4, 4), offsets: Any = (0, 64), **more: Any) -> dict[str, Any]:
    return {"0.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


HUGE = 12 * 10**9
SAFETENSORS: dict[str, Callable[[Path], None]] = {
    "claims 12 GB": _header(_entry(shape=[HUGE // 4], offsets=[0, HUGE])),
    "sparse 12 GB": _header(_entry(shape=[HUGE // 4], offsets=[0, HUGE]), size=HUGE),
    "header of 2**63": _header(b"{}", claim=2**63),
    "header of 2**64 - 1": _header(b"{}", claim=2**64 - 1),
    "header of 100 MB": _header(b"{" + b" " * 10**6, claim=10**8),
    "header beyond the file": _header(b"{}", claim=1000),
    "a list": _header(b"{[]}"),
    "deep": _header(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep lists": _header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no JSON": _header(b"{" + b"\xff" * 100),
    "many names": _header({f"n{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}),
    "the same name": _header(
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    ),
    "a long name": _header({"x" * 10**6: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    "an escape": _header({"\x1b[31m\n": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    "half a character": _header(b'{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
    "metadata of numbers": _header({"__metadata__": {"a": 1}}),
    "metadata of lists": _header({"__metadata__": []}),
    **{
        f"dtype {d!r}": _header(_entry(dtype=d), b"\0" * 64)
        for d in ("F33", "", None, 1, [], "F32\0", "os.system", "\x1b[2J")
    },
    **{
        f"shape {s!r}": _header(_entry(shape=s), b"\0" * 64)
        for s in (
            [-1],
            [2**63],
            [2**64],
            [2**32, 2**32],
            [1.5],
            ["4"],
            None,
            4,
            [[4]],
            [0] * 10_000,
            [2**62, 4],
            [1e99],
            [True],
        )
    },
    **{
        f"offsets {o!r}": _header(_entry(offsets=o), b"\0" * 64)
        for o in (
            [0, 63],
            [0, 65],
            [64, 0],
            [-64, 0],
            [0, 2**63],
            [0, 2**64],
            [1, 65],
            [0],
            [],
            None,
            [0, 64, 1],
            ["0", "64"],
            [0.0, 64],
        )
    },
    "overlapping": _header(
        {**_entry(), "0.bias": {"dtype": "F32", "shape": [4], "data_offsets": [48, 64]}}, b"\0" * 64
    ),
    "a hole": _header({**_entry(), "0.bias": {"dtype": "F32", "shape": [4], "data_offsets": [80, 96]}}, b"\0" * 96),
    "more at the end": _header(_entry(), b"\0" * 100),
}

INDEXES: dict[str, Any] = {
    "a list": [],
    "nothing": {},
    "no map": {"weight_map": {}},
    "a text": {"weight_map": "x"},
    "numbers": {"weight_map": {"0.weight": 1}},
    **{
        f"file {name!r}": {"weight_map": {"0.weight": name}}
        for name in (
            "/etc/passwd",
            "../x.safetensors",
            "a/b",
            "",
            ".",
            "..",
            "nothing",
            "\0",
            "~",
            "http://x/y",
            "\x1b[2J",
            "x" * 9_999,
        )
    },
    "many": {"weight_map": {f"n{i}": f"f{i}" for i in range(50_000)}},
}
INDEX_TEXTS = {
    "deep": b"[" * 100_000,
    "digits": b'{"weight_map": ' + b"9" * 1_000_000 + b"}",
    "no UTF-8": b"\xff\xfe",
    "no JSON": b"{",
    "constants": b'{"weight_map": NaN}',
}
