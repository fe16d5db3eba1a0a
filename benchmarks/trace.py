"""What real constructors do: read, described, compared with what they draw, and what reading costs.

    python benchmarks/trace.py torchvision timm transformers   # every parameter read; described and resolved again
    python benchmarks/trace.py cost                            # trace against construction on meta; a Llama of 405B
    python benchmarks/trace.py draws                           # 30 models drawn by their constructors; identified

Ratios are of the best of several runs in one process.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from constructors import LIBRARIES, Build

import initframe
from initframe.construction.strays import FAR
from initframe.fills import Constant, Fill, Normal, Table, TruncatedNormal
from initframe.fills.equal import same

SOME = {
    "torchvision": (
        *("alexnet", "squeezenet1_1", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"),
        *("mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "swin_t", "convnext_tiny", "googlenet", "densenet121"),
    ),
    "timm": (
        *("vit_base_patch16_224", "beit_base_patch16_224", "cait_m36_384", "coat_lite_medium", "convit_base"),
        *("crossvit_15_240", "cspresnet50", "davit_base", "deit_base_distilled_patch16_224", "dla34", "edgenext_base"),
        *("efficientformer_l1", "ghostnet_050", "gmixer_12_224", "hrnet_w18", "levit_128", "mobilevit_s", "nest_base"),
        *("repvgg_a0", "xcit_large_24_p8_224"),
    ),
}
"""Thirty models and a few, small enough to be drawn by their constructors."""


def sweep(library: str) -> None:
    """Trace and describe every model of a library."""
    kinds: Counter[str] = Counter()
    rules, tracing, describing, wasted = [], 0.0, 0.0, []
    for name, build in LIBRARIES[library]():
        start = time.perf_counter()
        try:
            plan = initframe.trace(build)
        except initframe.InitframeError as error:
            print(f"  {name}: {error!s:.200}")
            continue
        traced = time.perf_counter()
        recipe = initframe.describe(plan)
        made = initframe.resolve(recipe, plan.model)
        assert all(same(made[a.slot.name].fill, a.fill) for a in plan.assignments), name
        describing += time.perf_counter() - traced
        tracing += traced - start
        rules.append(len(recipe.rules))
        kinds.update(a.fill.kind for a in plan.assignments)
        kinds["skipped"] += len(plan.skipped)
        vain = sum(a.slot.numel * a.overwritten for a in plan.assignments)
        wasted.append((vain / max(vain + plan.elements, 1), sum(a.overwritten > 0 for a in plan.assignments), name))
        for parameter, reason in plan.skipped.items():
            print(f"  {name}: {parameter}: {reason:.160}")
    total = kinds.total()
    print(
        f"{library}: {len(rules)} models, {total:,} parameters, {kinds['skipped'] / total:.2%} skipped: {dict(kinds)}"
    )
    print(f"  traced in {tracing:.0f} s, described and resolved in {describing:.0f} s, all equal")
    print(f"  rules: median {statistics.median(rules):g}, most {max(rules)}")
    print("  written in vain: " + ", ".join(f"{name} {n} ({share:.0%})" for share, n, name in sorted(wasted)[:-8:-1]))


def cost() -> None:
    """What tracing costs beside construction on meta, and a Llama of 405B."""
    models = {"torchvision": ("resnet50", "swin_t", "mobilenet_v3_large"), "timm": ("vit_base_patch16_224",)}
    for library, names in models.items():
        known = dict(LIBRARIES[library]()) if library in LIBRARIES else {}
        for name in names:
            if name in known:
                _ratios(name, known[name])
    _llama()


def _ratios(name: str, build: Build) -> None:
    def on_meta() -> None:
        with torch.device("meta"):
            build()

    def deferred() -> None:
        with initframe.deferred():
            build()

    meta, later, traced = (_best(run) for run in (on_meta, deferred, lambda: initframe.trace(build)))
    print(f"{name}: on meta {meta * 1e3:.0f} ms, deferred × {later / meta:.2f}, trace × {traced / meta:.2f}")


def _best(run: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def _llama() -> None:
    """The shape of Llama 405B, by transformers' own class."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=16384,
        intermediate_size=53248,
        num_hidden_layers=126,
        num_attention_heads=128,
        num_key_value_heads=8,
        vocab_size=128256,
    )
    start = time.perf_counter()
    plan = initframe.trace(lambda: transformers.LlamaForCausalLM(config))
    print(f"Llama 405B: {plan.elements:,} elements traced in {time.perf_counter() - start:.1f} s")


