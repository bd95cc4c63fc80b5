"""The Compare tab: the pairs that come with the library, and two runs of one's own, with the numbers that the runs have."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import pytest
from lab_pages import lab_page
from lab_served import Served
from playwright.sync_api import Browser, Locator, Page, expect

from convscope.show.page.words import figure, percent

pytestmark = pytest.mark.chromium


@pytest.fixture
def second_run(lab: Served) -> Iterator[str]:
    """Another run: the first one with another learning rate in its settings."""
    path = lab.folder / "other"
    shutil.copytree(lab.folder / "tiny", path)
    config = json.loads((path / "config.json").read_text())
    config["name"], config["settings"]["lr"], config["train"]["lr"] = "other", 0.5, 0.5
    (path / "config.json").write_text(json.dumps(config))
    yield "other"
    shutil.rmtree(path)


def differs(page: Page) -> Locator:
    return page.get_by_role("table", name="What differs").locator("tbody tr")


def test_every_pair_of_the_library_shows_its_numbers(chromium: Browser, lab: Served) -> None:
    pairs = lab.ask("/api/compare")[1]["pairs"]
    assert len(pairs) >= 5
    with lab_page(chromium, lab, "/compare") as page:
        for pair in pairs:
            page.get_by_role("navigation", name="Comparisons").get_by_role("link", name=pair["title"]).click()
            expect(page.get_by_role("heading", level=2).first).to_have_text(pair["question"])
            expect(page.locator(".asked-pair p")).to_have_text(pair["explanation"])
            shown = page.locator(".side-accuracy").all_inner_texts()
            assert [text.partition(" of")[0] for text in shown] == [percent(side["accuracy"]) for side in pair["sides"]]
            expect(differs(page)).to_have_count(len(pair["differs"]))
            assert page.url.endswith(f"#/compare/{pair['id']}")


def test_both_sides_point_to_the_same_step(chromium: Browser, lab: Served) -> None:
    pair = lab.ask("/api/compare")[1]["pairs"][0]
    with lab_page(chromium, lab, f"/compare/{pair['id']}") as page:
        chart = page.get_by_role("slider", name=re.compile("^Training loss of"))
        chart.focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        told = chart.get_attribute("aria-valuetext")
        assert told
        assert told.startswith("step 1, ")
        expect(page.locator(".tip").filter(has_text="step 1")).to_be_visible()
        for side in pair["sides"]:
            assert f"{side['name']} " in told
        left = page.get_by_role("slider", name=re.compile("^Values of the layer in")).first
        expect(left).to_have_attribute("aria-valuenow", "1")


def test_another_layer_is_shown_on_both_sides(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/compare") as page:
        layers = page.get_by_role("group", name="Layer").get_by_role("radio")
        layers.first.wait_for(state="attached")
        names = [label.partition(" ")[0] for label in page.locator(".choices label").all_inner_texts()]
        layers.first.check(force=True)
        expect(page.locator(".pair-view .chart-head .muted")).to_have_text([re.compile(f"^{re.escape(names[0])} ")] * 2)


def test_two_of_ones_own_runs(chromium: Browser, lab: Served, second_run: str) -> None:
    with lab_page(chromium, lab, "/train/tiny") as page:
        page.get_by_role("link", name="Compare", exact=True).and_(page.locator(".button")).click()
        page.get_by_label("Left").select_option("tiny")
        page.get_by_label("Right").select_option(second_run)
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".side-name")).to_have_text(["tiny", second_run])
        expect(differs(page)).to_have_text(["learning rate0.020.5"])
        validation = lab.ask("/api/runs/tiny")[1]["config"]["result"]["valid_loss"]
        expect(page.locator(".side-head").first).to_contain_text(f"validation loss {figure(validation)}")
        address = page.url
        page.reload()
        expect(page.locator(".side-name")).to_have_text(["tiny", second_run])
        assert page.url == address


def test_runs_that_are_not_there_are_said_so(chromium: Browser, lab: Served, second_run: str) -> None:
    with lab_page(chromium, lab, f"/compare/runs/{second_run}/nothing", expected="status of 404") as page:
        expect(page.get_by_role("alert")).to_contain_text("There is no run 'nothing'")
        expect(page.get_by_label("Left")).to_have_value(second_run)
