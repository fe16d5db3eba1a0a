"""What is checked in every process of a world."""

import contextlib
import functools
import io
import itertools
import json
import math
import re
import types
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

import initframe
from initframe import Normal, ResolveError, apply, deferred, fill_, materialize, reinit, resolve
from tests.distributed import layouts
from tests.distributed.models import GPT, Llama

LAWS = {
    "uniform": {"init": "uniform", "a": -0.1, "b": 0.2},
    "normal": {"init": "normal", "std": 0.02},
    "truncated": {"init": "trunc_normal", "std": 0.02, "a": -0.04, "b": 0.04},
    "constant": {"init": "constant", "val": 0.1},
    "orthogonal": {"init": "orthogonal", "gain": 2},
    "kaiming": {"init": "kaiming_uniform"},
    "sparse": {"init": "sparse", "sparsity": 0.3},
}
FUSED = {"init": "normal", "std": [0.01, 0.02, 0.03]}
TRAINED = "truncated"


def recipe(law):
    """A law for every matrix; ones and zeros for the rest."""
    return {
        "rules": {
            "matrices": {"match": "*", "where": "ndim > 1", **LAWS[law]},
            "fused": {"match": "*.c_attn.weight", "split": 3, **FUSED, "optional": True},
            "scales": {"match": "*", "where": "ndim < 2", "init": "ones"},
            "biases": {"match": "*bias", "init": "uniform", "a": -0.1, "b": 0.1, "optional": True},
        }
    }


@functools.cache
def unsharded(model, dtype, law):
    """The same model in one piece, with its report."""
    plain = model().to(dtype)
    return plain, reinit(plain, recipe(law), seed=7, measure=True)


def build(model, dtype, layout):
    with deferred():
        built = model()
    return layout(built.to(dtype))


def whole(tensor):
    """A tensor, gathered from all processes."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def shard_of(tensor, like):
    """What torch leaves of a whole tensor in this process, by the placements of another one."""
    if not isinstance(like, DTensor):
        return tensor.detach()
    return distribute_tensor(tensor.detach(), like.device_mesh, like.placements, src_data_rank=None).to_local()


def assert_equal(sharded, model, dtype, law, gather=False):
    """Every parameter is bit for bit the unsharded model's; of a QR decomposition, up to its rounding."""
    expected = dict(unsharded(model, dtype, law)[0].named_parameters(remove_duplicate=False))
    for name, parameter in sharded.named_parameters(remove_duplicate=False):
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        found = whole(parameter) if gather else local.detach()
        wanted = expected[name].detach() if gather else shard_of(expected[name], parameter)
        if law == "orthogonal" and dtype == torch.float32:
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
        else:
            assert torch.equal(found, wanted), (name, parameter)


def assert_same_everywhere(layout, models=(GPT, Llama)):
    """All laws, both dtypes, both models: values, plans, manifests and tables are the unsharded model's."""
    for model in models:
        for dtype in (torch.float32, torch.bfloat16):
            sharded = build(model, dtype, layout)
            first, *rest = LAWS
            report = materialize(sharded, recipe(first), seed=7, measure=True)
            assert_reports_agree(report, unsharded(model, dtype, first)[1])
            assert_equal(sharded, model, dtype, first, gather=True)
            for law in rest:
                plan = resolve(recipe(law), sharded)
                assert plan == unsharded(model, dtype, law)[1].plan
                apply(plan, seed=7)
                assert_equal(sharded, model, dtype, law)
            assert_tables_are_right(sharded, model, dtype)


def assert_reports_agree(sharded, plain):
    assert json.dumps(initframe.manifest(sharded)) == json.dumps(initframe.manifest(plain))
    for one, other in zip(sharded.results, plain.results, strict=True):
        assert one.after.moments == pytest.approx(other.after.moments, rel=1e-4, abs=1e-8)


def assert_tables_are_right(sharded, model, dtype):
    expected = dict(model().to(dtype).named_buffers())
    for name, table in sharded.named_buffers():
        assert torch.equal(table, expected[name])


