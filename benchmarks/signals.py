"""How near predictions are to measurements, what measuring costs, and how well calibration meets its target.

    python benchmarks/signals.py                     everything, with AnyInit and lsuv where they are installed
    python benchmarks/signals.py predict gpt2 vgg13  some models; also: propagate, calibrate, tied, llama405b
    python benchmarks/signals.py gaps timm           which operations have no rule, by how many models they cut

An error is |predicted / measured − 1| of a module's output; measured is the root of the mean square over seeds. What is
within two standard errors of that mean square is no error. Everything in one run, on the CPU; seconds are CPU seconds.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
import time
import warnings
from collections import defaultdict

import torch
from torch import nn

import initframe
from initframe.signal.calibrate import calibration
from initframe.signal.inputs import example
from initframe.signal.predict import predict
from initframe.signal.prepare import prepare
from initframe.signal.propagate import propagate
from initframe.signal.walk import Walk

SEEDS = 5
PEER_SEEDS = 3


def image(side, size=4):
    return torch.randn(size, 3, side, side)


def tokens(vocabulary=1000, length=64, size=4):
    return {"input_ids": torch.randint(0, vocabulary, (size, length))}


def zoo():
    """24 models by name: how to build one, a recipe, a batch. Layers are as in the original; some have fewer."""
    import timm
    import torchvision.models as tv
    import transformers as tf

    tf.logging.set_verbosity_error()
    small = {"hidden_size": 192, "num_attention_heads": 6, "vocab_size": 1000}
    llama = {**small, "num_key_value_heads": 2, "intermediate_size": 512}
    wide = {**small, "intermediate_size": 768}
    t5 = tf.T5Config(num_layers=3, d_model=192, d_ff=512, d_kv=32, num_heads=6, vocab_size=1000)
    pair = {**tokens(), "decoder_input_ids": torch.randint(0, 1000, (4, 32))}
    vit = tf.ViTConfig(
        num_hidden_layers=6, hidden_size=192, num_attention_heads=6, intermediate_size=768, image_size=96
    )
    gpt2 = tf.GPT2Config(n_layer=12, n_embd=192, n_head=6, vocab_size=1000, bos_token_id=0, eos_token_id=0)
    return {
        "alexnet": (tv.alexnet, "kaiming_relu", image(224, 2)),
        "vgg13": (tv.vgg13, "kaiming_relu", image(224, 2)),
        "resnet18": (tv.resnet18, "kaiming_relu", image(224)),
        "resnet50": (tv.resnet50, "kaiming_relu", image(224)),
        "mobilenet_v3_large": (tv.mobilenet_v3_large, "mobilenet", image(224)),
        "efficientnet_b0": (tv.efficientnet_b0, "efficientnet", image(224)),
        "convnext_tiny": (tv.convnext_tiny, "convnext", image(224)),
        "densenet121": (tv.densenet121, "kaiming_relu", image(224)),
        "vit_b_16": (tv.vit_b_16, "torch_default", image(224, 2)),
        "swin_t": (tv.swin_t, "swin", image(224, 2)),
        "regnet_y_400mf": (tv.regnet_y_400mf, "kaiming_relu", image(224)),
        "timm_vit_tiny": (lambda: timm.create_model("vit_tiny_patch16_224"), "timm_vit", image(224, 2)),
        "timm_mixer_s32": (lambda: timm.create_model("mixer_s32_224"), "torch_default", image(224, 2)),
        "timm_resnetv2_50": (lambda: timm.create_model("resnetv2_50"), "kaiming_relu", image(96)),
        "timm_resmlp_12": (lambda: timm.create_model("resmlp_12_224"), "torch_default", image(224, 2)),
        "timm_gmlp_ti16": (lambda: timm.create_model("gmlp_ti16_224"), "torch_default", image(224, 2)),
        "gpt2": (lambda: tf.GPT2LMHeadModel(gpt2), "gpt2", tokens()),
        "llama": (lambda: tf.LlamaForCausalLM(tf.LlamaConfig(num_hidden_layers=8, **llama)), "llama", tokens()),
        "bert": (lambda: tf.BertForMaskedLM(tf.BertConfig(num_hidden_layers=6, **wide)), "bert", tokens()),
        "t5": (lambda: tf.T5ForConditionalGeneration(t5), "t5", pair),
        "vit": (lambda: tf.ViTForImageClassification(vit), "trunc_normal_02", {"pixel_values": image(96)}),
        "mixtral": (lambda: tf.MixtralForCausalLM(tf.MixtralConfig(num_hidden_layers=4, **llama)), "llama", tokens()),
        "mistral": (
            lambda: tf.MistralForCausalLM(tf.MistralConfig(num_hidden_layers=4, sliding_window=16, **llama)),
            "llama",
            tokens(),
        ),
        "gpt_neox": (
            lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(num_hidden_layers=4, **wide)),
            "torch_default",
            tokens(),
        ),
    }


def built(make):
    """A model; those with BatchNorm in training, as they start, the others in evaluation."""
    model = make()
    norms = any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) for module in model.modules())
    return model.train(norms)


def error(predicted, squares):
    """|predicted / measured − 1|, or nothing within two standard errors."""
    mean = math.fsum(squares) / len(squares)
    if mean == 0:
        return 0.0 if predicted < 1e-12 else math.inf
    variance = math.fsum((x - mean) ** 2 for x in squares) / max(len(squares) - 1, 1)
    if abs(predicted**2 - mean) <= 2 * math.sqrt(variance / len(squares)):
        return 0.0
    return abs(predicted / math.sqrt(mean) - 1)


def raw(predicted, squares):
    """The error without the allowance."""
    return abs(predicted / math.sqrt(max(math.fsum(squares) / len(squares), 1e-300)) - 1)


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else math.nan


def ours(make, recipe, batch, seeds=SEEDS):
    """Errors of all module outputs with and without the allowance, and seconds."""
    model = built(make)
    plan = initframe.resolve(recipe, model)
    predicted = predict(plan, batch)
    seconds = best(lambda: predict(plan, batch), 2)
    measured = {}
    for seed in range(seeds):
        initframe.apply(plan, seed)
        torch.manual_seed(seed)  # of what the pass draws
        for row in propagate(model, batch).rows:
            measured.setdefault((row.name, row.call), []).append(row.rms**2)
    errors, raws = [], []
    for row in predicted.rows:
        squares = measured.get((row.name, row.call))
        if squares is None or "/" in row.name:
            continue
        errors.append(math.inf if row.rms is None else error(row.rms, squares))
        raws.append(math.inf if row.rms is None else raw(row.rms, squares))
    return errors, raws, seconds


def predict_seconds(make, recipe, batch):
    """Seconds of a prediction."""
    plan = initframe.resolve(recipe, built(make))
    return best(lambda: predict(plan, batch), 2)


def anyinit_errors(make, batch, seeds=PEER_SEEDS):
    """The same of AnyInit: its own predicted and measured second moments, layer by layer."""
    try:
        import anyinit
    except ImportError:
        return None
    squares, predicted, seconds = {}, {}, math.nan
    for seed in range(seeds):
        model = built(make)
        start = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                report = anyinit.initialize(model, "analytic", batch, seed=seed)
        except Exception as problem:  # noqa: BLE001  # it says why in its own words
            return str(problem).splitlines()[0][:60]
        seconds = min(time.process_time() - start, seconds if seed else math.inf)
        for layer in report.layers:
            if layer.predicted is not None and layer.measured is not None:
                squares.setdefault(layer.name, []).append(layer.measured)
                predicted[layer.name] = math.sqrt(max(layer.predicted, 0.0))
    errors = [error(predicted[name], several) for name, several in squares.items()]
    raws = [raw(predicted[name], several) for name, several in squares.items()]
    return (errors, raws, seconds) if errors else "nothing measured"


def predictions(names):
    """The table of predictions."""
    models = zoo()
    chosen = [name for name in models if not names or name in names]
    print(
        "| model | outputs | median | 90 % | raw median | raw 90 % | s "
        "| AnyInit median | 90 % | raw median | raw 90 % | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    every, faster = [], []
    for name in chosen:
        make, recipe, batch = models[name]
        errors, raws, seconds = ours(make, recipe, batch)
        every += errors
        peer = anyinit_errors(make, batch)
        seconds = min(seconds, predict_seconds(make, recipe, batch))  # before and after the other's, in turns
        shown = ["—" if peer is None else peer, "", "", "", ""]
        if isinstance(peer, tuple):
            theirs, their_raws, their_seconds = peer
            shown = [f"{quantile(x, q):.3f}" for x in (theirs, their_raws) for q in (0.5, 0.9)] + [
                f"{their_seconds:.3f}"
            ]
            faster.append(their_seconds / seconds)
        mine = [f"{quantile(x, q):.3f}" for x in (errors, raws) for q in (0.5, 0.9)]
        print(f"| {name} | {len(errors)} | {' | '.join(mine)} | {seconds:.3f} | {' | '.join(shown)} |", flush=True)
    print(f"\nAll {len(every)} outputs: median {quantile(every, 0.5):.4f}, 90 % {quantile(every, 0.9):.4f}.")
    if faster:
        print(f"Faster than AnyInit: {min(faster):.1f} to {max(faster):.1f} times, median {quantile(faster, 0.5):.1f}.")


def propagating(names):
    """Seconds of propagate over seconds of a forward pass."""
    models = zoo()
    print("| model | forward ms | propagate ms | ratio |\n|---|---|---|---|")
    for name in [
        n for n in ("resnet50", "vgg13", "convnext_tiny", "vit_b_16", "gpt2", "llama") if not names or n in names
    ]:
        make, _, batch = models[name]
        model = built(make)

        def forward(model=model, batch=batch):
            with torch.no_grad():
                model(**batch) if isinstance(batch, dict) else model(batch)

        plain, watched = (best(run) for run in (forward, lambda model=model, batch=batch: propagate(model, batch)))
        print(f"| {name} | {1e3 * plain:.0f} | {1e3 * watched:.0f} | {watched / plain:.2f} |", flush=True)


def best(run, times=5):
    """The least of several durations."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def calibrated_sizes(model, batch, names):
    """The rms of each weight's first output: of the layer that has a row, or else of the operation itself."""
    found = layers(model, batch, names)
    kept = calibration(model, {"rules": {"*": "keep"}}, batch)
    return {row.name: found.get(row.name, row.before) for row in kept.rows if row.name in names}


