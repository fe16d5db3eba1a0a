"""Sharded models: names, shapes and fans are the whole model's, on every process."""

import json

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from initframe.model.survey import survey

pytestmark = pytest.mark.slow


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), weight_norm(nn.Linear(6, 3)), spectral_norm(nn.Linear(3, 5)))


def facts(model):
    seen = survey(model)
    slots = [
        [slot.name, list(slot.shape), slot.fan_in, slot.layer, slot.module_types[0], slot.remedy]
        for slot in (*seen.slots, *seen.raw)
    ]
    return [seen.title, slots]


def write(place, value):
    with torch.no_grad():
        for original, new in place.copies(value):
            original.copy_(new)


def fully_sharded():
    from torch.distributed.fsdp import fully_shard

    model = build()
    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


def sharded_write():
    """Fill a parametrized weight through its sharded originals, and read it back."""
    model, value = fully_sharded(), torch.arange(18.0).reshape(3, 6) + 1
    write(survey(model).places["1.weight"], value)
    seen = survey(model)
    whole = model[1].parametrizations.weight.original1.full_tensor()
    return [torch.equal(whole, value), torch.allclose(seen.places["1.weight"].tensor(), value)]


def flat(use_orig_params, wrap=lambda module: module):
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = wrap(nn.Sequential(wrap(nn.Linear(4, 6)), nn.Linear(6, 3)))
    wrapped = FullyShardedDataParallel(model, use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    sharded = facts(wrapped)
    with FullyShardedDataParallel.summon_full_params(wrapped):
        return [sharded, facts(wrapped)]


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    answers = {
        "fully_shard": facts(fully_sharded()),
        "write": sharded_write(),
        "original parameters": flat(use_orig_params=True),
        "flat parameter": flat(use_orig_params=False),
        "flat parameter of checkpoints": flat(use_orig_params=False, wrap=checkpoint_wrapper),
        "flat parameter of compiled modules": flat(use_orig_params=False, wrap=torch.compile),
    }
    (folder / f"{rank}.json").write_text(json.dumps(answers))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What two processes see, asked for once."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_fully_shard_changes_no_fact(answers):
    for answer in answers:
        assert answer["fully_shard"] == facts(build())


def test_sharded_originals_take_a_whole_value(answers):
    for answer in answers:
        assert answer["write"] == [True, True]


@pytest.mark.parametrize(
    "kind",
    [
        "original parameters",
        "flat parameter",
        "flat parameter of checkpoints",
        "flat parameter of compiled modules",
    ],
)
def test_pieces_of_a_flat_parameter_are_refused_under_their_names(answers, kind):
    title, plain = facts(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)))
    for answer in answers:
        (name, slots), _ = answer[kind]
        assert name == title
        assert [slot[:3] for slot in slots] == [slot[:3] for slot in plain]
        assert all("fully_shard" in slot[-1] for slot in slots)


def test_summoned_parameters_can_be_filled(answers):
    plain = facts(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)))
    for answer in answers:
        assert answer["original parameters"][1] == plain
