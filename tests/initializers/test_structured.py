"""Initializers of whole tensors: the shapes they take, and the numbers they refuse."""

import pytest

from initframe.errors import ResolveError
from initframe.fills import Dirac, Identity, Orthogonal, Sparse
from initframe.initializers import get
from initframe.model.slot import Slot

SHAPES = {n: (4, 6, 3, 3, 3, 3)[:n] for n in range(7)}
TAKES = {"orthogonal": range(2, 7), "eye": [2], "sparse": [2], "dirac": [3, 4, 5]}
ARGUMENTS = {"sparse": {"sparsity": 0.5}}
FILLS = {"orthogonal": Orthogonal, "eye": Identity, "sparse": Sparse, "dirac": Dirac}


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("name", TAKES)
def test_shapes(name, ndim):
    slot = Slot("w", SHAPES[ndim])
    if ndim in TAKES[name]:
        fill = get(name)(slot, **ARGUMENTS.get(name, {}))
        assert type(fill) is FILLS[name]
        assert fill.shape == slot.shape
    else:
        with pytest.raises(ResolveError, match=rf"this one has {ndim}\. .*where: ndim"):
            get(name)(slot, **ARGUMENTS.get(name, {}))


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "fact"),
    [
        ("dirac", (4, 2, 3), {"groups": 3}, "first dimension, 4, got 3"),
        ("dirac", (4, 2, 3), {"groups": 0}, "groups must divide"),
        ("sparse", (4, 4), {"sparsity": 1.1}, "sparsity is a share between 0 and 1, got 1.1"),
        ("sparse", (4, 4), {"sparsity": -0.1}, "sparsity is a share between 0 and 1, got -0.1"),
        ("sparse", (4, 4), {"sparsity": 0.1, "std": -1}, "std must not be negative, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(name, shape, arguments, fact):
    with pytest.raises(ResolveError, match=fact):
        get(name)(Slot("w", shape), **arguments)


def test_arguments_reach_the_fill():
    assert get("orthogonal")(Slot("w", (4, 4)), gain=2.0).gain == 2.0
    assert get("dirac")(Slot("w", (4, 2, 3)), groups=2).groups == 2
    assert get("sparse")(Slot("w", (10, 4)), sparsity=0.25, std=0.5) == Sparse((10, 4), 0.25, 0.5)
