"""What cannot be filled says so, and says what to do."""

import warnings

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from initframe.model.obstacles import FILLABLE, dtype_obstacle, obstacle
from initframe.model.survey import survey

DTYPES = sorted((value for value in vars(torch).values() if isinstance(value, torch.dtype)), key=str)


@pytest.mark.parametrize("dtype", sorted(set(DTYPES), key=str), ids=str)
def test_every_dtype_is_filled_or_refused_by_name(dtype):
    reason = dtype_obstacle(dtype)
    if dtype in FILLABLE:
        assert reason is None
    else:
        assert str(dtype).removeprefix("torch.") in reason.fact
        assert reason.fix


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        (torch.float8_e4m3fn, "scale"),
        (torch.float8_e5m2, "scale"),
        (torch.complex64, "imaginary"),
        (torch.int64, "real numbers"),
        (torch.uint8, "real numbers"),
        (torch.bool, "real numbers"),
        (torch.bits8, "storage format"),
    ],
    ids=str,
)
def test_the_reason_fits_the_dtype(dtype, word):
    assert word in dtype_obstacle(dtype).fact


def quantized():
    with warnings.catch_warnings(action="ignore"):  # torch warns of it once per process
        return torch.quantize_per_tensor(torch.zeros(2, 2), 1.0, 0, torch.qint8)


def inference():
    with torch.inference_mode():
        return torch.zeros(2, 2)


def nested():
    with warnings.catch_warnings(action="ignore"):  # torch warns of it once per process
        return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


def compressed():
    with warnings.catch_warnings(action="ignore"):  # torch warns of it once per process
        return torch.zeros(2, 2).to_sparse_csr()


CASES = {
    "quantized": quantized,
    "inference mode": inference,
    "expanded": lambda: torch.zeros(1, 3).expand(4, 3),
    "several indices": lambda: torch.zeros(9).as_strided((4, 3), (2, 1)),
    "sparse_coo": lambda: torch.zeros(2, 2).to_sparse(),
    "sparse_csr": compressed,
    "nested": nested,
    "TwoTensor": lambda: TwoTensor(torch.zeros(2), torch.zeros(2)),
}


@pytest.mark.parametrize("word", CASES)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_take_a_write_is_refused(word):
    model = nn.Module()
    model.register_buffer("held", CASES[word]())
    (slot,) = survey(model).slots
    assert word in slot.blocked


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3),
        torch.zeros(3, 2).T,
        torch.zeros(6, 2)[::2],
        torch.zeros(1, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.zeros(1).expand(1, 1),
        torch.zeros(0, 3),
        torch.zeros((), dtype=torch.bfloat16),
        torch.zeros(2, device="meta"),
    ],
)
def test_layout_and_size_are_no_obstacle(tensor):
    assert obstacle(tensor) is None


class TestLazy:
    def test_says_what_to_do_and_that_no_shape_is_known(self):
        model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
        slots = {slot.name: slot for slot in survey(model).slots}
        weight = slots["0.weight"]
        assert weight.lazy
        assert "one forward pass" in weight.problem.fix
        assert (weight.shape, weight.fan_in) == ((), None)
        assert slots["1.running_mean"].lazy

    def test_is_over_after_one_forward_pass(self):
        layer = nn.LazyLinear(3)
        layer(torch.zeros(1, 2))
        slot = survey(layer).slots[0]
        assert (slot.lazy, slot.blocked, slot.shape, slot.layer) == (False, None, (3, 2), "Linear")


class TestIntegers:
    def test_only_the_batch_counter_may_be_reset(self):
        model = nn.BatchNorm1d(2)
        model.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        slots = {slot.name: slot for slot in survey(model).slots}
        assert {name for name, slot in slots.items() if slot.resettable} == {"num_batches_tracked"}
        assert {name for name, slot in slots.items() if slot.blocked} == {"num_batches_tracked", "steps"}

    def test_a_state_dict_tells_the_counter_by_its_name(self):
        slots = {slot.name: slot for slot in survey(nn.BatchNorm1d(2).state_dict()).slots}
        assert slots["num_batches_tracked"].resettable

    def test_an_integer_parameter_is_refused(self):
        model = nn.Module()
        model.codes = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
        assert "int8" in survey(model).slots[0].blocked


class TestPacked:
    @pytest.mark.filterwarnings("ignore:.*deprecated")
    def test_quantized_modules_show_what_they_hold(self):
        import torch.ao.nn.quantized as quantized_nn

        model = nn.ModuleDict({"fc": quantized_nn.Linear(4, 3), "conv": quantized_nn.Conv2d(4, 3, 1)})
        seen = survey(model)
        slots = {slot.name: slot for slot in seen.slots}
        for name in ("fc.weight", "fc.bias", "conv.weight", "conv.bias"):
            assert "quantized module" in slots[name].blocked
        assert slots["fc.weight"].shape == (3, 4)
        assert set(model.state_dict()) <= set(slots) | set(seen.extra)

    @pytest.mark.filterwarnings("ignore:.*deprecated")
    def test_a_quantized_state_dict_is_refused_tensor_by_tensor(self):
        import torch.ao.nn.quantized as quantized_nn

        seen = survey(nn.Sequential(quantized_nn.Linear(4, 3), quantized_nn.Conv2d(4, 3, 1)).state_dict())
        assert seen.extra == ("0._packed_params.dtype", "0._packed_params._packed_params")
        assert "quantized" in next(slot.blocked for slot in seen.slots if slot.name == "1.weight")
