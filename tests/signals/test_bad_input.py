"""What cannot be measured or predicted: a problem with a fix, and everything is as before."""

import logging

import pytest
import torch
from torch import nn

import initframe
from tests.refusals import refused


def predicted(model, batch):
    recipe = {"rules": {"*": {"init": "normal", "std": 0.1}}}
    return initframe.predict(initframe.resolve(recipe, model), batch)


BOTH = pytest.mark.parametrize("call", [initframe.propagate, predicted], ids=["propagate", "predict"])


def untouched(call, model, batch):
    """The problems of a refused call, which must leave the model and the random numbers as they were."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    problems = refused(call, model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items() if name in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(problem.fact and problem.fix for problem in problems)
    return problems


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, left, right):
        return self.layer(left) + right


@BOTH
def test_a_batch_of_another_shape_names_the_module_and_the_batch(call):
    (problem,) = untouched(call, nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(5, 2)), torch.randn(3, 4))
    assert "'2'" in problem.fact
    assert "3×4" in problem.fix


def test_what_torch_logs_of_shapes_that_do_not_fit_is_not_logged():
    logger, records = logging.getLogger("torch._subclasses.fake_tensor"), []
    handler = logging.Handler()
    handler.emit = records.append
    level = logger.level
    logger.addHandler(handler)
    try:
        untouched(predicted, nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2)), torch.randn(3, 4))
    finally:
        logger.removeHandler(handler)
    assert not records
    assert logger.level == level


@BOTH
def test_a_missing_input_is_named(call):
    (problem,) = untouched(call, Pair(), torch.randn(3, 4))
    assert "right" in problem.fact


@BOTH
def test_layers_that_are_never_reached_are_told(call):
    signal = call(Pair(), (torch.randn(3, 4), torch.randn(3, 4)))
    assert not any(row.name == "unused" for row in signal.rows)
    assert any("unused" in note for note in signal.notes)


@BOTH
def test_a_layer_whose_weight_is_used_without_it_is_reached(call):
    class Borrowed(Pair):
        def forward(self, left, right):
            return nn.functional.linear(self.layer(left), self.unused.weight) + right

    assert not any("unused" in note for note in call(Borrowed(), (torch.randn(3, 4), torch.randn(3, 4))).notes)


@BOTH
def test_memory_that_does_not_suffice_has_a_fix_of_its_own(call):
    class Large(nn.Linear):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")

    (problem,) = untouched(call, nn.Sequential(nn.Linear(4, 4), Large(4, 4)), torch.randn(3, 4))
    assert "predict" in problem.fix


def test_a_scripted_part_is_named():
    with pytest.warns(FutureWarning, match="deprecated"):
        part = torch.jit.script(nn.Linear(4, 4))
    (problem,) = refused(initframe.propagate, nn.Sequential(nn.Linear(4, 4), part), torch.randn(3, 4))
    assert "'1'" in problem.subject


def test_a_quantized_part_is_named():
    from torch.ao.nn.quantized import Quantize

    (problem,) = untouched(
        initframe.propagate, nn.Sequential(nn.Linear(4, 4), Quantize(0.1, 0, torch.quint8)), torch.randn(3, 4)
    )
    assert "'1'" in problem.subject
    assert "quantized" in problem.fact


def test_data_dependent_control_flow_is_refused_by_predict_alone():
    class Deciding(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    model = nn.Sequential(Deciding(4, 4))
    (problem,) = untouched(predicted, model, torch.randn(3, 4))
    assert "propagate" in problem.fix
    assert initframe.propagate(model, torch.randn(3, 4)).rows


@BOTH
def test_attention_uses_its_output_layer_without_calling_it(call):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert not any("Never called" in note for note in call(layer, torch.randn(2, 3, 8)).notes)


@BOTH
def test_a_batch_of_what_is_no_number_is_refused(call):
    batch = torch.ones(3, 4)
    batch[1, 2] = torch.nan
    (problem,) = untouched(call, nn.Sequential(nn.Linear(4, 4)), {"input": batch})
    assert problem.subject == "batch"


@pytest.mark.parametrize("call", [initframe.propagate, lambda m, x: initframe.calibrate(m, "kaiming_relu", x)])
def test_a_model_without_values_is_not_measured(call):
    (problem,) = refused(call, nn.Sequential(nn.Linear(4, 4, device="meta")), torch.ones(2, 4))
    assert problem.subject == "tensor '0.weight'"
    assert "predict" in problem.fix