def draws() -> None:
    """Compare what constructors draw with what was traced, and identify it."""
    far: list[float] = []
    clamped, drawn = 0, 0
    right: Counter[bool] = Counter()
    for library, names in SOME.items():
        known = dict(LIBRARIES[library]()) if library in LIBRARIES else {}
        for name in names:
            build = known.get(name)
            if build is None and library == "timm":
                build = _timm(name)
            if build is None:
                continue
            plan = initframe.trace(build)
            torch.manual_seed(0)
            model = build()
            tensors = dict(model.named_parameters())
            here = [
                (d, a.slot.name)
                for a in plan.assignments
                if (t := tensors.get(a.slot.name)) is not None
                for d in _apart(t, a.fill)
            ]
            for a in plan.assignments:
                if a.slot.name in tensors and _has_far_bounds(a.fill):
                    clamped += int(_at_clamp(tensors[a.slot.name], a.fill).sum())
                    drawn += a.slot.numel
            found = initframe.identify(model)
            told = dict(_identified(plan, found))
            far += [d for d, _ in here]
            right.update(told.values())
            farthest, where = max(here)
            missed = ", ".join(one for one, is_right in told.items() if not is_right)
            print(
                f"  {name}: {len(here)} moments, farthest {farthest:.1f} errors ({where}); "
                f"identified {sum(told.values())}/{len(told)}{f', not {missed:.300}' * bool(missed)}",
                flush=True,
            )
    print(f"at the clamp of far bounds: {clamped} of {drawn:,} elements; 2^-24 of them are {drawn / 2**24:.1f}")
    print(f"{len(far)} moments, farthest {max(far):.2f} standard errors; identified {right[True] / right.total():.2%}")


def _timm(name: str) -> Build | None:
    import timm

    return (lambda: timm.create_model(name)) if name in timm.list_models() else None


def _apart(tensor: torch.Tensor, fill: Fill) -> Iterator[float]:
    """How many standard errors mean and std of a tensor are from its fill's.

    Elements at the clamp of a truncated normal with far bounds are left out: once in 2^24 draws torch's uniform_(-1, 1)
    is -1, whose inverse error function is infinite. They are no part of the distribution, and are counted apart.
    """
    values = tensor.detach().double()
    if _has_far_bounds(fill):
        values = values[~_at_clamp(tensor, fill)]
    n = values.numel()
    if isinstance(fill, Constant | Table) or fill.std == 0:
        yield (
            0.0
            if torch.allclose(values, torch.as_tensor(fill.mean).double().expand_as(values)) or isinstance(fill, Table)
            else math.inf
        )
    elif fill.kind in ("uniform", "normal", "truncated_normal") and n >= 64:
        yield abs(values.mean().item() - fill.mean) / (fill.std / math.sqrt(n))
        yield abs(values.std().item() / fill.std - 1) * math.sqrt(2 * n)


def _has_far_bounds(fill: Fill) -> bool:
    """Whether no draw in float32 is as far out as the bounds of a truncated normal."""
    return isinstance(fill, TruncatedNormal) and min(fill.high - fill.loc, fill.loc - fill.low) > FAR * fill.scale


def _at_clamp(tensor: torch.Tensor, fill: Fill) -> torch.Tensor:
    return (tensor == fill.low) | (tensor == fill.high)


def _identified(plan: initframe.Plan, found: initframe.Plan) -> Iterator[tuple[str, bool]]:
    """Whether each tensor of 256 elements or more is identified as what it was drawn from."""
    for a in plan.assignments:
        name, fill = a.slot.name, a.fill
        if a.slot.numel >= 256 and fill.kind in ("constant", "uniform", "normal", "truncated_normal", "orthogonal"):
            if isinstance(fill, TruncatedNormal) and min(fill.high - fill.loc, fill.loc - fill.low) > 4 * fill.scale:
                fill = Normal(fill.loc, fill.scale)
            other = None if name in found.skipped else found[name].fill
            yield name, other is not None and other.kind == fill.kind and abs(other.std - fill.std) <= 0.1 * fill.std


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for asked in sys.argv[1:] or [*LIBRARIES, "cost", "draws"]:
        {"cost": cost, "draws": draws}.get(asked, lambda asked=asked: sweep(asked))()
