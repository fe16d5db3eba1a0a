"""Every model that torchvision lists: classification, detection, segmentation, video, quantizable."""

from contextlib import contextmanager
from functools import partial
from unittest import mock

import pytest
import torch
from torchvision import models
from torchvision.models.regnet import BlockParams

from zoo.soundness import assert_sound, on_meta

pytestmark = pytest.mark.slow

# Constructors that would load weights for a part, or draw slowly, unless told not to.
ARGUMENTS = {
    "weights_backbone": (None, ("rcnn", "fcos", "ssd", "retinanet", "deeplab", "fcn", "lraspp")),
    "init_weights": (False, ("googlenet", "inception")),
}


def arguments(name):
    return {key: value for key, (value, words) in ARGUMENTS.items() if any(word in name for word in words)}


@contextmanager
def values_where_needed():
    """RegNets compute their sizes with tensors, whose values they read: these stay on the CPU."""
    compute = BlockParams.from_init_params

    def on_cpu(cls, *args, **kwargs):
        with torch.device("cpu"):
            return compute(*args, **kwargs)

    with mock.patch.object(BlockParams, "from_init_params", classmethod(on_cpu)):
        yield


@pytest.mark.parametrize("name", models.list_models())
def test_torchvision(name):
    with values_where_needed():
        model = on_meta(partial(models.get_model, name, weights=None, **arguments(name)))
    seen = assert_sound(model)
    assert all(slot.blocked is None for slot in seen.slots if slot.kind == "parameter")
