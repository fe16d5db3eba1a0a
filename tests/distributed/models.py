"""Small language models of two families, as people write them, with sizes that no mesh divides evenly."""

import torch
from torch import nn
from torch.nn import functional


class GPTBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)})

    def forward(self, x):
        q, k, v = (split_heads(part, self.heads) for part in self.c_attn(self.ln_1(x)).chunk(3, -1))
        x = x + self.c_proj(merge_heads(functional.scaled_dot_product_attention(q, k, v, is_causal=True)))
        return x + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class GPT(nn.Module):
    """GPT-2's shape: a padding row, learned positions, fused attention, LayerNorm, embeddings tied to the head."""

    def __init__(self, vocabulary=101, width=24, heads=3, hidden=98, layers=2, length=16):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width, padding_idx=60)
        self.wpe = nn.Embedding(length, width)
        self.blocks = nn.ModuleDict({str(i): GPTBlock(width, heads, hidden) for i in range(layers)})
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, x):
        if self.wte is not None:
            x = self.wte(x) + self.wpe(torch.arange(x.shape[1]))
        for block in self.blocks.values():
            x = block(x)
        return x if self.head is None else self.head(self.ln_f(x))

    columns, rows = ("mlp.c_fc",), ("mlp.c_proj",)
    first, last = ("wte", "wpe"), ("ln_f", "head")


class LlamaBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.size = width // heads
        self.attention_norm = nn.RMSNorm(width)
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, width // 2, bias=False)
        self.wv = nn.Linear(width, width // 2, bias=False)
        self.wo = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width)
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x, angles):
        y = self.attention_norm(x)
        q, k, v = (split_heads(w(y), w(y).shape[-1] // self.size) for w in (self.wq, self.wk, self.wv))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        y = functional.scaled_dot_product_attention(rotated(q, angles), rotated(k, angles), v, is_causal=True)
        x = x + self.wo(merge_heads(y))
        y = self.ffn_norm(x)
        return x + self.w2(functional.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    """Llama's shape: rotary tables in a buffer, grouped queries, RMSNorm, SwiGLU, a head of its own."""

    def __init__(self, vocabulary=131, width=24, heads=4, hidden=106, layers=2, length=16):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleDict({str(i): LlamaBlock(width, heads, hidden) for i in range(layers)})
        self.norm = nn.RMSNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)
        size = width // heads
        frequencies = 1.0 / 10_000 ** (torch.arange(0, size, 2) / size)
        self.register_buffer("angles", torch.outer(torch.arange(length), frequencies), persistent=False)

    def forward(self, x):
        if self.tok_embeddings is not None:
            x = self.tok_embeddings(x)
        for layer in self.layers.values():
            x = layer(x, self.angles[: x.shape[1]])
        return x if self.output is None else self.output(self.norm(x))

    columns, rows = ("wq", "wk", "wv", "w1", "w3"), ("wo", "w2")
    first, last = ("tok_embeddings",), ("norm", "output")


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x):
    return x.transpose(1, 2).flatten(2)


def rotated(x, angles):
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


def layers_of(model):
    return model.blocks if isinstance(model, GPT) else model.layers
