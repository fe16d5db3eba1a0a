"""What two processes check that ``accelerate launch`` has started: accelerate's FSDP2, Lightning's model parallelism.

accelerate offers FSDP on accelerators only. On CPUs its state is told that it has one; what runs then is its own code.
"""

import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

import initframe
from initframe.errors import ResolveError
from initframe.integrations.accelerate import prepare
from initframe.integrations.lightning import Initialize
from tests.integrations import processes

SEED, FOLDER = 3, Path(sys.argv[1])


def llama(tied=False):
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=tied))


def deferred(build, *args):
    with initframe.deferred():
        return build(*args)


def accelerator(*, efficient=False, fsdp=True):
    accelerate = Accelerator(cpu=True)
    accelerate.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
        cpu_ram_efficient_loading=efficient,
    )
    kind = DistributedType.FSDP if fsdp else DistributedType.MULTI_CPU
    PartialState().distributed_type = accelerate.state.distributed_type = kind
    return accelerate


def groups(model):
    """Two groups, as people split them for weight decay."""
    parameters = list(model.parameters())
    matrices, rest = ([p for p in parameters if (p.ndim > 1) == wide] for wide in (True, False))
    return [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()


def assert_holds(model, expected, prefix=""):
    found = {name.removeprefix(prefix): whole(p) for name, p in model.named_parameters()}
    assert found.keys() == {name for name, _ in expected.named_parameters()}
    for name, value in found.items():
        assert torch.equal(value, expected.get_parameter(name)), name


def assert_trains(accelerate, model, optimizer):
    """One step moves every parameter."""
    before = {name: whole(p).clone() for name, p in model.named_parameters()}
    ids = torch.arange(16)[None] + accelerate.process_index
    accelerate.backward(model(ids, labels=ids).loss)
    optimizer.step()
    assert [name for name, p in model.named_parameters() if torch.equal(whole(p), before[name])] == []


def reference(tied=False, recipe="llama"):
    model = llama(tied)
    initframe.reinit(model, recipe, SEED)
    return model


def accelerate_prepares_first_and_materialize_refuses():
    model = deferred(llama)
    count = len(list(model.parameters()))
    model, optimizer = accelerator().prepare(model, torch.optim.AdamW(model.parameters()))
    assert (count, len({id(p) for p in optimizer.param_groups[0]["params"]})) == (30, 1)  # the fault itself
    with pytest.raises(ResolveError) as caught:
        initframe.materialize(model, "llama", SEED)
    (problem,) = caught.value.problems
    assert (problem.subject, "1 of 30" in problem.fact, all(p.is_meta for p in model.parameters())) == (
        "model",
        True,
        True,
    )


def accelerate_fills_its_shards():
    for tied in (False, True):
        accelerate, model = accelerator(), deferred(llama, tied)
        optimizer = torch.optim.AdamW(groups(model), lr=0.1)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        model, optimizer, schedule = prepare(accelerate, model, optimizer, schedule, recipe="llama", seed=SEED)
        assert_holds(model, reference(tied))
        mine = {id(p) for p in model.parameters()}
        assert [{id(p) for p in g["params"]} <= mine for g in optimizer.param_groups] == [True, True]
        assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
        assert sum(len(g["params"]) for g in optimizer.param_groups) == len(mine)
        assert_trains(accelerate, model, optimizer)


def accelerate_by_constructors():
    model = deferred(llama)
    expected = deferred(llama)
    initframe.materialize(expected, seed=SEED)
    model, _ = prepare(accelerator(), model, torch.optim.SGD(model.parameters(), 0.1), recipe=None, seed=SEED)
    assert_holds(model, expected)


def accelerate_with_rank_0_real():
    """The others get its values, or those of a recipe; and all of their parameters, which accelerate alone forgets."""
    for recipe in (None, "llama"):
        accelerate = accelerator(efficient=True)
        torch.manual_seed(5)
        model = llama() if accelerate.is_main_process else deferred(llama)
        torch.manual_seed(5)
        expected = reference() if recipe else llama()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model, optimizer = prepare(accelerate, model, optimizer, recipe=recipe, seed=SEED)
        assert_holds(model, expected)
        assert_trains(accelerate, model, optimizer)


def accelerate_refuses():
    model = deferred(llama)
    stray = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(2))], 0.1)
    stepped = torch.optim.SGD(model.parameters(), 0.1)
    stepped.state[next(model.parameters())] = {"momentum": 1}
    cases = [(False, stray, "optimizer"), (False, stepped, "optimizer")]
    if dist.get_rank() == 0:  # the others would wait for its values
        cases.append((True, torch.optim.SGD(model.parameters(), 0.1), "model"))
    for efficient, optimizer, subject in cases:
        accelerate = accelerator(efficient=efficient)
        with pytest.raises(ResolveError) as caught:
            prepare(accelerate, model, optimizer, recipe="llama")
        assert [problem.subject for problem in caught.value.problems] == [subject]
        assert all(p.is_meta for p in model.parameters())


