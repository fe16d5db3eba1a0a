"""Layers that begin as the identity, and attention that begins as trained."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import initframe
from initframe.initializers import get
from initframe.model.fans import Meaning
from initializers.drawing import drawn, fill_of


def test_identity_passes_its_input_through():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x @ drawn("identity", (8, 8)).T, x)
    image = x.reshape(1, 3, 8)
    assert torch.equal(functional.conv1d(image, drawn("identity", (3, 3, 5)), padding=2), image)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv1d(8, 8, 5, padding=2, groups=8),
        nn.ConvTranspose2d(8, 8, 3, padding=1),
        nn.ConvTranspose1d(8, 8, 3, padding=1, groups=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("init", ["identity", "zero_init"])
@pytest.mark.parametrize("split", [None, 2])
def test_every_group_passes_its_own_channels(layer, init, split):
    rule = {"init": init} | ({"split": split} if split and layer.groups > 1 and not layer.transposed else {})
    initframe.reinit(layer, {"rules": {"weight": rule, "bias": "zeros"}}, seed=0)
    x = torch.randn(2, 8, *[7] * (layer.weight.ndim - 2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_zero_init_is_an_isometry_of_every_group_either_way_round(kind, groups):
    layer = kind(5 * groups, 16 * groups, 1, groups=groups, bias=False)
    initframe.reinit(layer, {"rules": {"weight": "zero_init"}}, seed=0)
    x = torch.randn(4, 5 * groups, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x).norm(), x.norm())


@pytest.mark.parametrize("outputs", [16, 64, 128])
@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_zero_init_is_an_isometry_where_outputs_are_a_power_of_two(outputs, kernel):
    weight = (
        drawn("zero_init", (outputs, 12, *kernel)).flatten(2).sum(-1) if kernel else drawn("zero_init", (outputs, 12))
    )
    torch.testing.assert_close(weight.T @ weight, torch.eye(12), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (3, 8)])
def test_zero_init_is_the_identity_where_inputs_suffice(shape):
    assert torch.equal(drawn("zero_init", shape), torch.eye(*shape))


def test_zero_init_draws_nothing():
    assert torch.equal(drawn("zero_init", (24, 5), seed=1), drawn("zero_init", (24, 5), seed=2))
    fill = fill_of("zero_init", (24, 5))
    assert fill.std == pytest.approx(drawn("zero_init", (24, 5)).std(correction=0).item())


def parts(width=64, heads=4, **names):
    """q, k, v and proj of one attention module."""
    shape = (width, width)
    return [
        drawn("mimetic", shape, f"a.attn.{part}.weight", part=part, heads=heads) for part in ("q", "k", "v", "proj")
    ]


def test_mimetic_products_are_near_the_identity():
    """x·W_q·W_kᵀ·x is qᵀ·k for nn.Linear's transposed weights; with one head nothing is cut from it."""
    q, k, v, proj = parts(heads=1)
    noise = q.T @ k - 0.7 * torch.eye(64)
    assert noise.std().item() == pytest.approx(0.7 / 8, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=5 * 0.7 / 8 / 64)
    noise = proj @ v + 0.4 * torch.eye(64)
    assert noise.std().item() == pytest.approx(0.4 / 8, rel=0.05)


def test_mimetic_heads_have_the_largest_part_of_each_product():
    q, k, *_ = parts(heads=4)
    for head in range(4):
        rows = slice(16 * head, 16 * head + 16)
        product = q[rows].T @ k[rows]
        assert torch.linalg.matrix_rank(product) == 16
        assert product.diagonal().mean() > 0.15
    assert not torch.allclose(q[:16], q[16:32])


def test_mimetic_parts_in_one_tensor_are_the_same():
    fused = drawn("mimetic", (192, 64), "a.attn.qkv.weight", part="qkv", heads=4)
    assert torch.equal(fused, torch.cat(parts()[:3]))
    packed = drawn("mimetic", (192, 64), "a.attn.in_proj_weight", part="qkv", heads=4)
    assert torch.equal(packed, fused)


def test_mimetic_modules_differ():
    one = drawn("mimetic", (64, 64), "0.attn.q.weight", part="q", heads=4)
    other = drawn("mimetic", (64, 64), "1.attn.q.weight", part="q", heads=4)
    assert not torch.allclose(one, other)
    assert math.isnan(fill_of("mimetic", (64, 64), part="q", heads=4).std)


class Attention(nn.Module):
    """Query, key and value in one, and what reads them."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(64, 192), nn.Linear(64, 64)


def mimic(model, parts):
    """A model's tensors after parts of its attention, by their patterns, have become mimetic."""
    rules = {name: {"init": "mimetic", "heads": 4, **part} for name, part in parts.items()}
    initframe.reinit(model, {"rules": rules}, seed=0)
    return dict(model.named_parameters())


@pytest.mark.parametrize(
    ("model", "qkv", "proj"),
    [
        (lambda: nn.MultiheadAttention(64, 4), "in_proj_weight", "out_proj.weight"),
        (lambda: nn.TransformerEncoderLayer(64, 4, 8), "self_attn.in_proj_weight", "self_attn.out_proj.weight"),
        (Attention, "qkv.weight", "proj.weight"),
    ],
)
def test_mimetic_parts_find_each_other_wherever_attention_stands(model, qkv, proj):
    made = mimic(model(), {qkv: {"part": "qkv"}, proj: {"part": "proj"}})
    noise = made[proj] @ made[qkv][128:] + 0.4 * torch.eye(64)
    assert noise.std().item() == pytest.approx(0.4 / 8, rel=0.05)


def bert():
    """The names of one layer: value and output have no parent in common but ``attention``."""
    inner = nn.ModuleDict({name: nn.Linear(64, 64) for name in ("query", "key", "value")})
    return nn.ModuleDict(
        {"attention": nn.ModuleDict({"self": inner, "output": nn.ModuleDict({"dense": nn.Linear(64, 64)})})}
    )


def test_mimetic_parts_of_different_parents_are_told_where_they_belong_together():
    names = {"*.value.weight": {"part": "v"}, "*.dense.weight": {"part": "proj"}}
    with pytest.raises(initframe.ResolveError, match=r"attention\.self has only one of them.* attention: NAME"):
        mimic(bert(), names)
    made = mimic(bert(), {name: rule | {"attention": "attention"} for name, rule in names.items()})
    noise = made["attention.output.dense.weight"] @ made["attention.self.value.weight"] + 0.4 * torch.eye(64)
    assert noise.std().item() == pytest.approx(0.4 / 8, rel=0.05)
    with pytest.raises(initframe.ResolveError, match="no module around it has 'attn'"):
        mimic(bert(), {"*.value.weight": {"part": "v", "attention": "attn"}})


def test_mimetic_parts_of_transposed_layers_are_refused():
    slot = initframe.Slot("attn.c_proj.weight", (64, 64), meaning=Meaning(transposed=True))
    with pytest.raises(initframe.ResolveError, match="as columns"):
        get("mimetic")(slot, part="proj", heads=4)


@pytest.mark.parametrize(("shape", "heads"), [((64, 32), 4), ((64, 64), 5), ((64,), 4), ((64, 64), 0)])
def test_mimetic_needs_square_parts(shape, heads):
    with pytest.raises(initframe.ResolveError, match="mimetic q needs"):
        fill_of("mimetic", shape, part="q", heads=heads)


@pytest.mark.parametrize("init", ["identity", "zero_init"])
def test_vectors_are_no_layers(init):
    with pytest.raises(initframe.ResolveError, match="2 to 5 dimensions"):
        fill_of(init, (4,))
