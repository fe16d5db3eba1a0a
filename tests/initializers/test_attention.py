"""Attention that starts as training leaves it."""

import math

import pytest
import torch
from torch import nn

import initframe
from initframe.initializers import get
from initframe.model.fans import Meaning
from initializers.drawing import drawn, fill_of


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
