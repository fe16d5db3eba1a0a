"""A browser for all tests of pages, where there is one."""

import pytest

from tests.pages.browser import Browser, find


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if find() is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    tab = Browser(tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()
