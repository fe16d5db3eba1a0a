"""What a plan shows: golden files of models with everything in them, and long plans that stay short."""

import pytest
import torch
from nets import Tower, rules
from torch import nn
from torch.nn.utils import parametrizations

import initframe
from initframe.plan.plan import ROWS
from initframe.plan.text import WIDTH


class Oddities(nn.Module):
    """Ties, padding, parametrizations, groups, gates, frozen and empty tensors, buffers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 8, padding_idx=0)
        self.stem = parametrizations.weight_norm(nn.Conv1d(8, 16, 3))
        self.mix = nn.Conv1d(16, 16, 3, groups=16)
        self.up = nn.ConvTranspose1d(16, 8, 4, stride=2)
        self.critic = parametrizations.spectral_norm(nn.Linear(8, 8))
        self.memory = nn.LSTM(8, 4)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.BatchNorm1d(8)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.nothing = nn.Parameter(torch.zeros(0))
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.words.weight


RECIPE = rules(
    {
        "weights": {"match": "*weight*", "where": "ndim > 1", "init": "kaiming_normal", "nonlinearity": "relu"},
        "biases": {"match": "*bias*", "where": "ndim == 1", "init": "zeros"},
        "memory": {"match": "memory.weight_hh_*", "init": "orthogonal", "split": 4},
        "forget": {"match": "memory.bias_ih_*", "init": "constant", "val": [0, 1, 0, 0], "split": 4},
        "qkv": {"match": "*.in_proj_weight", "init": "xavier_uniform", "gain": "1 / sqrt(2)", "split": 3},
        "cut": {"match": "frozen.weight", "init": "trunc_normal", "std": 0.02, "a": -0.03, "b": 0.03},
        "words": {"match": "words.weight", "init": "normal", "std": "d1 ** -0.5"},
        "statistics": {"module": "BatchNorm*", "match": "*", "kind": "any", "init": "torch_default"},
        "nothing": "ones",
    }
)


@pytest.fixture(scope="module")
def plan():
    return initframe.resolve(RECIPE, Oddities())


def test_oddities(plan, golden):
    golden("oddities.txt", str(plan))


def test_oddities_explained(plan, golden):
    names = [a.slot.name for a in plan.assignments if a.slot.ndim > 1]
    golden("oddities_explained.txt", "\n".join(plan.explain(name) for name in [*names, "nothing", "norm.running_var"]))


class Llama(nn.Module):
    """Many layers of the same tensors."""

    def __init__(self, layers=126):
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {"wq": nn.Linear(64, 64, bias=False), "w2": nn.Linear(256, 64, bias=False), "norm": nn.RMSNorm(64)}
            )
            for _ in range(layers)
        )


DEEP = rules(
    {
        "weights": {"match": "*.weight", "where": "ndim > 1", "init": "trunc_normal", "std": 0.02},
        "depth": {"match": "layers.{layer}.w2.weight", "init": "normal", "std": "0.02 / sqrt(2 * (layer + 1))"},
        "first": {"match": "layers.0.wq.weight", "init": "zeros"},
    }
)


def test_a_long_plan_is_folded(golden):
    with torch.device("meta"):
        plan = initframe.resolve(DEEP, Llama())
    golden("llama_folded.txt", str(plan))
    assert len(plan.render(folded=False).splitlines()) > len(plan.assignments) > ROWS


def test_a_short_plan_is_folded_on_request():
    plan = initframe.resolve(rules({"*.weight": "ones"}), Tower())
    assert plan.render() == plan.render(folded=False)
    assert "encoder.0…2.qkv.weight" in plan.render(folded=True)
    assert "encoder.0…2.qkv.weight" not in plan.render()


@pytest.mark.parametrize("width", [60, WIDTH, 140])
@pytest.mark.parametrize("folded", [True, False])
def test_every_line_fits(plan, width, folded):
    lines = plan.render(width, folded=folded).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)


def test_what_was_asked_is_told_of_every_tensor(plan):
    asked = {a.slot.name: (a.gain, a.asked_std) for a in plan.assignments}
    assert asked["mix.weight"] == (2**0.5, pytest.approx((2 / 3) ** 0.5))
    assert asked["words.weight"] == (None, pytest.approx(8**-0.5))
    assert asked["frozen.weight"] == (None, 0.02)
    assert asked["attention.in_proj_weight"] == (pytest.approx(0.5**0.5), pytest.approx((1 / 16) ** 0.5))
    assert asked["memory.weight_hh_l0"] == (1.0, pytest.approx(0.5))
    entries = {entry["name"]: entry for entry in plan.to_dict()["assignments"]}
    assert entries["frozen.weight"]["asked_std"] == 0.02
    assert entries["frozen.weight"]["std"] < 0.02
    assert entries["mix.weight"]["gain"] == 2**0.5


def test_a_gain_may_be_one_per_block():
    rule = {"init": "kaiming_normal", "a": [0, 1, 0], "split": 3}
    plan = initframe.resolve(rules({"*.in_proj_weight": rule}), Oddities())
    assert plan.assignments[0].gain == (2**0.5, 1.0, 2**0.5)
    assert plan.to_dict()["assignments"][0]["gain"] == [2**0.5, 1.0, 2**0.5]


def test_a_plan_outlives_its_initializers(table):
    @initframe.initializer("passing")
    def passing(slot, *, gain: float = 2.0):
        return initframe.Normal(0, gain)

    plan = initframe.resolve(rules(weight="passing"), nn.Linear(2, 2))
    assert plan["weight"].gain == 2.0
    del table["passing"]
    assert plan["weight"].gain is None
    assert "weight" in plan.explain("weight")
