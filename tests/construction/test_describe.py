"""Plans become recipes that make equal fills: few rules, with the numbers' formulas."""

import pytest
import torch
from torch import nn

import initframe
from initframe import describe, load_recipe, resolve, trace
from initframe.fills.equal import same
from tests.nets import Tower, convnet


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


class Stack(nn.Module):
    """A stack whose outputs are scaled by depth, whose tokens have a number of their own, and whose head is zero."""

    def __init__(self, width=8, layers=6):
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.head = nn.Linear(width, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            nn.init.normal_(block.down.weight, std=0.02 / (2 * layers) ** 0.5)
        nn.init.zeros_(self.head.weight)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(0, 1, 5))
        self.chain = nn.Parameter(torch.rand(4).log())
        self.qkv = nn.Linear(4, 12)
        self.bad = nn.Parameter(torch.rand(3) * torch.rand(3))
        for part in self.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)


BUILDERS = [Tower, convnet, Stack, Odd, lambda: nn.LSTM(4, 6, 2), lambda: nn.Embedding(5, 4, padding_idx=2)]


@pytest.mark.parametrize("build", BUILDERS)
def test_a_described_plan_is_the_plan(build, tmp_path):
    plan = trace(build)
    recipe = describe(plan)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    made = resolve(again, plan.model)
    assert all(same(made[a.slot.name].fill, a.fill) for a in plan.assignments)


def test_numbers_become_formulas():
    rules = {rule.name: rule for rule in describe(trace(Stack)).rules}
    written = [rule.arguments.get("std") for rule in rules.values()]
    assert "0.02 / sqrt(2 * layers)" in [str(text) for text in written]
    assert len(rules) <= 6


def test_what_layers_do_by_themselves_is_torch_default():
    recipe = describe(trace(lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))))
    assert [rule.init for rule in recipe.rules] == ["torch_default"]


def test_what_no_rule_can_say_is_left_to_the_constructor_and_what_is_not_known_is_kept():
    rules = describe(trace(Odd)).rules
    assert {"constructor", "keep"} <= {rule.init for rule in rules}
    kept = next(rule for rule in rules if rule.init == "keep")
    assert "two draws" in kept.comment


def test_comments_say_how_many_and_where():
    text = describe(trace(Stack)).to_yaml()
    assert "tensors: construction/test_describe.py:" in text


def test_identified_plans_can_be_described():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.LayerNorm(96), nn.Linear(96, 64))
    plan = initframe.identify(model)
    recipe = describe(plan)
    assert {"torch_default"} <= {rule.init for rule in recipe.rules}