def assert_trains_alike(layout):
    """The loss over two steps prints the same digits."""
    for model in (GPT, Llama):
        sharded = build(model, torch.float32, layout)
        materialize(sharded, recipe(TRAINED), seed=7)
        plain = model()
        reinit(plain, recipe(TRAINED), seed=7)
        assert losses(sharded) == losses(plain)


def losses(model, steps=2):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    printed = []
    for _ in range(steps):
        loss = loss_of(model(tokens()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        printed.append(f"{loss.item():.5f}")
    return printed


def tokens():
    return torch.arange(32).reshape(2, 16) * 3


def loss_of(logits):
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens().flatten())


# --- one function per layout -----------------------------------------------------------------------------------------


def fsdp(rank, folder):
    layout = functools.partial(layouts.fsdp, size=dist.get_world_size())
    assert_same_everywhere(layout)
    assert_trains_alike(layout)


def fsdp_dim_1(rank, folder):
    layout = functools.partial(layouts.fsdp_dim_1, size=dist.get_world_size())
    assert_same_everywhere(layout)
    assert_trains_alike(layout)


def tp(rank, folder):
    layout = functools.partial(layouts.tp, size=dist.get_world_size())
    assert_same_everywhere(layout)
    assert_trains_alike(layout)


def hsdp(rank, folder):
    assert_same_everywhere(lambda model: layouts.hsdp(model, 2, 2))
    assert_trains_alike(lambda model: layouts.hsdp(model, 2, 2))


def fsdp_and_tp(rank, folder):
    shape = dist.get_world_size() // 2, 2
    assert_same_everywhere(lambda model: layouts.fsdp_tp(model, *shape))
    assert_trains_alike(lambda model: layouts.fsdp_tp(model, *shape))


def pipeline(rank, folder):
    """The whole model is resolved without memory; every process fills its own stage of it."""
    for dtype, model, law in itertools.product((torch.bfloat16, torch.float32), (GPT, Llama), LAWS):
        with deferred():
            meta, stage = model().to(dtype), layouts.stage(model().to(dtype), rank, 2)
        plan = resolve(recipe(law), meta)
        materialize(stage, plan, seed=7, verify_replicas=True)
        assert_equal(stage, model, dtype, law)
        apply(plan, seed=8, module=stage)
        apply(plan, seed=7, module=stage)
        assert_equal(stage, model, dtype, law)
    assert_pipeline_trains_alike(rank, stage, plan)


def assert_pipeline_trains_alike(rank, stage, plan):
    apply(resolve(recipe(TRAINED), plan.model), seed=7, module=stage)
    optimizer = torch.optim.AdamW(stage.parameters(), lr=1e-2, foreach=False)
    printed = []
    for _ in range(2):
        between = torch.empty(2, 16, 24, requires_grad=rank == 1)
        if rank == 0:
            out = stage(tokens())
            dist.send(out.detach(), 1)
            dist.recv(between, 1)
            out.backward(between)
        else:
            dist.recv(between.detach(), 0)
            loss = loss_of(stage(between))
            loss.backward()
            dist.send(between.grad, 0)
            printed.append(f"{loss.item():.5f}")
        optimizer.step()
        optimizer.zero_grad()
    plain = Llama()
    reinit(plain, recipe(TRAINED), seed=7)
    assert rank == 0 or printed == losses(plain)


# --- single tensors, in every way there is ---------------------------------------------------------------------------


def single_tensors(rank, folder):
    """fill_ against torch's own distribution of the whole tensor, for placements that no framework makes today."""
    mesh = init_device_mesh("cpu", (dist.get_world_size() // 2, 2))
    strided = _StridedShard(0, split_factor=2)
    for shape in ((13, 6), (8, 4), (5, 7, 3), (1, 2), (0, 3)):
        for placements in (
            (Shard(0), Shard(0)),
            (strided, Shard(0)),
            (strided, Replicate()),
            (Replicate(), Shard(1)),
            (Shard(1), Shard(0)),
            (Shard(1), Shard(1)),
            (Replicate(), Replicate()),
        ):
            expected = fill_(torch.empty(shape), Normal(), name="w")
            found = distribute_tensor(torch.zeros(shape), mesh, placements, src_data_rank=None)
            assert fill_(found, Normal(), name="w") is found
            assert torch.equal(found.to_local(), shard_of(expected, found)), (shape, placements)
            assert reported(found) == reported(expected)
            expected.view(-1)[:1] = math.inf  # one process has it
            found.to_local().copy_(shard_of(expected, found))
            assert reported(found) == reported(expected)


def reported(tensor):
    report = reinit({"w": tensor}, {"rules": {"w": "keep"}}, measure=True)
    found = report["w"].after if report.results else None
    return found and (found.digest, found.nonfinite, *(f"{moment:.5f}" for moment in found.moments))


def partial_is_refused(rank, folder):
    """Before the first write: the tensor beside it keeps its values."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    state = {"a": torch.zeros(4), "b": DTensor.from_local(torch.zeros(4), mesh, [Partial()])}
    with pytest.raises(ResolveError, match=r"b: it is placed as Partial.*Redistribute"):
        reinit(state, {"rules": {"*": "ones"}})
    with pytest.raises(ResolveError, match=r"tensor 'b': it is placed as Partial"):
        fill_(state["b"], Normal(), name="b")
    assert state["a"].tolist() == state["b"].to_local().tolist() == [0.0] * 4


def a_shard_of_another_size_is_refused(rank, folder):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    wrong = DTensor.from_local(torch.zeros(3 + rank), mesh, [Shard(0)], shape=torch.Size((12,)), stride=(1,))
    with pytest.raises(ResolveError, match="local tensor is"):
        fill_(wrong, Normal(), name="w")


def current_values(rank, folder):
    """Fills that start from what is there do it shard by shard."""
    rules = {"rules": {"*": {"init": "shrink_perturb", "shrink": 0.5, "std": 0.1}}}
    sharded = layouts.fsdp(reinitialized(GPT), dist.get_world_size())
    plain = reinitialized(GPT)
    reinit(sharded, rules, seed=3)
    reinit(plain, rules, seed=3)
    assert all(torch.equal(whole(p), q) for p, q in zip(sharded.parameters(), plain.parameters(), strict=True))


def reinitialized(model):
    plain = model()
    reinit(plain, recipe("normal"), seed=7)
    return plain


# --- what goes with it -----------------------------------------------------------------------------------------------


def materialized_before_sharding(rank, folder):
    with deferred():
        model = Llama()
    materialize(model, recipe("normal"), seed=7)
    assert_equal(layouts.fsdp(model, dist.get_world_size()), Llama, torch.float32, "normal")


def as_its_constructor_has_it(rank, folder):
    """Sharded before it has memory, in any world: the numbers of the whole model."""

    def deferred_model():
        with deferred():
            return Llama()

    plain = deferred_model()
    materialize(plain, seed=7)
    sharded = layouts.fsdp(deferred_model(), dist.get_world_size())
    materialize(sharded, seed=7)
    whole = dict(plain.named_parameters())
    for name, parameter in sharded.named_parameters():
        assert torch.equal(parameter.full_tensor(), whole[name]), name


def retried(rank, folder):
    """What failed half-way is sharded and without memory again, and the next try is as good as the first."""
    sharded = build(Llama, torch.float32, functools.partial(layouts.fsdp, size=dist.get_world_size()))

    def stop(_):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        materialize(sharded, recipe("normal"), seed=7, on_progress=stop)
    assert all(isinstance(parameter, DTensor) and parameter.is_meta for parameter in sharded.parameters())
    materialize(sharded, recipe(TRAINED), seed=7)
    assert_equal(sharded, Llama, torch.float32, TRAINED)
    with torch.no_grad():
        torch.testing.assert_close(sharded(tokens()), unsharded(Llama, torch.float32, TRAINED)[0](tokens()))


def offloaded_to_the_cpu(rank, folder):
    from torch.distributed.fsdp import CPUOffloadPolicy

    with deferred():
        model = Llama()
    policy = CPUOffloadPolicy(pin_memory=False)
    sharded = layouts.fsdp(model, dist.get_world_size(), offload_policy=policy)
    materialize(sharded, recipe("normal"), seed=7, device="cpu")
    assert_equal(sharded, Llama, torch.float32, "normal")
    assert len(losses(sharded)) == 2


def gathered_parameters_are_dropped(rank, folder):
    """After a forward pass the root's parameters are whole for a while: what is written to those would be lost."""
    sharded = build(Llama, torch.float32, functools.partial(layouts.fsdp, size=dist.get_world_size()))
    materialize(sharded, recipe("constant"), seed=7)
    with torch.no_grad():
        sharded(tokens())
        reinit(sharded, recipe(TRAINED), seed=7)
        found = sharded(tokens())
        expected = unsharded(Llama, torch.float32, TRAINED)[0](tokens())
    torch.testing.assert_close(found, expected)


def torchs_own_numbers(rank, folder):
    """generator: torch draws whole tensors in every process alike, and needs a seed for it."""
    plain = Llama()
    reinit(plain, recipe("normal"), seed=7, generator="torch")
    sharded = build(Llama, torch.float32, functools.partial(layouts.fsdp, size=dist.get_world_size()))
    materialize(sharded, recipe("normal"), seed=7, generator="torch")
    assert all(torch.equal(whole(p), q) for p, q in zip(sharded.parameters(), plain.parameters(), strict=True))
    with pytest.raises(ResolveError, match="without a seed"):
        reinit(sharded, recipe("normal"), generator="torch")


def parametrized(rank, folder):
    """A weight that is computed from sharded originals, in every way that torch has."""
    from torch.distributed.fsdp import fully_shard

    ways = (
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        deprecated(nn.utils.weight_norm),
        deprecated(nn.utils.spectral_norm),
        lambda layer: nn.utils.prune.identity(layer, "weight"),
    )
    rules = {"rules": {"weight": {"init": "normal", "std": 0.5}, "bias": "zeros"}}
    for way in ways:
        plain, sharded = way(nn.Linear(6, 5)), fully_shard(way(nn.Linear(6, 5)))
        one, other = (reinit(model, rules, seed=7, measure=True, verify_replicas=True) for model in (plain, sharded))
        assert [result.digest for result in one.results] == [result.digest for result in other.results]
        for expected, found in zip(plain.parameters(), sharded.parameters(), strict=True):
            torch.testing.assert_close(whole(found), expected.detach())


def deprecated(function):
    """What torch warns of, without the warning."""

    def quiet(*arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments)

    return quiet


def flat_parameters(rank, folder):
    """FullyShardedDataParallel calls a param_init_fn on every module without memory."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    from tests.distributed.models import LlamaBlock

    with deferred():
        model = Llama()
    init = initframe.param_init_fn(resolve(recipe("normal"), model), seed=7)
    flat = FullyShardedDataParallel(
        model,
        auto_wrap_policy=ModuleWrapPolicy({LlamaBlock}),
        param_init_fn=init,
        device_id=torch.device("cpu"),
        use_orig_params=True,
    )
    with FullyShardedDataParallel.summon_full_params(flat):
        expected = dict(unsharded(Llama, torch.float32, "normal")[0].named_parameters())
        for name, parameter in flat.module.named_parameters():
            assert torch.equal(parameter, expected[name.replace("_fsdp_wrapped_module.", "")])


# --- checkpoints -----------------------------------------------------------------------------------------------------


def checkpoints(rank, folder):
    """What shards save, read in one piece, in other shards, and in one safetensors file, is the unsharded model."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    sharded = build(Llama, torch.float32, lambda model: layouts.fsdp_tp(model, 2, 2))
    materialize(sharded, recipe("normal"), seed=7)
    expected = unsharded(Llama, torch.float32, "normal")[0].state_dict()
    with torch_warnings():
        dcp.save(get_model_state_dict(sharded), checkpoint_id=folder / "saved")
        if rank == 0:
            found = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
            dcp.load(found, checkpoint_id=folder / "saved", no_dist=True)
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        other = layouts.fsdp(Llama(), 4)
        dcp.load(get_model_state_dict(other), checkpoint_id=folder / "saved")
    assert_equal(other, Llama, torch.float32, "normal")


def one_safetensors_file(rank, folder):
    """torch consolidates shards into the file that write_checkpoint makes of the plan alone."""
    import torch.distributed.checkpoint as dcp
    from safetensors.torch import load_file
    from torch.distributed.checkpoint import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    sharded = build(Llama, torch.bfloat16, lambda model: layouts.fsdp_tp(model, 2, 2))
    materialize(sharded, recipe("normal"), seed=7)
    writer = HuggingFaceStorageWriter(str(folder / "hf"), save_distributed=True, enable_consolidation=True)
    with torch_warnings():
        dcp.save(get_model_state_dict(sharded), storage_writer=writer)
    if rank == 0:
        (torchs,) = (folder / "hf").glob("*.safetensors")
        with deferred():
            plan = resolve(recipe("normal"), Llama())
        (own,) = initframe.write_checkpoint(plan, folder / "own", seed=7, dtype=torch.bfloat16)
        found, expected = load_file(torchs), load_file(own)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@contextlib.contextmanager
def torch_warnings():
    """Let torch's checkpoints warn of themselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch")
        yield


# --- docs/scale.md ---------------------------------------------------------------------------------------------------


def the_page(rank, folder):
    """The demo says what the page says that it says, and each framework's way makes the same model."""
    demo, printed = page_module("demo"), io.StringIO()
    with torch_warnings(), contextlib.redirect_stdout(printed):
        demo["main"]()
    expected = "torch_nn_init: a 512×512 weight of rank 256\ninitframe_materialize: a 512×512 weight of rank 512\n"
    assert expected in PAGE
    assert printed.getvalue() == (expected if rank == 0 else "")
    shard = functools.partial(layouts.fsdp, size=dist.get_world_size())
    looped = page_module("loop_style")["prepare"](Llama, shard, recipe("normal"), 7, "cpu")
    assert_equal(looped, Llama, torch.float32, "normal")
    stage_of = functools.partial(layouts.stage, index=rank, count=2)
    stage = page_module("pipeline_style")["prepare"](Llama, stage_of, recipe("normal"), 7, "cpu")
    assert_equal(stage, Llama, torch.float32, "normal")
    accelerated = page_module("accelerate_style", accelerate=AccelerateLike)["prepare"](
        Llama, recipe("normal"), 7, "cpu"
    )
    assert_equal(accelerated, Llama, torch.float32, "normal")


PAGE = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")


def page_module(name, **stand_ins):
    """A file of the page, run; packages that are not installed are stood in for."""
    (text,) = re.findall(rf"^```python\n(# {name}\.py\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    modules = {package: types.SimpleNamespace(**names) for package, names in stand_ins.items()}
    namespace = {"__name__": name}
    with mock.patch.dict("sys.modules", modules):
        exec(text, namespace)
    return namespace


class PluginLike:
    """Calls a param_init_fn on every module without memory, as FullyShardedDataParallel does."""

    def __init__(self, param_init_fn, **_):
        self.init = param_init_fn

    def prepare(self, model):
        for module in model.modules():
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                self.init(module)
        return model


AccelerateLike = {"FullyShardedDataParallelPlugin": PluginLike, "Accelerator": lambda fsdp_plugin: fsdp_plugin}
