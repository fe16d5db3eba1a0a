"""Batches from a model's own specification."""

import pytest
from torch import nn

from initframe.signal.inputs import example
from tests.refusals import refused


def flattening(side, channels=1):
    """A net whose first linear layer fits images of one side."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * (side // 4) ** 2, 10),
    )


@pytest.mark.parametrize("side", [224, 32, 28, 64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_images_have_a_side_that_the_model_takes(side, device):
    model = flattening(side).to(device)
    batch, words = example(model, device=device)
    assert batch.shape == (4, 1, side, side)
    assert f"1×{side}×{side}" in words
    assert model(batch).shape == (4, 10)


def test_finding_the_side_leaves_the_model_as_it_was():
    model = flattening(28)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example(model)
    assert model.training
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_a_model_that_takes_no_usual_side_is_told_what_it_takes():
    (problem,) = refused(example, flattening(200, channels=5))
    assert "20000 features" in problem.fact
    assert "5" in problem.fix
    assert "224" in problem.options


def test_videos():
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))
    batch, words = example(model, size=1, device="meta")
    assert batch.shape == (1, 3, 16, 224, 224)
    assert "videos" in words
