"""Models whose libraries a test should not install, small, from their sources: the same names, shapes and laws.

Only what holds tensors is here: no forward pass. Each says which file it follows.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import init


class Norm(nn.Module):
    """Root mean square norm, as every language model has one of its own."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


RMSNorm = type("RMSNorm", (Norm,), {})


class Llama3(nn.Module):
    """torchtitan/models/llama3: depth-scaled outputs, w3 among them, absolute cuts but for the head."""

    def __init__(self, width=64, layers=3, vocabulary=100):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleDict({str(i): Llama3Block(width, i) for i in range(layers)})
        self.norm = RMSNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)
        init.normal_(self.tok_embeddings.weight)
        std = width**-0.5
        init.trunc_normal_(self.output.weight, std=std, a=-3 * std, b=3 * std)


class Llama3Block(nn.Module):
    def __init__(self, width, layer):
        super().__init__()
        self.attention = nn.Module()
        self.feed_forward = nn.Module()
        self.attention_norm, self.ffn_norm = RMSNorm(width), RMSNorm(width)
        depth_scaled = 0.02 / (2 * (layer + 1)) ** 0.5
        shapes = {"wq": (64, 0.02), "wk": (32, 0.02), "wv": (32, 0.02), "wo": (64, depth_scaled)}
        for name, (outputs, std) in shapes.items():
            self.attention.add_module(name, truncated(width, outputs, std))
        self.feed_forward.w1 = truncated(width, 96, 0.02)
        self.feed_forward.w2 = truncated(96, width, depth_scaled)
        self.feed_forward.w3 = truncated(width, 96, depth_scaled)


def truncated(inputs, outputs, std):
    linear = nn.Linear(inputs, outputs, bias=False)
    init.trunc_normal_(linear.weight, std=std)
    return linear


class Olmo(nn.Module):
    """allenai/OLMo, olmo/model.py, init_fn mitchell: everything cut at three standard deviations."""

    def __init__(self, width=64, layers=3, vocabulary=100):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": cut(nn.Embedding(vocabulary, width), width**-0.5),
                "ln_f": RMSNorm(width),
                "blocks": nn.ModuleList(OlmoBlock(width, i) for i in range(layers)),
                "ff_out": cut(nn.Linear(width, vocabulary, bias=False), width**-0.5),
            }
        )


class OlmoBlock(nn.Module):
    def __init__(self, width, layer):
        super().__init__()
        hidden = 2 * width
        self.attn_out = cut(nn.Linear(width, width, bias=False), 1 / math.sqrt(2 * width * (layer + 1)))
        self.ff_out = cut(nn.Linear(hidden, width, bias=False), 1 / math.sqrt(2 * hidden * (layer + 1)))
        self.att_proj = cut(nn.Linear(width, 3 * width, bias=False), 1 / math.sqrt(width))
        self.ff_proj = cut(nn.Linear(width, 2 * hidden, bias=False), 1 / math.sqrt(width))
        self.attn_norm, self.ff_norm = RMSNorm(width), RMSNorm(width)


def cut(module, std):
    init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)
    return module