def layers(model, batch, names):
    """The rms of the first output of each layer with one of the weights."""
    found = {}
    for row in propagate(model, batch).rows:
        if row.weight in names and row.weight not in found:
            found[row.weight] = row.rms
    return found


def calibrations(names):
    """The share of calibrated weights whose output has the target size."""
    models = zoo()
    print("| model | weights | left | measured, 5 % | predicted, 15 % | lsuv, 5 % | AnyInit, 5 % |")
    print("|---|---|---|---|---|---|---|")
    chosen = [name for name in models if not names or name in names]
    for name in chosen:
        make, recipe, batch = models[name]
        model = built(make)
        shares = []
        for method, limit, seeds in (("measure", 0.05, (0,)), ("predict", 0.15, range(SEEDS))):
            torch.manual_seed(0)
            found = calibration(model, recipe, batch, method=method)
            aimed = {row.name for row in found.rows if not row.reason}
            squares = {}
            for seed in seeds:
                initframe.reinit(model, found.recipe, seed)
                torch.manual_seed(seed)  # of what the pass draws
                for weight, rms in calibrated_sizes(model, batch, aimed).items():
                    squares.setdefault(weight, []).append(rms**2)
            sizes = [math.sqrt(math.fsum(s) / len(s)) for s in squares.values()]
            shares.append(f"{sum(abs(size - 1) <= limit for size in sizes)} of {len(sizes)}")
            left = len(found.left)
        peers = [peer_share(run, make, batch) for run in (run_lsuv, run_anyinit)]
        print(f"| {name} | {len(found.rows)} | {left} | {' | '.join(shares + peers)} |", flush=True)


