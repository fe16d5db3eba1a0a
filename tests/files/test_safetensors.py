"""A model comes back from a file as it was, whatever its tensors' layout and dtype."""

import pytest
import torch
from nets import Tower, changed, convnet
from safetensors.torch import load_file
from torch import nn

from initframe.errors import SourceError
from initframe.files.safetensors import save_tensors


@pytest.mark.parametrize("build", [Tower, convnet, lambda: nn.LSTM(3, 4)])
def test_a_model_comes_back_as_it_was(tmp_path, build):
    model, other = build(), build()
    save_tensors(model, tmp_path / "m.safetensors")
    other.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert changed(other, model.state_dict()) == set()


ODD = {
    "transposed": torch.arange(12.0).view(3, 4).t(),
    "channels_last": torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "empty too": torch.zeros(3, 0),
    "expanded": torch.ones(1).expand(4),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "float8": torch.ones(3).to(torch.float8_e4m3fn),
    "complex": torch.ones(3, dtype=torch.complex64),
    "conjugated": torch.tensor([1 + 2j, 3j]).conj(),
    "negated": torch._neg_view(torch.arange(3.0)),
    "integers": torch.arange(3),
    "unsigned": torch.ones(3, dtype=torch.uint16),
    "bools": torch.tensor([True, False]),
    "parameter": nn.Parameter(torch.ones(2)),
}


def test_tensors_of_any_layout_and_dtype(tmp_path):
    flat = torch.arange(10.0)
    state = {**ODD, "head": flat[:4], "tail": flat[4:], "all": flat, "again": flat}
    save_tensors(state, tmp_path / "m.safetensors")
    assert changed(load_file(tmp_path / "m.safetensors"), state) == set()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.bool])
@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (0, 4), (3, 2)])
def test_every_second_element_of_some_memory(tmp_path, dtype, shape):
    tensor = torch.arange(12).view(2, 6)[: shape[0], : 2 * shape[1] : 2].to(dtype)[:, ::2]
    save_tensors({"w": tensor, "x": tensor.T}, tmp_path / "w.safetensors")
    read = load_file(tmp_path / "w.safetensors")
    assert torch.equal(read["w"], tensor)
    assert torch.equal(read["x"], tensor.T)


def test_what_is_no_tensor_is_left_out(tmp_path):
    save_tensors({"w": torch.ones(2), "extra": {"version": 1}, "n": 3}, tmp_path / "m.safetensors")
    assert list(load_file(tmp_path / "m.safetensors")) == ["w"]


@pytest.mark.parametrize(
    "state",
    [{"w": torch.zeros(2, device="meta")}, {"w": torch.zeros(2, 2).to_sparse()}, {"w": nn.LazyLinear(3).weight}],
    ids=["meta", "sparse", "lazy"],
)
def test_what_has_no_memory_is_said(tmp_path, state):
    with pytest.raises(SourceError, match=r"cannot save w: it (is|has)"):
        save_tensors(state, tmp_path / "m.safetensors")