def accelerate_without_fsdp():
    """Under DistributedDataParallel the model is filled before it is wrapped."""
    accelerate, model = accelerator(fsdp=False), deferred(llama)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model, optimizer = prepare(accelerate, model, optimizer, recipe="llama", seed=SEED)
    assert_holds(model, reference(), "module.")
    assert_trains(accelerate, model, optimizer)


class Sharded(LightningModule):
    """As docs/integrations.md has it; notes what it is in training."""

    def __init__(self):
        super().__init__()
        self.model, self.starts = None, []

    def configure_model(self):
        if self.model is None:
            self.model = deferred(lambda: nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2)))
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, _):
        return self.model(batch).square().mean()

    def validation_step(self, batch, _):
        self.model(batch)

    def configure_optimizers(self):
        self.starts.append(self.state())
        return torch.optim.SGD(self.parameters(), 0.1)

    def state(self):
        return {name: whole(p).clone() for name, p in self.model.named_parameters()}

    def train_dataloader(self):
        return DataLoader(torch.ones(8, 4), batch_size=2)

    val_dataloader = train_dataloader


def trainer(seed=SEED, **options):
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo")
    recipe = {"rules": {"*.weight": "xavier_uniform", "*.bias": {"init": "uniform", "a": -1, "b": 1}}}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "default_root_dir": FOLDER}
    callback = Initialize(recipe, seed, attribute="model")
    return Trainer(accelerator="cpu", devices=2, strategy=strategy, callbacks=[callback], **(quiet | options)), recipe


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lightning_shards():
    module = Sharded()
    run, recipe = trainer()
    run.fit(module)
    expected = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2))
    initframe.reinit(expected, recipe, SEED)
    assert equal(module.starts[0], dict(expected.named_parameters()))
    trained = module.state()
    assert not equal(trained, module.starts[0])
    run.save_checkpoint(FOLDER / "lightning")
    for again in (run, trainer(seed=4)[0]):
        again.validate(module)
        assert equal(module.state(), trained)
    trainer(seed=4)[0].fit(module)
    assert equal(module.starts[1], trained)
    resumed = Sharded()
    trainer(max_epochs=1)[0].validate(resumed, ckpt_path=FOLDER / "lightning")
    assert equal(resumed.state(), trained)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.magnitude = nn.Linear(4, 5), nn.Parameter(torch.zeros(5))


def norms_of_shards():
    recipe = {"rules": {"*": "normal", "magnitude": {"init": "row_norms", "source": "layer.weight"}}}
    expected, model = Scaled(), fully_shard(deferred(Scaled))
    initframe.reinit(expected, recipe, SEED)
    initframe.materialize(model, recipe, SEED)
    assert_holds(model, expected)
    columns = fully_shard(Scaled(), shard_placement_fn=lambda p: Shard(p.ndim - 1))
    with pytest.raises(ResolveError):
        initframe.reinit(columns, recipe, SEED)


CHECKS = [
    accelerate_prepares_first_and_materialize_refuses,
    accelerate_fills_its_shards,
    accelerate_by_constructors,
    accelerate_with_rank_0_real,
    accelerate_refuses,
    accelerate_without_fsdp,
    lightning_shards,
    norms_of_shards,
]


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    accelerator()  # connects the processes
    processes.run(CHECKS, FOLDER)
