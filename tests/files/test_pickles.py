"""Walking through pickles: what torch.save writes passes, whole or not at all."""

import io
import zipfile

import pytest
import torch
from refusals import refused

from initframe.files.dtypes import DTYPES
from initframe.files.pickles import walk
from initframe.files.reading import open_file


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return zipfile.ZipFile(file)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_the_memory_of_every_dtype_is_counted(dtype, tmp_path):
    archive = saved({"w": torch.zeros(5).to(dtype)})
    parts = {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
    assert walk(parts["data.pkl"]) == ([], "", {"0": 5 * dtype.itemsize})
    with zipfile.ZipFile(tmp_path / "short.pt", "w") as short:
        for name, part in parts.items():
            short.writestr(zipfile.ZipInfo(f"archive/{name}"), part[:-1] if name == "data/0" else part)
    (problem,) = refused(open_file, tmp_path / "short.pt")
    assert "data/0 has fewer" in problem.fact


def test_a_training_state_passes():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    state = {
        "optimizer": optimizer.state_dict(),
        "set": {1, 2},
        "bytes": b"\xff",
        "dtype": torch.float16,
        "weight": weight,
    }
    state |= {"size": torch.Size([1]), "device": torch.device("cpu"), "complex": 1j, "none": None, "key": {(1, "a"): 2}}
    found = walk(saved(state).read("archive/data.pkl"))
    assert (found.strangers, found.fault) == ([], "")
    assert sum(found.storages.values()) == 3 * 3 * 4 + 4
