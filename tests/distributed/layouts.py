"""The ways in which people spread a model over processes."""

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from tests.distributed.models import layers_of


def fsdp(model, size, **options):
    return _fully_sharded(model, init_device_mesh("cpu", (size,), mesh_dim_names=("dp",)), **options)


def fsdp_dim_1(model, size):
    return fsdp(model, size, shard_placement_fn=lambda p: Shard(1 if p.ndim == 2 and p.shape[1] % size == 0 else 0))


def hsdp(model, *shape):
    return _fully_sharded(model, init_device_mesh("cpu", shape, mesh_dim_names=("replicas", "shards")))


def tp(model, size):
    return _tensor_parallel(model, init_device_mesh("cpu", (size,), mesh_dim_names=("tp",)))


def fsdp_tp(model, *shape):
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("dp", "tp"))
    return _fully_sharded(_tensor_parallel(model, mesh["tp"]), mesh["dp"])


def stage(model, index, count):
    """A pipeline stage: the others' layers are taken out, names stay."""
    layers = layers_of(model)
    own = [name for i, name in enumerate(layers) if i * count // len(layers) == index]
    for name in [name for name in layers if name not in own]:
        layers.pop(name)
    for name in (*(model.first if index else ()), *(model.last if index < count - 1 else ())):
        setattr(model, name, None)
    return model


def _fully_sharded(model, mesh, **options):
    for layer in layers_of(model).values():
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def _tensor_parallel(model, mesh):
    columns, rows = dict.fromkeys(model.columns, ColwiseParallel()), dict.fromkeys(model.rows, RowwiseParallel())
    for layer in layers_of(model).values():
        parallelize_module(layer, mesh, columns | rows)
    return model
