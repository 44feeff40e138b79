"""A real Chromium and the rules of axe-core, where there are such. ``CHROMIUM`` names the browser,
``AXE`` the file ``axe.min.js`` of the package ``axe-core``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium

NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_binary() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium():
    binary = browser_binary()
    if binary is None:
        pytest.skip("NOT TESTED HERE: the page in a browser: there is no Chromium")
    running = Chromium(binary)
    yield running
    running.close()


@pytest.fixture(scope="session")
def axe() -> str:
    path = os.environ.get("AXE")
    if path is None:
        pytest.skip("NOT TESTED HERE: the page's accessibility: AXE names no axe.min.js")
    return Path(path).read_text(encoding="utf-8")


@pytest.fixture
def tab(chromium):
    opened = chromium.tab()
    yield opened
    opened.close()
