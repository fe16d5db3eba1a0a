"""A model restored from a file computes what the source computed: everything persistent, parametrized or not."""

import warnings

import pytest
import torch
from nets import bits, changed, rules
from refusals import refused
from torch import nn
from torch.nn.utils import parametrizations, prune

import initframe
from initframe.initializers.table import restores


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hooked(register):
    """The older hooks, without what torch says about them."""

    def wrap(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return register(layer)

    return wrap


WRAPS = {
    "plain": lambda layer: layer,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "cayley": lambda layer: parametrizations.orthogonal(layer, orthogonal_map="cayley"),
    "weight_norm hook": hooked(nn.utils.weight_norm),
    "spectral_norm hook": hooked(nn.utils.spectral_norm),
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
    "pruned bias": lambda layer: prune.l1_unstructured(layer, "bias", 0.4),
    "weight_norm of both": lambda layer: parametrizations.weight_norm(
        parametrizations.weight_norm(layer), "bias", None
    ),
}


def build(wrap, seed):
    """A small net with a batch norm, whose first layer is parametrized."""
    torch.manual_seed(seed)
    return nn.Sequential(wrap(nn.Conv2d(2, 4, 3)), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def trained(wrap, path):
    """A net after some steps, in evaluation, and its file."""
    net = build(wrap, 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        net(noise(8, 2, 4, 4, seed=step)).square().sum().backward()
        optimizer.step()
    torch.save(net.eval().state_dict(), path)
    return net


def take(path, **arguments):
    """Everything from a file, over a law for what it has not."""
    return rules(
        base={"match": "*", "init": "constant", "val": 7, "module": ["Conv2d", "BatchNorm2d", "Linear"]},
        file={"match": "*", "init": "pretrained", "path": str(path), **arguments},
    )


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_a_restored_model_computes_what_the_source_computed(tmp_path, wrap, generator):
    source = trained(WRAPS[wrap], tmp_path / "net.pt")
    net = build(WRAPS[wrap], 1).eval()
    report = initframe.reinit(
        net, take(tmp_path / "net.pt", shapes="decline"), seed=0, generator=generator, measure=True
    )
    assert not changed(net, bits(source))
    assert torch.equal(net(noise(5, 2, 4, 4)), source(noise(5, 2, 4, 4)))
    assert torch.equal(net[0].weight, source[0].weight)
    assert report.plan.unread == {}
    assert report.plan.untouched == ()


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_rule_for_the_weight_takes_what_it_is_computed_from(tmp_path, wrap):
    """A rule above loses the weight as a whole; the batch norm, which no rule means, stays."""
    source = trained(WRAPS[wrap], tmp_path / "net.pt")
    net = build(WRAPS[wrap], 1).eval()
    before = bits(net[1:])
    recipe = rules(
        {"0.*": "normal"},
        file={
            "match": ["0.weight", "0.bias"],
            "module": "Conv2d",
            "init": "pretrained",
            "path": str(tmp_path / "net.pt"),
        },
    )
    plan = initframe.resolve(recipe, net)
    initframe.apply(plan, seed=0)
    assert torch.equal(net[0](noise(5, 2, 4, 4)), source[0](noise(5, 2, 4, 4)))
    assert not changed(net[1:], before)
    assert {name.partition(".")[0] for (names,) in [plan.unread.values()] for name in names} == {"1", "3"}


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm", "orthogonal", "weight_norm hook", "pruned"])
def test_a_later_rule_for_the_whole_weight_wins_over_the_file(tmp_path, wrap):
    trained(WRAPS[wrap], tmp_path / "net.pt")
    net = build(WRAPS[wrap], 1)
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "net.pt")}
    plan = initframe.resolve(rules(file=file, weight={"match": "0.weight", "init": "normal"}), net)
    assert plan["0.weight"].rule.name == "weight"
    assert not [a for a in plan.assignments if a.slot.part_of]


def test_a_layer_that_cannot_be_inverted_is_restored(tmp_path):
    class Squared(nn.Module):
        def forward(self, x):
            return x**2

    def wrap(layer):
        nn.utils.parametrize.register_parametrization(layer, "weight", Squared())
        return layer

    source = trained(wrap, tmp_path / "net.pt")
    net = build(wrap, 1).eval()
    initframe.reinit(net, rules(file={"match": "*", "init": "pretrained", "path": str(tmp_path / "net.pt")}), seed=0)
    assert torch.equal(net(noise(5, 2, 4, 4)), source(noise(5, 2, 4, 4)))


def test_a_plain_file_goes_through_the_parametrization(tmp_path):
    source = trained(WRAPS["plain"], tmp_path / "net.pt")
    net = build(WRAPS["weight_norm"], 1).eval()
    initframe.reinit(net, take(tmp_path / "net.pt"), seed=0)
    torch.testing.assert_close(net[0].weight, source[0].weight)
    assert not changed(net[1:], bits(source[1:]))


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm", "orthogonal", "weight_norm hook", "pruned"])
@pytest.mark.parametrize("init", ["pretrained", "weight_selection"])
def test_a_weight_of_which_a_file_has_the_originals_only_is_no_silent_loss(tmp_path, wrap, init):
    trained(WRAPS[wrap], tmp_path / "net.pt")
    recipe = rules(file={"match": "*.weight", "init": init, "path": str(tmp_path / "net.pt")})
    (problem, *_) = refused(lambda: initframe.resolve(recipe, build(WRAPS["plain"], 1)))
    assert "0.weight" in problem.subject
    assert "0.weight" in problem.fact
    assert "without the parametrization" in problem.fix


def test_a_selection_through_a_parametrization_is_refused(tmp_path):
    """Elements of length and direction are not those of the weight."""
    trained(WRAPS["weight_norm"], tmp_path / "net.pt")
    net = build(WRAPS["weight_norm"], 1)
    recipe = rules(file={"match": "0.*", "init": "weight_selection", "path": str(tmp_path / "net.pt")})
    assert refused(lambda: initframe.resolve(recipe, net))


# --- everything persistent -------------------------------------------------------------------------------------------


class State(nn.Module):
    """Buffers of every kind of number, and one that no state_dict holds."""

    def __init__(self, fill=True):
        super().__init__()
        self.weight = nn.Parameter(noise(3))
        values = {
            "index": torch.arange(2**53 + 1, 2**53 + 4),
            "small": torch.tensor([3], dtype=torch.int8),
            "mask": torch.tensor([True, False]),
            "phases": torch.complex(noise(3), noise(3, seed=1)),
            "wide": noise(3).double(),
            "narrow": noise(3).half(),
            "coarse": noise(4).to(torch.float8_e4m3fn),
            "count": torch.tensor(5),
        }
        for name, value in values.items():
            self.register_buffer(name, value if fill else torch.zeros_like(value))
        self.register_buffer("cache", torch.full((2,), float(fill)), persistent=False)


@pytest.mark.parametrize("init", ["pretrained", "weight_selection"])
def test_buffers_of_every_dtype_are_exact(tmp_path, init):
    torch.save(State().state_dict(), tmp_path / "state.pt")
    net = State(fill=False)
    recipe = rules(file={"match": "*", "init": init, "path": str(tmp_path / "state.pt")})
    report = initframe.reinit(net, recipe, seed=0, measure=True)
    assert not changed(net, bits(State()))
    assert net.cache.tolist() == [0, 0]
    assert report.plan.declined == {}
    assert all(result.after for result in report.results)


def test_a_rule_that_says_its_kind_takes_that_kind(tmp_path):
    torch.save(nn.BatchNorm1d(3).state_dict(), tmp_path / "norm.pt")
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "norm.pt")}
    kinds = {
        kind: initframe.resolve(rules(file={**file, "kind": kind}), nn.BatchNorm1d(3))
        for kind in ("parameter", "buffer")
    }
    assert [a.slot.name for a in kinds["parameter"].assignments] == ["weight", "bias"]
    assert [a.slot.name for a in kinds["buffer"].assignments] == ["running_mean", "running_var", "num_batches_tracked"]
    loaded = initframe.load_recipe(kinds["parameter"].recipe.to_dict())
    assert initframe.resolve(loaded, nn.BatchNorm1d(3)) == kinds["parameter"]


