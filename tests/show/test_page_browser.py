"""The page in a real browser, from a file and without a network: it draws, follows light and dark, fits a phone, and asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from report_runs import make_run

from convscope.show.page import write_report

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def opened(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, list[str]]]:
    """The page of a small run, opened from its file, and what it said to the console or asked for besides itself."""
    report = write_report(make_run(tmp_path_factory.mktemp("run") / "pets"))
    said: list[str] = []
    page = chromium.new_page(viewport={"width": 360, "height": 740}, color_scheme="light")
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("data:", "blob:")) else None)
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(report.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.chart')].every((place) => place.querySelector('.main-svg'))")
    assert said == [report.as_uri()]
    said.clear()
    yield page, said
    page.close()


@pytest.fixture
def open_page(opened: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page on a narrow phone in light; the test fails when it complains or asks for anything."""
    page, said = opened
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="light", media="screen")
    yield page
    assert said == []


CONTRAST = """
() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => channels(colour).map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  const faint = [];
  for (const element of document.querySelectorAll("main *, footer *, .bar-top *")) {
    const ownText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!ownText || element.closest("svg, .chart, script")) continue;
    const [one, two] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (two + 0.05) < 4.5) faint.push(`${element.textContent.slice(0, 40)} ${((one + 0.05) / (two + 0.05)).toFixed(2)}`);
  }
  return faint;
}
"""  # the ratio of WCAG 2.2, success criterion 1.4.3 (AA): 4.5 to 1

DRAWN = "() => document.querySelector('#loss .scatterlayer .trace:nth-child(2) path.js-line').style.stroke"


def test_it_fits_a_narrow_phone(open_page: Page) -> None:
    assert open_page.evaluate("document.documentElement.scrollWidth") == 360
    assert open_page.evaluate("[...document.querySelectorAll('img')].every((image) => image.complete && image.naturalWidth === 8)")


def test_charts_and_text_follow_light_and_dark(open_page: Page) -> None:
    assert open_page.evaluate(CONTRAST) == []
    light = open_page.evaluate(DRAWN)
    open_page.get_by_role("button", name="Dark mode").click()
    assert open_page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
    open_page.wait_for_function(f"({DRAWN})() !== '{light}'")
    assert open_page.evaluate(CONTRAST) == []
    open_page.emulate_media(color_scheme="dark")
    open_page.get_by_role("button", name="Light mode").click()
    open_page.wait_for_function(f"({DRAWN})() === '{light}'")


def test_a_cell_of_the_confusion_matrix_tells_its_numbers(open_page: Page) -> None:
    open_page.set_viewport_size({"width": 1280, "height": 900})
    chart = open_page.locator("#confusion")
    chart.scroll_into_view_if_needed()
    open_page.wait_for_timeout(200)  # milliseconds; plotly draws again after a change of width
    place = chart.locator(".nsewdrag").bounding_box()
    assert place is not None
    open_page.mouse.move(place["x"] + place["width"] * 5 / 6, place["y"] + place["height"] / 2)
    said = chart.locator(".hoverlayer .hovertext")
    said.wait_for()
    assert said.text_content() == "3 images of class doganswered größe/🐟9.68 % of the class"


def test_the_loss_can_be_seen_on_a_logarithmic_axis_by_keyboard(open_page: Page) -> None:
    switch = open_page.get_by_role("button", name="Logarithmic")
    switch.focus()
    open_page.keyboard.press("Enter")
    assert switch.get_attribute("aria-pressed") == "true"
    assert open_page.evaluate("document.getElementById('loss')._fullLayout.yaxis.type") == "log"


def test_it_prints_in_light(open_page: Page) -> None:
    open_page.emulate_media(color_scheme="dark", media="print")
    assert open_page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert open_page.evaluate("getComputedStyle(document.querySelector('.bar-top')).display") == "none"
