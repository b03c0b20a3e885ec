"""A headless Chromium for tests; they are skipped where none is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Playwright's browser, driving the Chromium that is installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium-headless-shell")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found)
        yield opened
        opened.close()
