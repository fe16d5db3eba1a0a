"""Every dtype of torch is written and read back, or refused by name."""

import pytest
import torch
from refusals import refused

from initframe.errors import SourceError
from initframe.files.dtypes import DTYPES, NAMES
from initframe.files.reading import open_file
from initframe.files.safetensors import save_tensors, unsavable

ALL = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)


def of_bytes(dtype):
    """Four elements of a dtype, from bytes that are all different; bools are 0 and 1."""
    size = 4 * dtype.itemsize
    raw = torch.arange(size, dtype=torch.uint8) % 2 if dtype == torch.bool else torch.arange(size, dtype=torch.uint8)
    return raw.view(dtype)


def test_the_table_is_one_to_one():
    assert len(NAMES) == len(DTYPES)
    assert {torch.uint16, torch.uint32, torch.uint64} <= NAMES.keys() <= set(ALL)


@pytest.mark.filterwarnings("ignore:.*support is experimental", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_every_dtype_comes_back_or_is_refused_by_name(dtype, tmp_path):
    path = tmp_path / "m.safetensors"
    if dtype not in NAMES:
        (problem,) = refused(save_tensors, {"w": torch.empty(4, dtype=dtype)}, path, kind=SourceError)
        assert problem.subject == "cannot save w"
        assert str(dtype).removeprefix("torch.") in problem.fact
        assert not path.exists()
        return
    saved = of_bytes(dtype)
    assert unsavable(saved) is None
    save_tensors({"w": saved}, path)
    contents = open_file(path)
    assert contents.entries["w"].dtype == dtype
    assert contents.entries["w"].shape == (4,)
    for read in (contents.value("w"), contents.values()["w"]):
        assert read.dtype == dtype
        assert torch.equal(read.view(torch.uint8), saved.view(torch.uint8))


@pytest.mark.parametrize("dtype", sorted(NAMES, key=str), ids=str)
def test_what_torch_saves_is_read(dtype, tmp_path):
    saved = of_bytes(dtype)
    torch.save({"w": saved}, tmp_path / "m.pt")
    read = open_file(tmp_path / "m.pt").value("w")
    assert read.dtype == dtype
    assert torch.equal(read.view(torch.uint8), saved.view(torch.uint8))