def run_lsuv(model, batch):
    from lsuv import lsuv_with_singlebatch

    lsuv_with_singlebatch(model, batch, verbose=False)
    model.train(True)


def run_anyinit(model, batch):
    import anyinit

    anyinit.initialize(model, "empirical", batch, seed=0)


def peer_share(run, make, batch):
    """The share of weighted layers whose output has the target size after a peer's own calibration."""
    model = built(make)
    mode = model.training
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run(model, batch)
    except ImportError:
        return "—"
    except Exception as problem:  # noqa: BLE001  # so does it here
        return f"fails: {type(problem).__name__}"
    model.train(mode)
    names = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    sizes = list(layers(model, batch, names).values())
    return f"{sum(abs(size - 1) <= 0.05 for size in sizes)} of {len(sizes)}"


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


def tied(_):
    """The size of a tied pair's first output, for a target of 1."""
    batch = torch.randn(256, 64)
    model = Tied()
    found = calibration(model, {"rules": {"*.weight": "xavier_normal"}}, batch)
    initframe.reinit(model, found.recipe, 0)
    with torch.no_grad():
        print(f"tied pair, target 1: initframe {model.first(batch).square().mean().sqrt():.3f}", end="")
        with contextlib.suppress(ImportError):
            other = Tied()
            with contextlib.redirect_stdout(io.StringIO()):
                run_lsuv(other, batch)
            print(f", lsuv {other.first(batch).std():.3f}", end="")
    print()


