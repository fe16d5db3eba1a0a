"""Comparisons and signals as data, text, tables and figures."""

import json
import math

import pytest
import torch
from torch import nn

from initframe.pages.curves import measured_lines
from initframe.signal.compare import compare
from initframe.signal.inputs import example
from initframe.signal.propagate import propagate
from initframe.signal.row import Row
from initframe.signal.signal import Signal
from initframe.signal.verdicts import judge
from tests.refusals import refused


def build():
    return nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(16, 16), nn.Tanh())])


@pytest.fixture
def comparison():
    batch = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    recipes = {
        "small": {"rules": {"*.weight": {"init": "normal", "std": 0.01}}},
        "xavier": {"rules": {"*.weight": "xavier_normal"}},
    }
    return compare(build, recipes, batch, seeds=(0, 1), loss=lambda out: out.square().mean())


def test_each_recipe_has_its_signal(comparison):
    assert list(comparison.signals) == ["small", "xavier"]
    assert comparison.signals["small"]["0"].rms < comparison.signals["xavier"]["0"].rms
    assert "shrink" in comparison.verdict("small")


def test_the_mean_square_is_averaged():
    batch = torch.randn(6, 16)
    recipe = {"rules": {"*.weight": "xavier_normal", "*.bias": "zeros"}}
    several = compare(build, [recipe], batch, seeds=(3, 4)).signals["recipe"]
    single = [compare(build, [recipe], batch, seeds=(seed,)).signals["recipe"] for seed in (3, 4)]
    assert several[""].rms ** 2 == pytest.approx(sum(one[""].rms ** 2 for one in single) / 2)


def test_data_is_json(comparison):
    data = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert [one["recipe"] for one in data["recipes"]] == ["small", "xavier"]
    assert {"name", "call", "op", "shape", "mean", "rms", "correlation", "zeros", "grad_rms"} <= data["recipes"][0][
        "rows"
    ][0].keys()


def test_text_and_tables(comparison):
    assert all(name in str(comparison) for name in comparison.signals)
    assert len(comparison.to_frame()) == 2 * len(comparison.signals["small"].rows)
    assert "<table>" in comparison._repr_html_()
    assert len(repr(comparison)) < 200


def test_predicted_recipes_need_no_memory():
    found = compare(build, ["xavier_uniform", "torch_default"], torch.empty(4, 16, device="meta"), predicted=True)
    assert all(signal.source == "predicted" for signal in found.signals.values())


def test_equal_names_are_told_apart():
    rule = {"rules": {"*.weight": "zeros"}}
    assert list(compare(build, [rule, rule], torch.randn(2, 16)).signals) == ["recipe", "recipe 2"]


@pytest.mark.parametrize("options", [{"recipes": []}, {"recipes": ["xavier_uniform"], "seeds": ()}])
def test_nothing_to_compare(options):
    assert refused(compare, build, batch=torch.randn(2, 16), **options)


def test_figures(comparison):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = comparison.plot()
    shown = list(measured_lines({one["recipe"]: one for one in comparison.to_dict()["recipes"]}))
    assert [axis.get_title(loc="left") for axis in axes] == [measure.title for measure, _ in shown]
    for axis, (_, lines) in zip(axes, shown, strict=True):  # what the page draws
        assert [tuple(line.get_ydata()) for line in axis.lines] == [line.y for line in lines]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == list(comparison.signals)
    _, own = plt.subplots()
    assert comparison.signals["small"].plot(own)[0] is own
    plt.close("all")


def rows(*sizes, op="Linear", **facts):
    return [Row(f"layer{i}", 0, op, (8, 4), 0.0, size, depth=i + 1, **facts) for i, size in enumerate(sizes)]


def test_seeds_whose_values_are_not_finite_are_averaged(monkeypatch):
    """The mean of +∞ and −∞ is no error."""
    means = iter([math.inf, -math.inf])

    def pretended(*_args, **_options):
        return Signal("Net", "measured", (Row("0", 0, "Linear", (2, 2), next(means), math.inf, depth=1),))

    monkeypatch.setattr("initframe.signal.compare.propagate", pretended)
    found = compare(lambda: nn.Sequential(nn.Linear(2, 2)), {"x": "xavier_normal"}, torch.ones(2, 2), seeds=(0, 1))
    (row,) = found.signals["x"].rows
    assert math.isnan(row.mean)
    assert row.rms == math.inf
    assert "not finite" in found.verdict("x")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (rows(1.0, 0.1, 0.001), "activations"),
        (rows(1.0, 10.0, 1000.0), "activations"),
        (rows(1.0, math.inf, 1.0), "nonfinite"),
        ([*rows(1.0, 1.0, 1.0), Row("", 0, "Net", (8, 1000), 0.0, 12.0)], "logits"),
    ],
)
def test_verdicts(given, kind):
    finding = next(one for one in judge(given) if one.bad)
    assert finding.kind == kind
    assert finding.fix


def test_gradients_and_correlation_are_judged():
    grown = [
        Row(f"l{i}", 0, "Linear", (8, 4), 0.0, 1.0, depth=i + 1, grad_rms=10.0 ** (2 - i), correlation=c)
        for i, c in enumerate((0.1, 0.995, 0.999))
    ]
    assert [one.kind for one in judge(grown) if one.bad] == ["gradients", "correlation"]


def test_a_healthy_signal_passes():
    signal = Signal("Net", "measured", tuple(rows(1.0, 0.9, 1.1)))
    signal.check()
    assert len(signal.verdicts) == 1


def test_html_is_escaped_and_bounded():
    many = tuple(Row(f"<script>{i}", 0, "Linear", (8, 4), 0.0, 1.0) for i in range(2000))
    html = Signal("<b>", "measured", many)._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert len(html) <= 120_000
    assert len(repr(Signal("Net", "measured", many))) < 200


def test_a_name_that_is_not_there():
    (problem,) = refused(lambda: propagate(build(), torch.randn(2, 16))["layer"])
    assert problem.fix


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3)), (4, 1, 224, 224)),
        (nn.Sequential(nn.Linear(7, 2)), (4, 7)),
        (nn.Sequential(nn.Embedding(9, 2)), (4, 64)),
    ],
)
def test_example_batches(model, shape):
    batch, words = example(model)
    assert tuple(batch.shape) == shape
    assert words
    assert example(model, device="meta")[0].is_meta


def test_a_model_that_says_nothing_needs_a_batch():
    assert refused(example, nn.ReLU())[0].fix
