"""generator="torch": what a hand-written loop of torch.nn.init over the state_dict draws, bit for bit."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import bits, changed, convnet, rules
from refusals import refused
from torch import nn

import initframe
from initframe.applying import torch_init
from initframe.errors import ResolveError
from initframe.fills import Sampler, Whole
from initframe.initializers import initializer

init = nn.init

# Initializer, arguments, the same in torch, and how many dimensions it takes.
LOOPS = {
    "uniform": ({"a": -1, "b": 2}, lambda t: init.uniform_(t, -1, 2), range(1, 6)),
    "normal": ({"mean": 1, "std": 0.02}, lambda t: init.normal_(t, 1, 0.02), range(1, 6)),
    "trunc_normal": (
        {"std": 0.02, "a": -0.04, "b": 0.04},
        lambda t: init.trunc_normal_(t, 0, 0.02, -0.04, 0.04),
        range(1, 6),
    ),
    "constant": ({"val": 0.1}, lambda t: init.constant_(t, 0.1), range(1, 6)),
    "ones": ({}, init.ones_, range(1, 6)),
    "zeros": ({}, init.zeros_, range(1, 6)),
    "eye": ({}, init.eye_, [2]),
    "dirac": ({"groups": 2}, lambda t: init.dirac_(t, 2), [3, 4, 5]),
    "xavier_uniform": ({"gain": "relu"}, lambda t: init.xavier_uniform_(t, init.calculate_gain("relu")), range(2, 6)),
    "xavier_normal": ({"gain": "5 / 3"}, lambda t: init.xavier_normal_(t, init.calculate_gain("tanh")), range(2, 6)),
    "kaiming_uniform": ({"a": 0.2}, lambda t: init.kaiming_uniform_(t, 0.2), range(2, 6)),
    "kaiming_uniform fan_out": ({"mode": "fan_out"}, lambda t: init.kaiming_uniform_(t, mode="fan_out"), range(2, 6)),
    "kaiming_normal": ({"nonlinearity": "relu"}, lambda t: init.kaiming_normal_(t, nonlinearity="relu"), range(2, 6)),
    "kaiming_normal fan_out": (
        {"mode": "fan_out", "nonlinearity": "selu"},
        lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="selu"),
        range(2, 6),
    ),
    "orthogonal": ({"gain": 2}, lambda t: init.orthogonal_(t, 2), range(2, 6)),
    "sparse": ({"sparsity": 0.3}, lambda t: init.sparse_(t, 0.3), [2]),
    "sparse wide": ({"sparsity": 0.9, "std": 3}, lambda t: init.sparse_(t, 0.9, 3), [2]),
}
SHAPES = [(17,), (6, 33), (33, 6), (4, 3, 5), (4, 6, 3, 3), (2, 4, 2, 3, 2), (130, 70)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CASES = [(name, dtype) for name in LOOPS for dtype in (DTYPES[:2] if name == "orthogonal" else DTYPES)]  # QR's dtypes


def loop(tensors, function, seed):
    """What people write by hand."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors.values():
            function(tensor)
    return tensors


def blank(dims, dtype=torch.float32):
    return {f"t{i}.weight": torch.full(s, 7, dtype=dtype) for i, s in enumerate(SHAPES) if len(s) in dims}


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_a_loop_over_the_state_dict(name, dtype):
    arguments, function, dims = LOOPS[name]
    state = blank(dims, dtype)
    initframe.reinit(state, rules({"*": {"init": name.split()[0], **arguments}}), seed=3, generator="torch")
    assert changed(state, loop(blank(dims, dtype), function, 3)) == set()


