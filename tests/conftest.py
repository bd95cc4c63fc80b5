"""What tests of several packages share: the programs outside Python that some of them drive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright


def pytest_configure() -> None:
    """One thread for each test process: on two cores, threads that wait for each other would make both many times slower."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def program(*names: str, package: str) -> str:
    """The path of the first program that is installed; without one the test is skipped, or fails where CI=true promises one."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        message = f"{names[0]} is not installed; `apt-get install {package}` brings it."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


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
