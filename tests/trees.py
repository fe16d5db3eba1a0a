"""Random module trees with odd names."""

import torch
from hypothesis import strategies as st
from torch import nn

ODD_NAMES = st.text(min_size=1, max_size=6).filter(lambda text: "." not in text) | st.sampled_from(
    [
        "module",
        "_orig_mod",
        "weight",
        "parametrizations",
        "original0",
        "0",
        "17",
        "  ",
        "*",
        "[a]",
        "{x}",
        "ü",
        "bias\n",
    ]
)


class Failing(nn.Module):
    """A parametrization that works no more once it is registered."""

    def forward(self, weight):
        if hasattr(self, "registered"):
            raise RuntimeError("not ready")
        return weight

    def right_inverse(self, weight):
        return weight


def failing():
    """A layer under it."""
    layer = nn.utils.parametrize.register_parametrization(nn.Linear(2, 3), "weight", Failing())
    layer.parametrizations.weight[0].registered = True
    return layer


LAYERS = (
    lambda: nn.Linear(2, 3),
    lambda: nn.Conv2d(2, 4, 3, groups=2),
    lambda: nn.LSTM(2, 3),
    lambda: nn.Embedding(4, 2, padding_idx=1),
    lambda: nn.BatchNorm1d(2),
    lambda: nn.LazyLinear(2),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)),
    lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3)),
    lambda: nn.utils.parametrizations.orthogonal(nn.Linear(3, 2)),
    lambda: nn.utils.spectral_norm(nn.Linear(2, 3)),
    lambda: nn.utils.prune.identity(nn.Linear(2, 3), "weight"),
    lambda: nn.utils.parametrizations.spectral_norm(nn.utils.prune.identity(nn.Linear(2, 3), "weight"), "weight_orig"),
    failing,
    lambda: nn.MultiheadAttention(4, 2),
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.complex64, torch.bool)


@st.composite
def trees(draw, depth=3, *, ties=True, layers=()):
    """A random module tree with odd names, and, where asked for, tied tensors, shared modules, layers and dtypes.

    Args:
        draw: hypothesis' own.
        depth: how deep it is at most.
        ties: whether tensors and modules may be met again.
        layers: of what other children are made; without them, all tensors are float32.
    """
    modules, tensors = [], []

    def tensor():
        if ties and tensors and draw(st.booleans()):
            return draw(st.sampled_from(tensors))
        dtype = draw(st.sampled_from(DTYPES)) if layers else torch.float32
        data = torch.zeros(draw(st.lists(st.integers(0, 3), max_size=3)), dtype=dtype)
        tensors.append(nn.Parameter(data, requires_grad=dtype.is_floating_point))
        return tensors[-1]

    def child(level):
        if ties and modules and draw(st.integers(0, 4)) == 0:
            return draw(st.sampled_from(modules))
        if layers and draw(st.booleans()):
            return draw(st.sampled_from(layers))()
        return module(level)

    def module(level):
        tree = nn.Module()
        for name in draw(st.lists(ODD_NAMES, max_size=3, unique=True)):
            if hasattr(tree, name):
                continue
            kind = draw(st.sampled_from(["parameter", "buffer", "lost", "child", "nothing"]))
            if kind == "parameter":
                tree.register_parameter(name, tensor())
            elif kind == "child" and level:
                tree.add_module(name, child(level - 1))
            elif kind == "nothing":
                tree.register_parameter(name, None)
            else:
                tree.register_buffer(name, tensor().detach(), persistent=kind == "buffer")
        modules.append(tree)
        return tree

    return module(depth)
