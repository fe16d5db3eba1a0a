"""Identities with a gain, positions in a line and in grids that are no square, Mamba 2's decays."""

import math

import pytest
import torch
from samples import assert_moments
from torch import nn

import initframe
from initframe.fills import Dirac, Identity
from initframe.initializers import get
from initframe.model.slot import Slot
from tests.refusals import refused


def table(name, shape, **options):
    return get(name)(Slot("w", shape), **options).build(None)


@pytest.mark.parametrize(
    ("init", "shape", "torchs"),
    [
        ("eye", (3, 5), nn.init.eye_),
        ("identity", (3, 5), nn.init.eye_),
        ("identity", (4, 4, 3), nn.init.dirac_),
        ("dirac", (4, 2, 3, 3), nn.init.dirac_),
    ],
)
def test_a_gain_multiplies_the_identity(init, shape, torchs):
    fill = get(init)(Slot("w", shape), gain=0.5)
    values = initframe.fill_(torch.empty(shape), fill, name="w")
    assert torch.equal(values, 0.5 * torchs(torch.empty(shape)))
    assert (fill.mean, fill.std) == pytest.approx((values.mean().item(), values.std(correction=0).item()), rel=1e-5)
    assert fill.reach == 0.5
    assert fill.to_dict()["gain"] == 0.5


def test_a_gain_of_one_changes_nothing_that_was_recorded():
    assert Identity((2, 2)).to_dict() == {"kind": "identity"}
    assert str(Dirac((2, 2, 3))) == "dirac(1)"
    assert Dirac((2, 2, 3)).torch_init == ("dirac_", (1,))
    recipe = {"rules": {"weight": {"init": "eye", "gain": 2.0}}}
    assert refused(initframe.reinit, nn.Linear(2, 2), recipe, generator="torch")


def mae(width, positions):
    """util/pos_embed.py of MAE, get_1d_sincos_pos_embed_from_grid."""
    omega = 1.0 / 10000 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    out = torch.outer(positions.reshape(-1).double(), omega)
    return torch.cat([out.sin(), out.cos()], dim=1)


@pytest.mark.parametrize(("rows", "columns"), [(2, 7), (5, 3), (4, 4), (1, 6)])
def test_grids_that_are_no_square(rows, columns):
    width = 16
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    wanted = torch.cat([mae(width // 2, across), mae(width // 2, down)], dim=1)
    found = table("sincos_pos_embed", (1, rows * columns, width), grid=[rows, columns])
    assert torch.allclose(found[0], wanted, atol=1e-12)
    if rows == columns:
        assert torch.equal(found, table("sincos_pos_embed", (1, rows * columns, width)))


def test_a_line_of_positions():
    found = table("sincos_pos_embed", (1, 9, 6), grid=[8], prefix=1)
    assert not found[0, 0].any()
    assert torch.allclose(found[0, 1:], mae(6, torch.arange(8)), atol=1e-12)


@pytest.mark.parametrize("grid", [[3, 3], [0, 12], [2, 2, 3], []])
def test_grids_that_do_not_fit(grid):
    assert refused(get("sincos_pos_embed"), Slot("w", (1, 12, 8)), grid=grid)


def test_the_table_of_the_paper():
    found, width = table("sinusoidal", (7, 10)), 10
    for position in range(7):
        for i in range(5):
            angle = position / 10000 ** (2 * i / width)
            assert found[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert found[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_the_frozen_tables_of_transformers():
    marian = pytest.importorskip("transformers.models.marian.modeling_marian")
    whisper = pytest.importorskip("transformers.models.whisper.modeling_whisper")
    theirs = torch.as_tensor(marian.MarianSinusoidalPositionalEmbedding(12, 10).create_weight())
    assert torch.allclose(table("sinusoidal", (12, 10), layout="halves").float(), theirs.float(), atol=1e-6)
    assert torch.allclose(
        table("sinusoidal", (20, 16), layout="halves", closed=True).float(), whisper.sinusoids(20, 16), atol=1e-5
    )


def test_the_decays_of_mamba_2():
    fill = get("mamba2_a_log")(Slot("A_log", (8,)))
    values = initframe.fill_(torch.empty(100_000), fill, name="A_log")
    assert_moments(values, fill.mean, fill.std)
    assert_moments(values.exp(), 8.5, 15 / math.sqrt(12))
    assert values.min() >= 0
    assert values.max() <= math.log(16) + 1e-6
    assert refused(get("mamba2_a_log"), Slot("A_log", (8,)), low=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reaches_the_upper_bound_of_uniform(dtype):
    values = initframe.fill_(torch.empty(1 << 16, dtype=dtype), initframe.Uniform(0.0, 1.0), name="w")
    assert values.max().item() == 1.0