def llama405b(_):
    """Seconds to predict Llama 405B's shape."""
    import transformers as tf

    config = tf.LlamaConfig(
        num_hidden_layers=126,
        hidden_size=16384,
        intermediate_size=53248,
        num_attention_heads=128,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
    )
    with torch.device("meta"):
        model = tf.LlamaForCausalLM(config).eval()
    start = time.process_time()
    plan = initframe.resolve("llama", model)
    signal = predict(plan, {"input_ids": torch.empty(1, 4096, dtype=torch.int64, device="meta")})
    unknown = sum(row.rms is None for row in signal.rows)
    seconds = time.process_time() - start
    print(f"Llama 405B: {seconds:.1f} s, {len(signal.rows)} rows, {unknown} without numbers")


def gaps(names):
    """The operations that end predictions in all of torchvision, and in one model of each family of the others."""
    from constructors import LIBRARIES, families

    chosen = {word for word in names if word not in LIBRARIES}
    for library in [one for one in LIBRARIES if one in names or not set(names) & set(LIBRARIES)]:
        cut, failed, whole = defaultdict(list), {}, 0
        for name, build in families(library):
            if chosen and name not in chosen:
                continue
            try:
                found = without_rules(build)
            except Exception as problem:  # noqa: BLE001  # what cannot be built or fed is told
                failed[name] = f"{type(problem).__name__}: {problem}"
                continue
            whole += not found
            for operation, where in found.items():
                cut[operation].append(f"{name} ({where})")
        print(f"{library}: {whole} predicted to their end, {len(failed)} not run", flush=True)
        for operation, models in sorted(cut.items(), key=lambda pair: -len(pair[1])):
            print(f"  {operation}: {len(models)}: {', '.join(models[:6])}")
        for name, reason in failed.items():
            print(f"  not run: {name}: {' '.join(reason.split())[:160]}")


def without_rules(build):
    """The operations that end a model's prediction, and the first module of each; its parameters need no memory."""
    with initframe.deferred():
        model = build().eval()
    rules = {"*": {"init": "normal", "std": 0.02}, "vectors": {"match": "*", "where": "ndim < 2", "init": "ones"}}
    plan = initframe.resolve({"rules": rules, "unused": "warn"}, model)
    batch, _ = example(model, 2)
    prepared = prepare(plan, batch)
    unknown = {}

    def seen(call, tensor):
        if prepared.states.get(tensor) is None:
            unknown.setdefault("no operation of which a row tells", call.name)

    walk = Walk(prepared.parts, seen, prepared.names, prepared.states, prepared.fake, prepared.rules)
    try:
        prepared.run(walk)
    except Exception as problem:
        raise RuntimeError(f"{walk.where}: {problem}") from problem
    return walk.gaps or unknown


SECTIONS = {
    "gaps": gaps,
    "predict": predictions,
    "propagate": propagating,
    "calibrate": calibrations,
    "tied": tied,
    "llama405b": llama405b,
}

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    asked = [word for word in sys.argv[1:] if word in SECTIONS]
    models = [word for word in sys.argv[1:] if word not in SECTIONS]
    for section in asked or [name for name in SECTIONS if name != "gaps"]:
        print(f"\n## {section}\n", flush=True)
        SECTIONS[section](models)
