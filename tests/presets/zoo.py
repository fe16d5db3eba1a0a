"""The models that presets are proven against, each as its library builds it, small where a law does not ask for size.

``BUILDERS`` gives for a preset (or several, one over the other) models whose values are compared, ``COVERED`` larger
relatives on the meta device, of which only names and shapes are compared: no parameter may be left untouched.
"""

from functools import partial

import pytest
from torch import nn


def vgg():
    from torchvision.models.vgg import VGG, make_layers

    return VGG(make_layers([32, "M", 64], batch_norm=True), num_classes=10)


def resnet(block, **options):
    from torchvision.models import resnet as library

    return library.ResNet(getattr(library, block), [1, 1, 1, 1], num_classes=500, **options)


def mobilenet_v2():
    from torchvision.models import mobilenet_v2 as build

    return build(width_mult=0.35)


def torchvision_model(name, **options):
    from torchvision.models import get_model

    return get_model(name, weights=None, **options)


def convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], num_classes=50)


def swin(version):
    from torchvision.models import swin_transformer as library

    v2 = {"block": library.SwinTransformerBlockV2, "downsample_layer": library.PatchMergingV2} if version == 2 else {}
    return library.SwinTransformer([4, 4], 32, [2, 2], [2, 4], [7, 7], num_classes=50, **v2)


def vit(**options):
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 4, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=50, **options)


def vit_with_stem():
    from torchvision.models.vision_transformer import ConvStemConfig

    return vit(conv_stem_configs=[ConvStemConfig(16, 3, 2), ConvStemConfig(32, 3, 2)])


def retinanet_head(norm=None):
    from torchvision.models.detection.retinanet import RetinaNetHead

    return RetinaNetHead(32, num_anchors=9, num_classes=20, norm_layer=norm)


def retinanet():
    from torchvision.models.detection import retinanet_resnet50_fpn

    return retinanet_resnet50_fpn(weights=None, weights_backbone=None)


def timm_vit(weight_init="", **options):
    library = pytest.importorskip("timm").models.vision_transformer
    small = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 4, "num_classes": 50}
    return library.VisionTransformer(
        **small | {"reg_tokens": 2, "init_values": 1e-5} | options, weight_init=weight_init
    )


def gated_vit(layer):
    return timm_vit(mlp_layer=getattr(pytest.importorskip("timm").layers, layer))


def distilled(weight_init=""):
    small = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 4, "num_classes": 50}
    return pytest.importorskip("timm").models.deit.VisionTransformerDistilled(**small, weight_init=weight_init)


def timm_model(name, **options):
    return pytest.importorskip("timm").create_model(name, pretrained=False, **options)


def beit(**options):
    library = pytest.importorskip("timm").models.beit
    small = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 4, "num_classes": 50}
    return library.Beit(**small | {"init_values": 0.1, "use_rel_pos_bias": True} | options)


def language_model(name, **options):
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, name)
    return model(model.config_class(**options, bos_token_id=1, eos_token_id=2))


def gpt2():
    return language_model("GPT2LMHeadModel", vocab_size=200, n_positions=32, n_embd=64, n_layer=3, n_head=4)


def bert():
    small = {"vocab_size": 200, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return language_model("BertForPreTraining", **small, intermediate_size=128, max_position_embeddings=32)


def t5(name="T5ForConditionalGeneration", **options):
    small = {"vocab_size": 200, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 3}
    return language_model(name, **small, **options)


def llama(name="LlamaForCausalLM", **options):
    small = {"vocab_size": 200, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    return language_model(name, **small, **heads, **options)


def clip():
    library = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 4, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 100, "width": 48, "heads": 4, "layers": 3}
    return library.model.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)


BUILDERS = {
    "vgg": [vgg],
    "resnet": [partial(resnet, "BasicBlock"), partial(resnet, "Bottleneck")],
    "resnet_zero_residual": [
        partial(resnet, "BasicBlock", zero_init_residual=True),
        partial(resnet, "Bottleneck", zero_init_residual=True),
    ],
    "mobilenet": [mobilenet_v2, partial(torchvision_model, "mobilenet_v3_small")],
    "efficientnet": [partial(torchvision_model, "efficientnet_b0", num_classes=50)],
    "convnext": [convnext],
    "swin": [partial(swin, 1), partial(swin, 2)],
    "vit": [vit, partial(vit, representation_size=48), vit_with_stem],
    "retinanet_heads": [retinanet_head, partial(retinanet_head, partial(nn.GroupNorm, 8))],
    "resnet+retinanet_heads": [retinanet],
    "timm_vit": [
        timm_vit,
        partial(timm_vit, global_pool="map"),
        partial(timm_vit, num_classes=0),
        *(partial(gated_vit, layer) for layer in ("SwiGLUPacked", "SwiGLU")),
        distilled,
    ],
    "timm_vit_jax": [partial(timm_vit, "jax"), partial(timm_vit, "jax", num_classes=0), partial(distilled, "jax")],
    "timm_vit_jax_nlhb": [partial(timm_vit, "jax_nlhb"), partial(distilled, "jax_nlhb")],
    "timm_vit_moco": [partial(timm_vit, "moco"), partial(distilled, "moco")],
    "timm_efficientnet": [
        partial(timm_model, name, num_classes=50)
        for name in ("efficientnet_lite0", "efficientnet_cc_b0_4e", "mobilenetv4_hybrid_medium")
    ],
    "beit": [beit, partial(beit, num_classes=0)],
    "gpt2": [gpt2],
    "bert": [bert],
    "t5": [
        t5,
        partial(t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        partial(t5, "MT5ForConditionalGeneration"),
    ],
    "llama": [
        llama,
        partial(llama, attention_bias=True, tie_word_embeddings=True),
        *(
            partial(llama, f"{name}ForCausalLM")
            for name in ("Mistral", "Qwen2", "Phi3", "Olmo", "Olmo2", "Gemma", "Gemma2", "Mixtral")
        ),
        partial(llama, "Qwen3MoeForCausalLM", num_experts=4, moe_intermediate_size=24),
    ],
    "clip": [clip],
}

COVERED = {
    "vgg": [partial(torchvision_model, "vgg16"), partial(torchvision_model, "vgg11_bn")],
    "resnet": [partial(torchvision_model, "resnext50_32x4d"), partial(torchvision_model, "wide_resnet50_2")],
    "mobilenet": [partial(torchvision_model, "mobilenet_v3_large")],
    "efficientnet": [partial(torchvision_model, "efficientnet_v2_s")],
    "convnext": [partial(torchvision_model, "convnext_large")],
    "swin": [partial(torchvision_model, "swin_b"), partial(torchvision_model, "swin_v2_b")],
    "vit": [partial(torchvision_model, "vit_h_14")],
    "timm_vit": [partial(timm_model, name) for name in ("vit_base_patch16_224", "vit_small_patch14_dinov2")],
    "timm_vit_jax": [partial(timm_model, "vit_base_patch16_224")],
    "timm_vit_moco": [partial(timm_model, "deit_small_patch16_224")],
    "timm_efficientnet": [
        partial(timm_model, name) for name in ("tf_efficientnetv2_s", "mobilenetv3_large_100", "efficientnet_b0_gn")
    ],
    "beit": [partial(timm_model, "beit_base_patch16_224"), partial(timm_model, "beitv2_large_patch16_224")],
}