class DiT(nn.Module):
    """facebookresearch/DiT, models.py."""

    def __init__(self, width=64, layers=2, patch=2, channels=4, side=8):
        super().__init__()
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(channels, width, patch, patch)
        self.t_embedder = nn.Module()
        self.t_embedder.mlp = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.y_embedder = nn.Module()
        self.y_embedder.embedding_table = nn.Embedding(11, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, (side // patch) ** 2, width), requires_grad=False)
        self.blocks = nn.ModuleList(DiTBlock(width) for _ in range(layers))
        self.final_layer = nn.Module()
        self.final_layer.linear = nn.Linear(width, patch * patch * channels * 2)
        self.final_layer.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.initialize_weights(side // patch)

    def initialize_weights(self, side):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)
        self.pos_embed.data = grid_of_sines(side, self.pos_embed.shape[-1])
        patch = self.x_embedder.proj
        init.xavier_uniform_(patch.weight.data.view(patch.weight.shape[0], -1))
        init.zeros_(patch.bias)
        for weight in (self.y_embedder.embedding_table.weight, *(self.t_embedder.mlp[i].weight for i in (0, 2))):
            init.normal_(weight, std=0.02)
        modulations = [block.adaLN_modulation for block in (*self.blocks, self.final_layer)]
        for last in (self.final_layer.linear, *(modulation[-1] for modulation in modulations)):
            init.zeros_(last.weight)
            init.zeros_(last.bias)


def grid_of_sines(side, width):
    """The table, position by position, as its definition reads."""
    table = torch.zeros(1, side * side, width, dtype=torch.float64)
    quarter = width // 4
    for row in range(side):
        for column in range(side):
            for j in range(quarter):
                omega = 1 / 10000 ** (j / quarter)
                values = (
                    math.sin(column * omega),
                    math.cos(column * omega),
                    math.sin(row * omega),
                    math.cos(row * omega),
                )
                table[0, row * side + column, j::quarter] = torch.tensor(values, dtype=torch.float64)
    return table.float()


class DiTBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 2 * width), "fc2": nn.Linear(2 * width, width)})
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))


class UNet(nn.Module):
    """openai/guided-diffusion, guided_diffusion/unet.py: one level down, the middle, one level up, the way out."""

    def __init__(self, width=32):
        super().__init__()
        embedding = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Embedding(10, embedding)
        first, down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, 2, 1)
        residual, attention = ResBlock(width, embedding, 2 * width), AttentionBlock(2 * width)
        self.input_blocks = nn.ModuleList(map(nn.Sequential, (first, down)))
        self.input_blocks.append(nn.Sequential(residual, attention))
        middle = ResBlock(2 * width, embedding, 2 * width), AttentionBlock(2 * width)
        self.middle_block = nn.Sequential(*middle, ResBlock(2 * width, embedding, 2 * width))
        self.output_blocks = nn.ModuleList([nn.Sequential(ResBlock(4 * width, embedding, width))])
        self.out = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), zeroed(nn.Conv2d(width, 6, 3, padding=1)))


class ResBlock(nn.Module):
    def __init__(self, inputs, embedding, outputs):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(8, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs))
        last = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.out_layers = nn.Sequential(nn.GroupNorm(8, outputs), nn.SiLU(), nn.Dropout(0.1), last)
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()


class AttentionBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = zeroed(nn.Conv1d(width, width, 1))


def zeroed(module):
    for tensor in module.parameters():
        init.zeros_(tensor)
    return module


def dcgan_generator():
    """pytorch/examples, dcgan/main.py."""
    upwards = nn.ConvTranspose2d(20, 64, 4, 1, 0, bias=False), nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False)
    return dcgan(upwards[0], nn.BatchNorm2d(64), nn.ReLU(), upwards[1], nn.Tanh())


def dcgan_discriminator():
    """The same file."""
    downwards = nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.Conv2d(64, 1, 4, 1, 0, bias=False)
    return dcgan(downwards[0], nn.BatchNorm2d(64), nn.LeakyReLU(0.2), downwards[1], nn.Sigmoid())


def dcgan(*layers):
    model = nn.Sequential()
    model.main = nn.Sequential(*layers)
    for module in model.modules():
        if "Conv" in type(module).__name__:
            init.normal_(module.weight, 0.0, 0.02)
        elif "BatchNorm" in type(module).__name__:
            init.normal_(module.weight, 1.0, 0.02)
            init.zeros_(module.bias)
    return model


def siren(width=64, hidden=2):
    """vsitzmann/siren, modules.py: SingleBVPNet.net is an FCBlock, FCBlock.net a Sequential of Sequentials."""
    sizes = [2, *[width] * (hidden + 1), 1]
    layers = [nn.Sequential(nn.Linear(i, o)) for i, o in pairwise(sizes)]
    for layer in layers:
        bound = math.sqrt(6 / layer[0].in_features) / 30
        init.uniform_(layer[0].weight, -bound, bound)
    init.uniform_(layers[0][0].weight, -1 / 2, 1 / 2)
    model = nn.Module()
    model.net = nn.Module()
    model.net.net = nn.Sequential(*layers)
    return model


