"""Names of older versions, checked against torch: what it once wrote, it reads."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from initframe.files.older_names import other_names

PAIRS = [(weight_norm, parametrizations.weight_norm), (spectral_norm, parametrizations.spectral_norm)]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize(("hooked", "registered"), PAIRS, ids=["weight_norm", "spectral_norm"])
def test_hooks_and_parametrizations_are_each_others_older_names(hooked, registered):
    old, new = (nn.Sequential(wrap(nn.Linear(3, 2))) for wrap in (hooked, registered))
    for one, other in ((old, new), (new, old)):
        for name, tensor in one.state_dict().items():
            names = [name, *other_names(name)]
            assert any(
                found in other.state_dict() and other.state_dict()[found].shape == tensor.shape for found in names
            )


def test_names_that_were_never_others():
    assert not list(other_names("running_mean"))
    assert "gamma" in other_names("weight")
    assert torch.nn.LayerNorm(3).state_dict().keys() == {"weight", "bias"}