def test_other_rules_mean_parameters():
    plan = initframe.resolve(rules({"*": "ones"}), nn.BatchNorm1d(3))
    assert [a.slot.name for a in plan.assignments] == ["weight", "bias"]
    assert not restores("ones")


def test_whole_numbers_of_another_kind_are_refused(tmp_path):
    torch.save({**State().state_dict(), "index": noise(3), "small": torch.tensor([300])}, tmp_path / "state.pt")
    recipe = rules(file={"match": "*", "init": "pretrained", "path": str(tmp_path / "state.pt")})
    problems = refused(lambda: initframe.resolve(recipe, State()))
    assert {problem.subject.rpartition(": ")[2] for problem in problems} == {"index", "small"}


def test_what_is_left_over_is_listed_on_both_sides(tmp_path):
    source = {**build(WRAPS["plain"], 0).state_dict(), "extra.weight": noise(2), "3.weight": noise(5, 16)}
    del source["1.running_var"]
    path = str(tmp_path / "net.pt")
    torch.save(source, path)
    plan = initframe.resolve(take(path, shapes="decline"), build(WRAPS["plain"], 1))
    assert plan.unread == {path: ("3.weight", "extra.weight")}
    assert plan.declined == {"file": ("1.running_var", "3.weight")}
    words = str(plan).split()
    assert {"extra.weight", "1.running_var,"} <= set(words)
    assert plan.to_dict()["unread"] == {path: ["3.weight", "extra.weight"]}