class Mamba(nn.Module):
    """state-spaces/mamba, mamba_simple.py and mixer_seq_simple.py."""

    def __init__(self, width=32, layers=3, vocabulary=100):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.embedding = nn.Embedding(vocabulary, width)
        self.backbone.layers = nn.ModuleList(MambaBlock(width) for _ in range(layers))
        self.backbone.norm_f = RMSNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.backbone.embedding.weight
        init.normal_(self.backbone.embedding.weight, std=0.02)
        for block in self.backbone.layers:
            weight = block.mixer.out_proj.weight
            init.kaiming_uniform_(weight, a=math.sqrt(5))
            weight.data /= math.sqrt(layers)


class MambaBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mixer = MambaMixer(width, states=16, rank=math.ceil(width / 16))
        self.norm = RMSNorm(width)


class MambaMixer(nn.Module):
    def __init__(self, width, states, rank):
        super().__init__()
        inner = 2 * width
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().expand(inner, -1).contiguous())
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        steps = torch.exp(torch.rand(inner) * math.log(0.1 / 0.001) + math.log(0.001)).clamp(min=1e-4)
        self.dt_proj.bias.data = steps + torch.log(-torch.expm1(-steps))


class LanguageModel(nn.Module):
    """pytorch/examples, word_language_model/model.py, RNNModel of LSTMs."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(100, 32)
        self.rnn = nn.LSTM(32, 48, 2)
        self.decoder = nn.Linear(48, 100)
        init.uniform_(self.encoder.weight, -0.1, 0.1)
        init.zeros_(self.decoder.bias)
        init.uniform_(self.decoder.weight, -0.1, 0.1)


class Agent(nn.Module):
    """vwxyzjn/cleanrl, cleanrl/ppo_continuous_action.py."""

    def __init__(self, observations=17, actions=6):
        super().__init__()
        self.critic = tower(observations, 1, 1.0)
        self.actor_mean = tower(observations, actions, 0.01)
        self.actor_logstd = nn.Parameter(torch.zeros(1, actions))


class AtariAgent(nn.Module):
    """vwxyzjn/cleanrl, cleanrl/ppo_atari.py, with a smaller network."""

    def __init__(self):
        super().__init__()
        convolutions = orthogonal(nn.Conv2d(4, 32, 8, 4)), nn.ReLU(), orthogonal(nn.Conv2d(32, 64, 4, 2)), nn.ReLU()
        self.network = nn.Sequential(*convolutions, nn.Flatten(), orthogonal(nn.Linear(256, 128)), nn.ReLU())
        self.actor = orthogonal(nn.Linear(128, 6), 0.01)
        self.critic = orthogonal(nn.Linear(128, 1), 1)


def tower(inputs, outputs, gain):
    hidden = orthogonal(nn.Linear(inputs, 64)), nn.Tanh(), orthogonal(nn.Linear(64, 64)), nn.Tanh()
    return nn.Sequential(*hidden, orthogonal(nn.Linear(64, outputs), gain))


def orthogonal(layer, gain=2**0.5):
    init.orthogonal_(layer.weight, gain)
    init.zeros_(layer.bias)
    return layer


def perceptron():
    """The convention, by torch.nn.init."""
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 20))
    for layer in (model[0], model[2]):
        init.xavier_uniform_(layer.weight, init.calculate_gain("relu"))
        init.zeros_(layer.bias)
    return model


MODELS = {
    "llama3": [Llama3],
    "olmo_mitchell": [Olmo],
    "dit": [DiT],
    "unet_zero": [UNet],
    "dcgan": [dcgan_generator, dcgan_discriminator],
    "siren": [siren],
    "mamba": [Mamba],
    "lstm_lm": [LanguageModel],
    "ppo": [Agent, AtariAgent],
    "mlp_xavier_relu": [perceptron],
}
