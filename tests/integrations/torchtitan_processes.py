"""What two processes check of torchtitan: the real Llama 3 at debug sizes, through the real Trainer's constructor.

torchtitan asks for an accelerator. Here it is told that the CPU is one, before its modules ask. The constructor is left
when it builds the tokenizer, whose files are not in the package: model, optimizer and mesh are there by then.
"""

import functools
import sys
import types
from dataclasses import replace
from pathlib import Path

import torch
from torchtitan.tools import utils

MEMORY = types.SimpleNamespace(total_memory=2**30, name="CPU")


class Cpu(types.ModuleType):
    """What torchtitan calls of torch.cuda, for a CPU."""

    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda *_: "CPU")
    get_device_properties = staticmethod(lambda *_: MEMORY)
    memory_stats = staticmethod(lambda *_: {})
    reset_peak_memory_stats = empty_cache = staticmethod(lambda *_: None)

    def __getattr__(self, name):
        return getattr(torch.cpu, name)


utils.device_type, utils.device_module = "cpu", Cpu("cpu")

import torch.distributed as dist  # noqa: E402
from torchtitan.models.llama3.config_registry import llama3_debugmodel  # noqa: E402
from torchtitan.trainer import Trainer  # noqa: E402

import initframe  # noqa: E402
from initframe.integrations.torchtitan import initialized  # noqa: E402
from tests.integrations import processes  # noqa: E402

SEED, FOLDER = 3, Path(sys.argv[1])
STAGES = {"pipeline_parallel_degree": 2, "pipeline_parallel_schedule": "1F1B"}


class TokenizerReachedError(Exception):
    """Raised where the constructor is left."""


class NoTokenizer:
    def build(self, **_):
        raise TokenizerReachedError


def constructed(recipe="llama3", tied=False, after=None, **parallelism):
    """Build a trainer up to its tokenizer: its model is parallelized and filled, its optimizer is built.

    Returns:
        The trainer, and a function that gives the parameters of the same model in one piece.
    """
    config = llama3_debugmodel()
    spec = replace(config.model_spec, post_optimizer_build_fn=after)
    spec.model.enable_weight_tying = tied
    config.model_spec = initialized(spec, recipe, SEED)
    config.tokenizer = NoTokenizer()
    config.training.disable_cuda_graphs = True
    config.dump_folder = str(FOLDER)
    config.metrics.save_tb_folder = str(FOLDER)
    for name, value in parallelism.items():
        setattr(config.parallelism, name, value)
    trainer = Trainer.__new__(Trainer)
    try:
        trainer.__init__(config)
    except TokenizerReachedError:
        return trainer, functools.partial(whole, config.model_spec, recipe)
    raise AssertionError("the constructor did not come to the tokenizer")


def whole(spec, recipe):
    """The same model in one piece."""
    with initframe.deferred():
        model = spec.model.build()
    initframe.materialize(model, recipe, SEED)
    return dict(model.named_parameters(remove_duplicate=False))


def parameters(part):
    """The parameters of a part by their names in the bare model; a tied one by each of its names."""
    seen = initframe.survey(part)
    for slot in seen.slots:
        if slot.kind == "parameter":
            yield from ((name, seen.places[slot.name].direct) for name in (slot.name, *slot.aliases))


def held(trainer):
    """The values of the parts that this process has."""
    named = (pair for part in trainer.model_parts for pair in parameters(part))
    return {name: p.full_tensor() if hasattr(p, "full_tensor") else p for name, p in named}


def assert_filled(trainer, expected, names=None):
    found, expected = held(trainer), expected()
    names = expected.keys() if names is None else names
    assert found.keys() == names, sorted(found.keys() ^ names)
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name
    optimized = {id(p) for optimizer in trainer.optimizers for g in optimizer.param_groups for p in g["params"]}
    assert optimized == {id(p) for part in trainer.model_parts for p in part.parameters()}


def fully_sharded():
    called = []
    trainer, expected = constructed(after=lambda *given: called.append(len(given)))
    assert_filled(trainer, expected)
    assert called == [3]  # what the spec had to do itself
    rope = [buffer for name, buffer in trainer.model_parts[0].named_buffers() if "rope" in name or "cache" in name]
    assert all(buffer.device.type == "cpu" and buffer.abs().sum() > 0 for buffer in rope)


def fully_sharded_and_tied():
    """Not in torchtitan's default backend, where its own parallelize_fn fails on a tied model."""
    tied = {"rules": {"*.weight": {"init": "normal", "std": 0.02}}}
    for recipe in (tied, "llama3"):
        trainer, expected = constructed(recipe, tied=True, spmd_backend="partial_dtensor")
        assert_filled(trainer, expected)
        (part,) = trainer.model_parts
        assert part.lm_head.weight is part.tok_embeddings.weight


def tensor_parallel():
    assert_filled(*constructed(tensor_parallel_degree=2))


def pipeline_by_plan():
    trainer, expected = constructed(**STAGES)
    own = {name for part in trainer.model_parts for name, _ in parameters(part)}
    assert_filled(trainer, expected, own)
    everyone = [None, None]
    dist.all_gather_object(everyone, sorted(own))
    assert sorted(everyone[0] + everyone[1]) == sorted(expected())
    assert all(everyone)


def a_recipe_for_one_stage():
    trainer, _ = constructed({"rules": {"lm_head.weight": "zeros"}}, **STAGES)
    zeros = {name for name, value in held(trainer).items() if not value.any()}
    assert zeros == ({"lm_head.weight"} if trainer.pp_has_last_stage else set())


CHECKS = [fully_sharded, fully_sharded_and_tied, tensor_parallel, pipeline_by_plan, a_recipe_for_one_stage]


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.run(CHECKS, FOLDER)
