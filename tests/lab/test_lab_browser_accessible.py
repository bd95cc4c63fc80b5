"""Every tab of the lab with axe, in light and dark; from the keyboard; and on a narrow phone."""

from __future__ import annotations

import pytest
from lab_pages import lab_page, serious_findings
from lab_served import Served
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.chromium

READY = {  # what tells that a tab has drawn what it shows
    "/train/tiny": ".run-view .layers canvas",
    "/inside/tiny": "main canvas",
    "/trace/tiny": "main canvas",
    "/kernel": "main canvas",
    "/compare": ".pair-view canvas",
    "/questions/3": ".question input",
}


def opened(page: Page, route: str) -> Page:
    """The page when the tab has drawn and nothing of it is loading any more."""
    page.locator(READY[route]).first.wait_for()
    expect(page.locator("main .waiting")).to_have_count(0)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("route", READY)
def test_axe_finds_nothing_serious(chromium: Browser, lab: Served, route: str, scheme: str) -> None:
    with lab_page(chromium, lab, route, scheme=scheme) as page:  # type: ignore[arg-type]
        assert serious_findings(opened(page, route)) == []


@pytest.mark.parametrize("route", READY)
def test_a_phone_of_360_pixels_needs_no_scrolling_sideways(chromium: Browser, lab: Served, route: str) -> None:
    with lab_page(chromium, lab, route, size=(360, 740)) as page:
        assert opened(page, route).evaluate("document.documentElement.scrollWidth") == 360


def test_tabs_are_walked_with_the_arrow_keys(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/3") as page:
        opened(page, "/questions/3")
        page.get_by_role("tab", name="Questions").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("tab", name="Compare")).to_be_focused()
        expect(page.get_by_role("tab", selected=True)).to_have_text("Compare")
        assert page.url.endswith("#/compare")
        expect(page.get_by_role("tabpanel")).to_have_accessible_name("Compare")
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")  # from the last to the first
        expect(page.get_by_role("tab", selected=True)).to_have_text("Train")
        assert page.get_by_role("tab").evaluate_all("tabs => tabs.filter((tab) => tab.tabIndex === 0).length") == 1


def test_the_first_stop_of_the_tab_key_skips_the_bar(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/kernel") as page:
        opened(page, "/kernel")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("tabpanel")).to_be_focused()
        assert "#/kernel" in page.url  # where the picture and the kernel may already stand behind it


def test_the_choice_of_dark_lasts(chromium: Browser, lab: Served) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with lab_page(chromium, lab, "/questions/3") as page:
        opened(page, "/questions/3")
        light = page.evaluate(ground)
        page.get_by_role("button", name="Dark mode").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        expect(page.get_by_role("button", name="Light mode")).to_be_visible()
        assert page.evaluate(ground) == dark


def test_an_address_that_nothing_answers_to_shows_the_first_tab(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/nowhere") as page:
        expect(page.get_by_role("tab", selected=True)).to_have_text("Train")