@given(st.integers(0, 2**64 - 1), st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=4))
def test_any_seed_and_any_shapes(seed, shapes):
    state = {f"t{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    initframe.reinit(state, rules({"*": "kaiming_normal"}), seed=seed, generator="torch")
    expected = loop({name: torch.zeros(t.shape) for name, t in state.items()}, init.kaiming_normal_, seed)
    assert changed(state, expected) == set()


def test_a_live_model_with_several_rules():
    model, twin = convnet(), convnet()
    twin.load_state_dict(model.state_dict())
    recipe = rules(
        {"weights": {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform"}, "*.bias": "normal"}
    )
    initframe.reinit(model, recipe, seed=5, generator="torch")
    torch.manual_seed(5)
    with torch.no_grad():
        for name, tensor in twin.named_parameters():
            if name.endswith("weight") and tensor.ndim > 1:
                init.xavier_uniform_(tensor)
            elif name.endswith("bias"):
                init.normal_(tensor)
    assert changed(model, twin.state_dict()) == set()


@pytest.mark.parametrize(
    "memory",
    [
        lambda: torch.zeros(8, 6, 3, 3).to(memory_format=torch.channels_last),
        lambda: torch.zeros(30, 20).t(),
        lambda: torch.zeros(30, 20)[::2, 3:],
    ],
    ids=["channels_last", "transposed", "strided"],
)
def test_layouts_draw_as_torch_draws_them(memory):
    state = {"w": memory()}
    initframe.reinit(state, rules(w="normal"), seed=1, generator="torch")
    assert changed(state, loop({"w": memory()}, init.normal_, 1)) == set()


def test_layouts_that_torch_cannot_view_are_orthogonal_too():
    tensor = torch.zeros(8, 6, 3, 3).to(memory_format=torch.channels_last)
    initframe.reinit({"w": tensor}, rules(w="orthogonal"), seed=1, generator="torch")
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(tensor, loop({"w": torch.zeros(8, 6, 3, 3)}, init.orthogonal_, 1)["w"])


def test_blocks_are_drawn_one_after_the_other():
    state = {"qkv": torch.zeros(12, 5)}
    initframe.reinit(state, rules(qkv={"init": "xavier_uniform", "split": 3}), seed=1, generator="torch")
    torch.manual_seed(1)
    expected = torch.cat([init.xavier_uniform_(torch.zeros(4, 5)) for _ in range(3)])
    assert torch.equal(state["qkv"], expected)


def test_padding_rows_are_as_torch_leaves_them():
    model = nn.Embedding(9, 4, padding_idx=2)
    report = initframe.reinit(model, rules(weight="normal"), seed=1, generator="torch")
    assert changed(model, loop({"weight": torch.zeros(9, 4)}, init.normal_, 1)) == set()
    assert report.results[0].assignment.fill == initframe.Normal(0, 1)
    assert initframe.manifest(report)["others"][0]["fill"]["kind"] == "normal"


class Tied(nn.Module):
    """A tensor that stands at two places in the state_dict."""

    def __init__(self):
        super().__init__()
        self.emb, self.mid = nn.Embedding(5, 4), nn.Linear(4, 4)
        self.head, self.last = nn.Linear(4, 5, bias=False), nn.Linear(5, 2)
        self.head.weight = self.emb.weight


def test_a_tied_tensor_is_drawn_as_often_as_a_loop_over_the_state_dict_meets_it():
    model, twin = Tied(), Tied()
    initframe.reinit(model, rules({"*": "normal"}), seed=3, generator="torch")
    loop(twin.state_dict(), init.normal_, 3)
    assert changed(model, bits(twin)) == set()


@pytest.mark.parametrize("name", ["emb.weight", "head.weight"])
def test_a_tied_tensor_is_drawn_for_the_names_that_a_rule_means(name):
    model, twin = Tied(), Tied()
    initframe.reinit(model, rules({"m*": "normal", name: "normal", "la*": "normal"}), seed=3, generator="torch")
    state = twin.state_dict()
    loop({key: state[key] for key in state if key[0] in "ml" or key == name}, init.normal_, 3)
    assert changed(model, bits(twin)) == set()


def test_what_starts_from_the_values_of_a_tied_tensor_is_done_once():
    model = Tied()
    before = model.emb.weight.detach().clone()
    initframe.reinit(model, rules({"*": {"init": "shift", "by": 1}}), generator="torch")
    assert torch.equal(model.emb.weight, before + 1)


def test_a_row_that_a_law_of_ones_own_sets_is_set(table):
    @initializer("holey")
    def holey(slot):
        return initframe.Masked(initframe.Normal(0, 1), slot.shape, (0,), 5.0)

    state = {"w": torch.zeros(3, 3)}
    initframe.reinit(state, rules(w="holey"), seed=1, generator="torch")
    assert state["w"][0].tolist() == [5, 5, 5]
    assert state["w"][1:].ne(5).all()


def test_one_element_is_set_and_the_others_kept():
    state = {"w": torch.ones(3, 3)}
    initframe.reinit(state, rules(w={"init": "constant", "val": 42, "index": [1, -1]}), generator="torch")
    assert state["w"].tolist() == [[1, 1, 1], [1, 1, 42], [1, 1, 1]]


def test_on_current_values_torch_draws_the_noise():
    state = {"w": torch.full((50,), 2.0), "v": torch.full((50,), 2.0)}
    recipe = rules(w={"init": "shrink_perturb", "shrink": 0.5, "std": 0.1}, v={"init": "shift", "by": 1})
    initframe.reinit(state, recipe, seed=1, generator="torch")
    torch.manual_seed(1)
    assert torch.equal(state["w"], 2 * 0.5 + torch.randn(50) * 0.1)
    assert torch.equal(state["v"], torch.full((50,), 3.0))


def test_a_law_of_ones_own_never_sees_zero(table, monkeypatch):
    @initializer("exponential")
    def exponential(slot):
        return initframe.Elementwise(lambda u: -torch.log(u), 1.0, 1.0)

    monkeypatch.setattr(torch, "rand", lambda shape, device: torch.zeros(shape, device=device))
    state = {"w": torch.zeros(4)}
    initframe.reinit(state, rules(w="exponential"), generator="torch")
    assert state["w"].isfinite().all()


# --- the global generator --------------------------------------------------------------------------------------------


def test_with_a_seed_the_global_generator_is_left_as_found():
    model = convnet()
    there = torch.get_rng_state()
    initframe.reinit(model, rules({"*": "normal"}), seed=3, generator="torch")
    assert torch.equal(torch.get_rng_state(), there)


def test_without_a_seed_the_global_generator_goes_on():
    torch.manual_seed(11)
    torch.rand(3)
    state = {"a": torch.zeros(40), "b": torch.zeros(5, 5)}
    report = initframe.reinit(state, rules({"*": "normal"}), generator="torch")
    there = torch.get_rng_state()
    torch.manual_seed(11)
    torch.rand(3)
    expected = {name: init.normal_(torch.zeros(t.shape)) for name, t in state.items()}
    assert changed(state, expected) == set()
    assert torch.equal(torch.get_rng_state(), there)
    assert report.seed is None


def test_the_stream_does_not_touch_the_global_generator():
    model = nn.Sequential(convnet(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    there = torch.get_rng_state()
    initframe.reinit(model, rules({"*": "normal"}), seed=3)
    assert torch.equal(torch.get_rng_state(), there)


def test_the_global_generator_is_put_back_after_an_error():
    state = {"w": torch.zeros(3)}
    there = torch.get_rng_state()

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        initframe.reinit(state, rules(w="normal"), seed=3, generator="torch", on_progress=stop)
    assert torch.equal(torch.get_rng_state(), there)


# --- what torch.nn.init has not --------------------------------------------------------------------------------------


class Antidiagonal(Whole):
    mean = std = 0.0

    def build(self, draw: Sampler):
        return torch.eye(self.shape[0]).flip(0)


def test_what_torch_has_not_is_refused_before_the_first_write(table):
    @initializer("antidiagonal")
    def antidiagonal(slot):
        return Antidiagonal(slot.shape)

    state = {"a": torch.zeros(3), "b": torch.zeros(3, 3), "c": torch.zeros(3, 3, dtype=torch.bfloat16)}
    before = bits(state)
    recipe = rules(a="ones", b="antidiagonal", c="orthogonal")
    unknown, narrow = map(str, refused(initframe.reinit, state, recipe, seed=0, generator="torch", kind=ResolveError))
    assert all(fact in unknown for fact in ("rule 'b' on b [3, 3]", "antidiagonal", "generator: stream"))
    assert all(fact in narrow for fact in ("rule 'c' on c [3, 3]", "orthogonal_", "torch.bfloat16"))
    assert changed(state, before) == set()
    initframe.reinit(copy.copy(state), recipe, seed=0)
    assert state["b"].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


# --- functions that a library replaced -------------------------------------------------------------------------------


@pytest.fixture
def patched(monkeypatch):
    """torch.nn.init as libraries leave it while they load a model: nothing is drawn."""
    for name in nn.init.__all__:
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **options: tensor)


FILLS = {
    "normal": {},
    "uniform": {},
    "trunc_normal": {"std": 0.02},
    "constant": {"val": 3},
    "orthogonal": {},
    "eye": {},
    "sparse": {"sparsity": 0.5},
    "mamba_dt_bias": {},
    "shrink_perturb": {},
}


@pytest.mark.parametrize("init", FILLS)
def test_the_numbers_are_torchs_own_whatever_torch_nn_init_is_now(init, request):
    states = [{"w": torch.ones(6, 6)} for _ in range(2)]
    recipe = rules(w={"init": init, **FILLS[init]})
    initframe.reinit(states[0], recipe, seed=3, generator="torch")
    request.getfixturevalue("patched")
    initframe.reinit(states[1], recipe, seed=3, generator="torch")
    assert changed(states[1], states[0]) == set()
    assert not states[1]["w"].eq(1).all()


@pytest.mark.usefixtures("patched")
def test_a_weight_normed_layer_is_drawn_under_patched_functions():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    initframe.reinit(layer, rules(weight={"init": "normal", "std": 0.02}), seed=0, generator="torch")
    torch.manual_seed(0)
    torch.testing.assert_close(layer.weight.detach(), torch.randn(2, 3) * 0.02)


def test_functions_that_were_replaced_before_are_refused(monkeypatch):
    """What was replaced when initframe was imported cannot be had back."""
    monkeypatch.setitem(torch_init._INIT, "normal_", lambda tensor, *args, **options: tensor)
    state = {"w": torch.zeros(3), "b": torch.zeros(3)}
    (problem,) = refused(initframe.reinit, state, rules(b="ones", w="normal"), seed=0, generator="torch")
    assert "normal_" in problem.fact
    assert state["b"].tolist() == [0, 0, 0]
    initframe.reinit(state, rules(b="ones"), seed=0, generator="torch")
