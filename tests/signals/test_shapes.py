"""What is kept of an operation's outputs is what torch's fake tensors give: shape, stride, dtype, shared memory."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from initframe.signal import shapes
from initframe.signal.shapes import Form, Shapes, shadow

aten = torch.ops.aten

OPERATIONS = {
    "add": (aten.add.Tensor, ((2, 3, 4), (3, 1)), ()),
    "relu in place": (aten.relu_.default, ((2, 3),), ()),
    "view": (aten.view.default, ((2, 3, 4),), ([6, 4],)),
    "transpose": (aten.transpose.int, ((2, 3, 4),), (0, 2)),
    "select": (aten.select.int, ((5, 4),), (0, 3)),
    "split": (aten.split.Tensor, ((6, 4),), (2, 0)),
    "matmul": (aten.mm.default, ((3, 4), (4, 5)), ()),
    "layer_norm": (aten.native_layer_norm.default, ((3, 4),), ([4], None, None, 1e-5)),
    "max_pool": (aten.max_pool2d_with_indices.default, ((2, 3, 8, 8),), ([2, 2],)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_second_time_is_as_the_first(name):
    func, sizes, rest = OPERATIONS[name]
    mode = FakeTensorMode()
    found = []
    for _ in range(2):
        made = Shapes(mode)
        given = [made.empty(size, torch.empty(size).stride(), torch.float32) for size in sizes]
        out = made.run(func, (*given, *rest), {})
        several = [out] if isinstance(out, torch.Tensor) else out
        memory = {t.untyped_storage()._cdata: i for i, t in enumerate(given)}
        found.append(
            [
                (
                    t.shape,
                    t.stride(),
                    t.storage_offset(),
                    t.dtype,
                    memory.get(t.untyped_storage()._cdata),
                    t is given[0],
                )
                for t in several
            ]
        )
    assert found[0] == found[1]


def test_other_shapes_dtypes_and_arguments_are_told_apart():
    made = Shapes(FakeTensorMode())
    for size, dtype, dim in (((2, 3), torch.float32, 0), ((3, 2), torch.float32, 0), ((2, 3), torch.float16, 1)):
        x = made.empty(size, torch.empty(size).stride(), dtype)
        for _ in range(2):
            out = made.run(aten.sum.dim_IntList, (x, [dim]), {})
            assert (tuple(out.shape), out.dtype) == (tuple(n for d, n in enumerate(size) if d != dim), dtype)


def test_shapes_that_do_not_fit_are_refused_every_time():
    made = Shapes(FakeTensorMode())
    for _ in range(2):
        a, b = (made.empty(size, torch.empty(size).stride(), torch.float32) for size in ((2, 3), (4, 5)))
        with pytest.raises(RuntimeError):
            made.run(aten.mm.default, (a, b), {})


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(shapes, "LARGEST", 4)
    made = Shapes(FakeTensorMode())
    for n in range(1, 20):
        made.run(aten.relu.default, (made.empty((n,), (1,), torch.float32),), {})
    assert len(shapes._known) <= 4


@pytest.mark.parametrize(
    "ask", ["device", "layout", "is_mkldnn", "is_sparse", "dtype", "shape", "requires_grad", "is_leaf"]
)
def test_a_tensor_without_memory_answers_as_any_other(ask):
    own = shadow(Form((2, 3), (3, 1), 0, torch.float32, torch.device("cpu")))
    assert getattr(own, ask) == getattr(torch.zeros(2, 3), ask)


def test_real_tensors_are_told_by_their_shapes():
    made = Shapes(FakeTensorMode())
    outs = [
        made.run(aten.lift_fresh.default, (torch.tensor(values),), {}) for values in ([1.0, 2.0], [3.0, 4.0], [5.0])
    ]
    assert [tuple(out.shape) for out in outs] == [(2,), (2,), (1,)]
    before = len(shapes._known)
    made.run(aten.lift_fresh.default, (torch.tensor([6.0]),), {})
    assert len(shapes._known) == before
