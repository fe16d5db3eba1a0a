"""Small models with the shapes of trouble that real ones have, and what to compare of them."""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers for digits."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    """A transformer's block, as far as names and shapes go."""

    def __init__(self, width=8):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


class Tower(nn.Module):
    """An encoder of 3 blocks and a decoder of 2, embeddings tied to the head, a config, a buffer, a loose parameter."""

    def __init__(self):
        super().__init__()
        self.config = {"d_model": 8, "init_range": 0.02}
        self.embed = nn.Embedding(11, 8, padding_idx=2)
        self.encoder = nn.ModuleList(Block() for _ in range(3))
        self.decoder = nn.ModuleList(Block() for _ in range(2))
        self.scale = nn.Parameter(torch.ones(()))
        self.bn = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight


def convnet():
    """Convolutions of every kind: grouped, transposed, plain, one-dimensional; a norm; a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, groups=4),
        nn.ConvTranspose2d(16, 6, 4, stride=2),
        nn.Conv1d(6, 4, 5),
        nn.Linear(4, 10),
    )


class Conv1D(nn.Module):
    """What the transformers library's class of this name looks like."""

    __module__ = "transformers.pytorch_utils"

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))


def bits(model):
    """Copies of everything that a state_dict holds."""
    state = model.state_dict() if isinstance(model, nn.Module) else model
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def changed(model, before):
    """Names of the tensors that are not bit for bit what they were."""
    after = model.state_dict() if isinstance(model, nn.Module) else model
    assert after.keys() == before.keys()
    return {name for name, tensor in after.items() if not same_bits(tensor, before[name])}


def same_bits(one, other):
    """Equality of shape, dtype and bytes, NaNs and signed zeros included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(as_bytes(one), as_bytes(other))


def as_bytes(tensor):
    """The bytes of a tensor's elements, in logical order."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)  # torch leaves one element the stride that it had


def rules(*args, **named):
    """A recipe of rules: mappings without a name are named by their pattern."""
    options = {key: named.pop(key) for key in ("vars", "unused", "unmatched", "fans") if key in named}
    return {"rules": dict(*args, **named), **options}