# --- ties, entries, names --------------------------------------------------------------------------------------------


def tied():
    net = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    net["head"].weight = net["embed"].weight
    return net


def test_a_tied_tensor_of_which_a_file_has_two_values_is_refused(tmp_path):
    path = str(tmp_path / "net.pt")
    table = noise(5, 3)
    recipe = rules(file={"match": "*", "init": "pretrained", "path": path})
    torch.save({"embed.weight": table, "head.weight": table.clone()}, path)
    net = tied()
    assert initframe.reinit(net, recipe).plan.unread == {}
    assert torch.equal(net["head"].weight, table)
    torch.save({"embed.weight": table, "head.weight": table + 1}, path)
    plan = initframe.resolve(recipe, net)
    (problem,) = refused(lambda: initframe.apply(plan))
    assert "embed.weight" in problem.fact
    assert "head.weight" in problem.fact
    assert torch.equal(net["head"].weight, table)


def test_a_part_of_a_training_file_is_chosen_by_entry(tmp_path):
    path = str(tmp_path / "training.pt")
    weights, averages = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save({"state_dict": weights.state_dict(), "state_dict_ema": averages.state_dict()}, path)
    file = {"match": "*", "init": "pretrained", "path": path}
    usual = initframe.resolve(rules(file=file), nn.Linear(2, 2))
    assert any("state_dict_ema" in warning for warning in usual.warnings)
    net = nn.Linear(2, 2)
    chosen = initframe.reinit(net, rules(file={**file, "entry": "state_dict_ema"})).plan
    assert torch.equal(net.weight, averages.weight)
    assert chosen.warnings == ()
    assert chosen["weight"].fill.to_dict()["entry"] == "state_dict_ema"
    (problem,) = refused(lambda: initframe.resolve(rules(file={**file, "entry": "ema"}), net))
    assert "state_dict_ema" in problem.options


def test_names_of_old_versions_are_found(tmp_path):
    norm = nn.LayerNorm(3)
    torch.save({"gamma": noise(3), "beta": noise(3, seed=1)}, tmp_path / "norm.pt")
    initframe.reinit(norm, rules(file={"match": "*", "init": "pretrained", "path": str(tmp_path / "norm.pt")}))
    assert torch.equal(norm.weight, noise(3))
    assert torch.equal(norm.bias, noise(3, seed=1))


@pytest.mark.parametrize(("old", "new"), [("weight_norm hook", "weight_norm"), ("weight_norm", "weight_norm hook")])
def test_a_hook_reads_what_a_parametrization_wrote_and_the_reverse(tmp_path, old, new):
    source = trained(WRAPS[old], tmp_path / "net.pt")
    net = build(WRAPS[new], 1).eval()
    plan = initframe.reinit(net, take(tmp_path / "net.pt")).plan
    assert torch.equal(net(noise(5, 2, 4, 4)), source(noise(5, 2, 4, 4)))
    assert plan.unread == {}


