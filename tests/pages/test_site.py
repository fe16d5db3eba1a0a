"""The site as a reader has it: built, every page opened in a browser, narrow and wide, light and dark."""

import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.pages.test_in_a_browser import CONTRAST

pytest.importorskip("sphinx")
pytest.importorskip("furo")
pytest.importorskip("myst_nb")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ON_ITS_OWN = ("genindex.html", "py-modindex.html", "search.html")  # sphinx makes them

# What ends right of the window, or of a part of the page that does not scroll by itself.
BEYOND = """[...document.querySelectorAll("article *")].filter(one => one.getClientRects().length)
  .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
  .filter(one => { for (let up = one.parentElement; up.localName !== "article"; up = up.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(up).overflowX)) return false; return true; })
  .map(one => one.localName + ": " + one.textContent.slice(0, 60))"""
# Tables fit. Those that a notebook printed scroll by themselves.
TABLES = """[...document.querySelectorAll(".table-wrapper")].filter(one => one.scrollWidth > one.clientWidth + 1)
  .map(one => one.textContent.trim().slice(0, 60))"""

PATH = "document.querySelectorAll('.sidebar-tree .caption + ul')"


class Quiet(SimpleHTTPRequestHandler):
    """A server that says nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of the built site, and its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-E", "docs", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def pages(folder):
    """All pages, as addresses within the site."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html") if path.name not in ON_ITS_OWN)


def test_every_page_fits_and_is_quiet_and_legible(site, browser):
    address, folder = site
    found = {}
    for page in pages(folder):
        browser.view(1400)
        browser.open(f"{address}/{page}")
        for width in (360, 1400):
            for dark in (False, True):
                browser.view(width, dark=dark)
                browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
                wide = browser.run("document.documentElement.scrollWidth")
                faint = browser.run(CONTRAST)[1]
                wrong = [*browser.run(BEYOND), *browser.run(TABLES), *faint, *([wide] if wide > width else [])]
                background = browser.run("getComputedStyle(document.body).backgroundColor")
                if (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) != dark:
                    wrong.append(background)
                if wrong:
                    found[page, width, dark] = wrong
        if complaints := browser.complaints(address):
            found[page] = complaints
    assert found == {}


def test_the_front_page_shows_the_product_and_leads_on(site, browser):
    address, _ = site
    browser.view(360)
    browser.open(f"{address}/index.html")
    assert browser.run("document.querySelector('figure.picture img').naturalWidth") > 0
    assert browser.run("document.querySelectorAll('article .highlight-yaml, article .highlight-sh').length") == 2
    path = browser.run(f"{PATH}[0].textContent.trim()")
    assert path.split("\n")[:2] == ["Start", "Recipes, by example"]


def test_the_guided_path_has_no_gap(site, browser):
    """The link to the next page leads from the front page through the whole path."""
    address, _ = site
    browser.view(1400)
    browser.open(f"{address}/index.html")
    wanted = browser.run(f"[...{PATH}[0].querySelectorAll('a')].map(one => one.href)")
    for page in wanted:
        assert browser.run("document.querySelector('.next-page').href") == page
        browser.open(page)


def test_the_search_finds_a_page(site, browser):
    address, _ = site
    browser.view(360)
    browser.open(f"{address}/search.html?q=orthogonal")
    browser.run(
        "new Promise(done => { const look = () => /found [1-9]/.test(document.body.innerText) ? done() "
        ": setTimeout(look, 50); look(); })"
    )
    found = browser.run("[...document.querySelectorAll('ul.search li a')].map(one => one.textContent)")
    assert any("Initializers" in title for title in found)
    assert browser.complaints(address) == []


def test_no_page_needs_the_network(site):
    """Nothing is loaded from elsewhere; links may lead there."""
    _, folder = site
    loads = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"'](https?:[^\"']+)")
    for page in pages(folder):
        assert loads.findall((folder / page).read_text(encoding="utf-8")) == [], page
