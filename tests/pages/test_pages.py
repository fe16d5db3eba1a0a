"""What a page holds: every tensor, the ones that are off, numbers as they were measured, and nothing from outside."""

import math
import re
import sys
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

import initframe
from initframe.pages import comparison_page, picture, run_page
from initframe.pages.curves import layers
from initframe.pages.figures import Line, panel
from initframe.pages.measured import deviation, histograms
from initframe.pages.render import visible
from tests.pages import samples


class Cells(HTMLParser):
    """The tables of a page: caption → rows of texts."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.text = {}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th", "caption"):
            self.text = ""

    def handle_data(self, data):
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[self.text] = self.rows
        elif tag in ("td", "th"):
            self.rows[-1].append(self.text)
        if tag in ("td", "th", "caption"):
            self.text = None


def test_every_tensor_is_in_the_plan_and_the_scaled_one_is_marked():
    report = samples.report([f"layer{i}" for i in range(20)], scale=1.3)
    page = run_page(report)
    rows = Cells(page).tables["What every tensor was given"][1:]
    assert [row[0] for row in rows] == [result.name for result in report.results]
    assert page.count('class="flagged"') == 2  # in the plan, and among the furthest
    assert Cells(page).tables["The tensors furthest from the plan"][1][0] == "layer1.weight"


def test_a_run_as_planned_marks_nothing():
    assert 'class="flagged"' not in run_page(samples.report())


def test_a_tensor_that_is_not_finite_is_marked():
    report = samples.report(scale=math.nan)
    assert 'class="flagged"' in run_page(report)


def test_deviations_are_in_standard_errors():
    model = nn.Linear(64, 64)
    report = initframe.reinit(model, {"rules": {"weight": {"init": "normal", "std": 2.0}}}, seed=3, measure=True)
    found = report["weight"].after.moments
    errors = max(abs(found.mean) / (2 / 64), abs(found.std - 2) / (2 / math.sqrt(2 * 4096)))
    assert deviation(report["weight"]).errors == pytest.approx(errors)


def test_histograms_count_the_models_values():
    report = samples.report()
    (one,) = histograms(report, ["first.weight"])
    weight = report.model.first.weight.detach()
    inside = ((weight >= one.edges[0]) & (weight <= one.edges[-1])).float().mean().item()
    assert math.fsum(one.found) == pytest.approx(inside, abs=1e-6)
    assert math.fsum(one.planned) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_pages_of_models_without_values_or_measures(device):
    model = nn.Linear(4, 4, device=device)
    plan = initframe.resolve({"rules": {"*": "zeros"}}, model)
    report = initframe.apply(plan, seed=0) if device == "cpu" else None
    if report is None:
        report = initframe.Report(plan, 0, "stream", (), model=model)
    assert "Nothing was measured" in run_page(report)


def test_a_page_leaves_the_model_and_the_generator_alone():
    report = samples.report()
    before = {name: tensor.clone() for name, tensor in report.model.state_dict().items()}
    state = torch.random.get_rng_state()
    run_page(report)
    assert all(torch.equal(before[name], tensor) for name, tensor in report.model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_same_data_makes_the_same_page():
    assert run_page(samples.report()) == run_page(samples.report())
    assert comparison_page(samples.comparison()) == comparison_page(samples.comparison())


PAGES = {
    "run": lambda: run_page(samples.report()),
    "comparison": lambda: comparison_page(samples.comparison()),
    "picture": lambda: picture(samples.comparison()),
}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded(name):
    page = PAGES[name]()
    links = re.findall(r'(?:src|href|action|data)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert "@import" not in page


def test_tables_have_the_numbers_of_the_signals():
    comparison = samples.comparison()
    rows = Cells(comparison_page(comparison)).tables["Activation rms by layer"]
    assert rows[0] == ["layer", "one", "two", "three"]
    signals = comparison["recipes"]
    known = [row for row in signals[0]["rows"] if row["rms"] is not None]
    assert [row[0] for row in rows[1:]] == [row["name"] for row in known]
    for i, row in enumerate(rows[1:]):
        assert row[1:] == [f"{one['rows'][i]['rms']:.3g}" for one in signals]


def test_values_that_are_not_finite_are_no_points():
    one = samples.signal("one", 0.1, layers=5)
    assert [depth for depth, *_ in layers(one, "rms")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_thousands_of_layers_stay_bounded():
    comparison = samples.comparison()
    comparison["recipes"] = [samples.signal(one["recipe"], 0.001, layers=5000) for one in comparison["recipes"]]
    page = comparison_page(comparison)
    assert len(page) < 2_000_000
    assert "400 of 4999 layers" in page


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("span", [1.0, 3.0, 1e12])
def test_panels_of_any_size_have_ticks(scale, span):
    line = Line(0, (1.0, 2.0), (scale, scale * span), (scale, scale * span), (scale, scale * span))
    figure = panel([line], label="rms", logarithmic=True)
    ticks = re.findall(r"<text[^>]*>([^<]*)</text>", figure)
    assert len(ticks) >= 5
    assert not re.findall(r": #[0-9a-f]{6}", figure)  # colours are the page's


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(initframe.InitframeError) as caught:
        comparison_page(samples.comparison())
    assert library in caught.value.problems[0].fact


@pytest.mark.parametrize("text", samples.HOSTILE)
@pytest.mark.parametrize("limit", [12, 40, 160])
def test_texts_are_bounded_and_visible(text, limit):
    shown = visible(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert shown == text or "…" in shown or "\\" in shown