@pytest.mark.parametrize(
    "keys",
    [
        {"*": "model.*"},
        {"": "model."},
        {"0.": "model.0.", "2.": "model.2."},
        {"*.weight": "model.*.weight", "*.bias": "model.*.bias"},
        {"0.*": "model.0.*", "*": "model.*"},
        {"{i}.weight": "model.{i}.weight", "*.bias": "model.*.bias"},
    ],
)
def test_keys_rename_by_beginning_and_by_pattern(tmp_path, keys):
    source, net = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(2))
    torch.save({f"model.{name}": value for name, value in source.state_dict().items()}, tmp_path / "net.pt")
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "net.pt"), "keys": keys}
    initframe.reinit(net, rules(file=file))
    assert not changed(net, bits(source))


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"": "model.", "head.": "model.fc."}, "head."),
        ({"*": "model.*", "*.wieght": "model.*.weight"}, "*.wieght"),
        ({"": "model.", "2.weight": "modl.2.weight"}, "2.weight"),
        ({"*.weight": "model.*.weight", "2.*": "model.3.*"}, "2.*"),
    ],
)
@pytest.mark.parametrize("unused", ["error", "warn"])
def test_every_key_must_fit(tmp_path, keys, wrong, unused):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    torch.save({f"model.{name}": value for name, value in net.state_dict().items()}, tmp_path / "net.pt")
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "net.pt"), "keys": keys}
    if unused == "error":
        (problem,) = refused(lambda: initframe.resolve(rules(file=file), net))
        assert problem.subject.endswith(f"keys {wrong!r}")
    else:
        assert any(wrong in warning for warning in initframe.resolve(rules(file=file, unused="warn"), net).warnings)


def test_keys_that_are_no_pair(tmp_path):
    torch.save({"weight": noise(2, 2), "bias": noise(2)}, tmp_path / "net.pt")
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "net.pt"), "keys": {"w*": "*.*"}}
    (problem,) = refused(lambda: initframe.resolve(rules(file=file), nn.Linear(2, 2)))
    assert "'*.*'" in problem.fact


# --- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d, nn.Conv1d])
def test_a_first_convolution_for_other_channels_is_as_timm_has_it(tmp_path, count, kind):
    torch.manual_seed(0)
    colors, net = kind(3, 8, 3), kind(count, 8, 3)
    torch.save(colors.state_dict(), tmp_path / "conv.pt")
    how = "sum" if count == 1 else "repeat"
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "conv.pt"), "channels": how}
    initframe.reinit(net, rules(file=file))
    weight = colors.weight.detach()
    repeated = torch.cat([weight] * 3, 1)[:, :count] * (3 / count)
    wanted = weight.sum(1, keepdim=True) if count == 1 else repeated
    assert torch.equal(net.weight, wanted)
    assert torch.equal(net.bias, colors.bias)
    if kind is nn.Conv2d:
        manipulate = pytest.importorskip("timm.models._manipulate")
        assert torch.equal(net.weight, manipulate.adapt_input_conv(count, weight.clone()))


@pytest.mark.parametrize(("count", "how", "meant"), [(1, "repeat", "sum"), (4, "sum", "repeat")])
def test_the_other_word_is_advised(tmp_path, count, how, meant):
    torch.save(nn.Conv2d(3, 8, 3).state_dict(), tmp_path / "conv.pt")
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "conv.pt"), "channels": how}
    (problem,) = refused(lambda: initframe.resolve(rules(file=file), nn.Conv2d(count, 8, 3)))
    assert problem.fix == f"Set channels: {meant}."


def test_channels_change_nothing_else(tmp_path):
    source = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    torch.save(source.state_dict(), tmp_path / "net.pt")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3))
    file = {"match": "*", "init": "pretrained", "path": str(tmp_path / "net.pt"), "channels": "repeat"}
    assert refused(lambda: initframe.resolve(rules(file=file), net))
    initframe.reinit(net, rules(file={**file, "shapes": "decline"}))
    assert not changed(net[0], bits(source[0]))
