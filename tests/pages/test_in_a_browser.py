"""Pages in a real browser: quiet, as wide as the window, legible, by keyboard and for screen readers, harmless."""

from itertools import pairwise

import pytest

from initframe.pages import comparison_page, picture, run_page
from tests.pages import samples

pytestmark = pytest.mark.slow

PAGES = {
    "run": lambda: run_page(samples.report(scale=1.5), samples.signal("mine", 0.1)),
    "unmeasured": lambda: run_page(samples.report(), None),
    "comparison": lambda: comparison_page(samples.comparison()),
    "many": lambda: comparison_page(samples.comparison([f"recipe{i}" for i in range(13)])),
    "hostile run": lambda: run_page(samples.hostile_report(), samples.signal(samples.HOSTILE[0], 0.5)),
    "hostile comparison": lambda: comparison_page(samples.hostile_comparison()),
}

# The contrast of every text with what is behind it, as WCAG 2 defines it; colours of SVG text are its fill.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parse = text => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92
    : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = node => { for (let one = node; one; one = one.parentElement) {
    const colour = parse(getComputedStyle(one).backgroundColor); if (colour[3] > 0.99) return colour; }
    return [255, 255, 255, 1]; };
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  let found = [], seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const [a, b] = [parse(node.closest("svg") ? style.fill : style.color), behind(node)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (ratio < 4.5) found.push([ratio, node.tagName, walker.currentNode.textContent.slice(0, 40)]);
  }
  return [seen, found];
})()"""


@pytest.fixture(scope="module", params=PAGES)
def page(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_quiet_wide_enough_and_legible(browser, page, width, dark):
    browser.view(width, dark=dark)
    browser.open(page)
    assert browser.complaints() == []
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.run("document.documentElement.scrollWidth") == width
    beyond = "[...document.querySelectorAll('main > *, header > *, figure, svg')].filter(one => "
    assert browser.run(beyond + f"one.getBoundingClientRect().right > {width} + 0.5).length") == 0
    seen, faint = browser.run(CONTRAST)
    assert seen > 20
    assert faint == []
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark


def test_print(browser, page):
    browser.view(700, dark=True, media="print")
    browser.open(page)
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("[...document.querySelectorAll('.search')].every(one => !one.getClientRects().length)")
    shown = "[...document.querySelectorAll('details .scroll')].every(one => one.getBoundingClientRect().height > 20)"
    assert browser.run(shown)
    assert browser.run(CONTRAST)[1] == []
    browser.view(1400)


def test_hostile_names_are_text(browser, page):
    browser.view(1400)
    browser.open(page)
    tags = browser.run("[...new Set([...document.querySelectorAll('*')].map(one => one.localName))]")
    assert set(tags) <= set(ALLOWED.split())
    assert browser.run("document.scripts.length") == 1
    attributes = browser.run("[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on")]
    assert not any((ord(c) < 32 and c != "\n") or c == "\u202e" for c in browser.run("document.body.textContent"))
    assert browser.run("[...document.querySelectorAll('td, th')].every(one => one.textContent.length < 1000)")


ALLOWED = """
html head meta link title style body a header main footer script p h1 h2 h3 dl div dt dd ul li span br details summary
figure figcaption table caption thead tbody tr th td button label input pre code wbr svg g defs path use text
clipPath rect line
"""


def test_a_page_that_was_tampered_with_runs_nothing(browser, tmp_path):
    """The policy holds even if a script got in: a second line behind escaping."""
    path = tmp_path / "page.html"
    evil = "<script>document.title = 'evil'</script><img src='http://192.0.2.1/x.png' onerror='document.title=`evil`'>"
    path.write_text(comparison_page(samples.comparison()).replace("<h1>", f"{evil}<h1>"), encoding="utf-8")
    browser.open(path)
    assert browser.run("document.title") == "Net: initializations compared"
    assert any("Content Security Policy" in text for text in browser.complaints())


@pytest.fixture
def table(browser, tmp_path):
    """A run's page with the focus on its first control after the search field was reached by Tab."""
    path = tmp_path / "page.html"
    names = [f"layer{i}" for i in range(12)]
    path.write_text(run_page(samples.report(names, scale=1.5)), encoding="utf-8")
    browser.view(1400)
    browser.open(path)
    return browser


