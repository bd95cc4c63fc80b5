"""What tests of several packages share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from programs import program


def pytest_configure() -> None:
    """One thread for each test process: on two cores, threads that wait for each other would make both many times slower."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Not for the session: while it lives, the main thread has an event loop, in which asyncio.run refuses to work.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless browser, driven by playwright."""
    path = program("chromium", "chromium-browser", "google-chrome", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
