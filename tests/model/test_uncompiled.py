"""What reads or writes a model runs outside of the graphs of torch.compile, with the same numbers, and in silence."""

import subprocess
import sys
import warnings

import pytest
import torch
from nets import bits, changed, rules
from torch import nn

import initframe

pytestmark = pytest.mark.filterwarnings("ignore")
NORMAL = initframe.Normal(0.0, 1.0)
RECIPE = rules({"*.weight": "xavier_normal", "*.bias": "zeros"})


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


CALLS = {
    "reinit": lambda model: initframe.reinit(model, RECIPE, seed=1),
    "apply": lambda model: initframe.apply(initframe.resolve(RECIPE, model), seed=1),
    "fill_": lambda model: initframe.fill_(model[0].weight, NORMAL, name="w", seed=1),
    "materialize": lambda model: initframe.materialize(model, RECIPE, seed=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_inside_of_a_compiled_function(call):
    torch._dynamo.reset()
    plain, model = net(), net()
    model.load_state_dict(plain.state_dict())
    CALLS[call](plain)

    @torch.compile(backend="eager")
    def step(x):
        before = model(x)
        CALLS[call](model)
        return before, model(x)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, after = step(torch.ones(1, 4))
    assert not [warning for warning in told if "initframe" in str(warning.message)]
    assert changed(model, bits(plain)) == set()
    assert torch.equal(after, plain(torch.ones(1, 4)))


@pytest.mark.slow
def test_dynamo_is_not_imported_for_it():
    code = "import sys, initframe, torch; initframe.reinit(torch.nn.Linear(2, 2), {'rules': {'*': 'zeros'}});"
    code += "print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