def tab_to(browser, wanted, limit=60):
    for _ in range(limit):
        browser.press("Tab")
        if browser.run(f"document.activeElement.matches({wanted!r})"):
            return
    raise AssertionError(f"{wanted} is not reached by Tab")


def column(browser, index):
    rows = "[...document.querySelectorAll('[data-live=tensors] tbody tr')].filter(row => !row.hidden)"
    return browser.run(f"{rows}.map(row => row.cells[{index}].textContent)")


def test_search_by_keyboard(table):
    assert len(column(table, 0)) == 24
    tab_to(table, "#tensors-search")
    for key in "layer7 bias":
        table.press(key)
    assert column(table, 0) == ["layer7.bias"]
    assert table.run("document.getElementById('tensors-told').textContent") == "1 of 24 rows"
    for _ in "layer7 bias":
        table.press("Backspace")
    assert len(column(table, 0)) == 24


@pytest.mark.parametrize("key", ["Enter", " "])
def test_sort_by_keyboard(table, key):
    before = column(table, 0)
    tab_to(table, "#tensors-search")
    tab_to(table, "[data-live=tensors] th:last-child button")
    head = "document.querySelector('[data-live=tensors] th:last-child').getAttribute('aria-sort')"
    table.press(key)
    assert table.run(head) == "ascending"
    known = [float(text) for text in column(table, 9) if text != "—"]
    assert known == sorted(known)
    table.press(key)
    assert table.run(head) == "descending"
    assert [float(text) for text in column(table, 9) if text != "—"] == sorted(known, reverse=True)
    assert column(table, 0)[0] == "layer1.weight"  # the one that was scaled
    assert column(table, 9)[-1] == "—"  # no number comes last both ways
    assert sorted(column(table, 0)) == sorted(before)


def test_names_sort_by_their_numbers(table):
    tab_to(table, "[data-live=tensors] th:first-child button")
    table.press("Enter")
    weights = [name for name in column(table, 0) if name.endswith("weight")]
    assert weights == [f"layer{i}.weight" for i in range(12)]


def test_the_focus_is_visible(table):
    for wanted in ("a.skip", "#tensors-search", "[data-live=tensors] th button", "summary"):
        tab_to(table, wanted)
        style = table.run(
            "(s => [s.outlineStyle, parseFloat(s.outlineWidth)])(getComputedStyle(document.activeElement))"
        )
        assert style[0] != "none"
        assert style[1] >= 2
        assert table.run("document.activeElement.getBoundingClientRect().left") >= 0


def test_what_a_screen_reader_is_told(browser, page):
    browser.view(1400)
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    tree = browser.tree()
    roles = [role for role, _ in tree]
    assert roles.count("main") == 1
    assert ("heading") in roles
    for role in ("figure", "table", "region"):
        assert all(name for one, name in tree if one == role), f"a {role} has no name"
    assert roles.count("table") >= sum(role == "figure" and "by depth" in name for role, name in tree)
    assert not [name for role, name in tree if role in ("button", "searchbox") and not name]
    assert "rowheader" in roles
    assert "columnheader" in roles
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.localName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_figures_have_their_own_ids(browser, page):
    browser.open(page)
    every = browser.run("[...document.querySelectorAll('[id]')].map(one => one.id)")
    drawn = {one for one in every if one.startswith("f")}
    used = browser.run("[...document.querySelectorAll('use')].map(one => one.getAttribute('href').slice(1))")
    assert set(used) <= drawn


@pytest.mark.parametrize("make", [samples.comparison, samples.hostile_comparison])
@pytest.mark.parametrize("dark", [False, True])
def test_the_picture(browser, tmp_path, make, dark):
    path = tmp_path / "picture.svg"
    path.write_text(picture(make()), encoding="utf-8")
    browser.view(1400, dark=dark)
    browser.open(path)
    assert browser.complaints() == []
    assert browser.run("document.documentElement.localName") == "svg"
    assert browser.run("document.querySelectorAll('script, image, foreignObject, a').length") == 0
    inside = "[...document.querySelectorAll('text')].every(one => one.getBoundingClientRect().right <= innerWidth)"
    assert browser.run(inside)
