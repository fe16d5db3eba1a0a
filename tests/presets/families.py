"""Models of the families, after their sources, and the coordinate check."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

import initframe


class FixupBasicBlock(nn.Module):
    """hongyi-zhang/Fixup, imagenet/models/fixup_resnet_imagenet.py."""

    convolutions = (3, 3)

    def __init__(self, inputs, width, expansion=1):
        super().__init__()
        outputs = width * expansion
        sizes = [inputs, *[width] * (len(self.convolutions) - 1), outputs]
        for i, kernel in enumerate(self.convolutions, 1):
            self.register_parameter(f"bias{i}a", nn.Parameter(torch.zeros(1)))
            self.add_module(f"conv{i}", nn.Conv2d(sizes[i - 1], sizes[i], kernel, padding=kernel // 2, bias=False))
            self.register_parameter(f"bias{i}b", nn.Parameter(torch.zeros(1)))
        self.scale = nn.Parameter(torch.ones(1))
        self.downsample = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x):
        out, last = x, len(self.convolutions)
        for i in range(1, last + 1):
            out = getattr(self, f"conv{i}")(out + getattr(self, f"bias{i}a"))
            out = out * self.scale if i == last else out
            out = out + getattr(self, f"bias{i}b")
            out = out.relu() if i < last else out
        shortcut = x if self.downsample is None else self.downsample(x + self.bias1a)
        return (out + shortcut).relu()


class FixupBottleneck(FixupBasicBlock):
    convolutions = (1, 3, 1)


class FixupResNet(nn.Module):
    """The same file, in two stages."""

    def __init__(self, block, layers=(2, 2), width=32, expansion=1):
        super().__init__()
        self.num_layers = sum(layers)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(1))
        inputs = width
        for stage, blocks in enumerate(layers, 1):
            stack = []
            for _ in range(blocks):
                stack.append(block(inputs, width * stage, expansion))
                inputs = width * stage * expansion
            self.add_module(f"layer{stage}", nn.Sequential(*stack))
        self.bias2 = nn.Parameter(torch.zeros(1))
        self.fc = nn.Linear(inputs, 10)
        self.initialize(depth_power=-1 / (2 * len(block.convolutions) - 2))

    def initialize(self, depth_power):
        for block in (module for module in self.modules() if isinstance(module, FixupBasicBlock)):
            last = len(block.convolutions)
            for i in range(1, last):
                he_normal(getattr(block, f"conv{i}"), self.num_layers**depth_power)
            nn.init.zeros_(getattr(block, f"conv{last}").weight)
            if block.downsample is not None:
                he_normal(block.downsample, 1.0)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        x = (self.conv1(x) + self.bias1).relu()
        x = self.layer2(self.layer1(x))
        return self.fc(x.mean((2, 3)) + self.bias2)


def he_normal(layer, factor):
    fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel()
    nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan_out) * factor)


@dataclass
class NanoConfig:
    n_layer: int = 3
    n_embd: int = 48
    bias: bool = True


class LayerNorm(nn.Module):
    """nanoGPT's own, because torch's once had no bias=False."""

    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None


class NanoGPT(nn.Module):
    """karpathy/nanoGPT, model.py: what holds tensors, and their values."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.n_embd
        tables = {"wte": nn.Embedding(64, width), "wpe": nn.Embedding(32, width)}
        blocks = nn.ModuleList(map(nano_block, [config] * config.n_layer))
        self.transformer = nn.ModuleDict(tables | {"h": blocks, "ln_f": LayerNorm(width, config.bias)})
        self.lm_head = nn.Linear(width, 64, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        for name, tensor in self.named_parameters():
            if tensor.ndim > 1:
                depth = 2 * config.n_layer if name.endswith("c_proj.weight") else 1
                nn.init.normal_(tensor, std=0.02 / math.sqrt(depth))
            elif name.endswith("bias"):
                nn.init.zeros_(tensor)


def nano_block(config):
    width, bias = config.n_embd, config.bias
    attention = {"c_attn": nn.Linear(width, 3 * width, bias), "c_proj": nn.Linear(width, width, bias)}
    mlp = {"c_fc": nn.Linear(width, 4 * width, bias), "c_proj": nn.Linear(4 * width, width, bias)}
    norms = {name: LayerNorm(width, bias) for name in ("ln_1", "ln_2")}
    return nn.ModuleDict(norms | {"attn": nn.ModuleDict(attention), "mlp": nn.ModuleDict(mlp)})


def perceptron(width, inputs=16, outputs=8):
    """Two hidden matrices of the width."""
    layers = nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def shapes(model):
    """Base shapes, as a recipe takes them."""
    return {slot.name: list(slot.shape) for slot in initframe.survey(model).slots}


def coordinate_slope(recipe, widths, steps=2, seeds=2, lr=1e-3):
    """How the output's first change under Adam grows with width: the slope of log |Δf| over log width.

    Args:
        recipe: gives a recipe for a width's model.
        widths: of the hidden layers.
        steps: of Adam.
        seeds: over how many starts |Δf| is averaged.
        lr: Adam's, before multipliers.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 16, generator=generator), torch.randn(64, 8, generator=generator)
    fitted = partial(change, recipe=recipe, x=x, y=y, steps=steps, lr=lr)
    changes = [sum(fitted(width=width, seed=seed) for seed in range(seeds)) for width in widths]
    logs = torch.tensor([widths, changes], dtype=torch.float64).log()
    across, up = logs - logs.mean(1, keepdim=True)
    return (across @ up / (across @ across)).item()


def change(*, recipe, width, x, y, seed, steps, lr):
    """Mean |Δf| of one model after a few steps."""
    model = perceptron(width)
    report = initframe.reinit(model, recipe(model), seed=seed)
    optimizer = torch.optim.Adam(report.param_groups(lr=lr, weight_decay=0.0))
    before = model(x).detach()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return (model(x).detach() - before).abs().mean().item()
