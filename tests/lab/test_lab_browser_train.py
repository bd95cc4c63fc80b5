"""The Train tab: real trainings started from the page, followed to their end, reloaded in the middle, looked at from two pages and stopped."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from lab_pages import lab_page
from lab_served import Served, served
from playwright.sync_api import Browser, Locator, Page, expect

from convscope.runlog import RunLog
from convscope.show.page.words import figure, percent

pytestmark = pytest.mark.chromium

MINUTES_2 = 120_000  # milliseconds; a process that imports torch beside other tests needs its time
LONG = 1000  # epochs of a training that is still going on when the test stops it


@pytest.fixture(autouse=True)
def nothing_trains(lab: Served) -> Iterator[None]:
    """Stops what a test has left training."""
    yield
    training = lab.ask("/api/state")[1]["training"]
    if training:
        lab.ask(f"/api/runs/{training}/stop", {})


def start(page: Page, lab: Served, **settings: str | bool) -> str:
    """Fill in the form for the digits, start, and return the run's name."""
    form = page.locator("form")
    form.get_by_label("My images").check()
    form.get_by_label("Folder or CSV file").fill(str(lab.digits))
    form.get_by_label("Network").select_option("simple_cnn")
    form.get_by_label("Batch size").fill("32")
    for label, value in settings.items():
        control = form.get_by_label(label.replace("_", " "), exact=True)
        if isinstance(value, bool):
            control.set_checked(value)
        elif control.evaluate("control => control.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)
    before = page.url
    form.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(lambda url: url != before)
    return page.url.rpartition("/")[2]


def state(page: Page) -> Locator:
    return page.locator(".run-head .chip")


def tile(page: Page, name: str) -> Locator:
    """The number of a tile, without its note."""
    return page.locator(".tiles > div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def steps_done(page: Page) -> int:
    """How many steps the page shows; 0 before the first."""
    found = re.match(r"[\d,]+", tile(page, re.compile("^Steps?$")).inner_text())  # type: ignore[arg-type]
    return int(found[0].replace(",", "")) if found else 0


def wait_for_steps(page: Page, least: int) -> None:
    page.wait_for_function(
        "least => [...document.querySelectorAll('.tiles > div')].some((tile) => /^Steps?$/.test(tile.firstChild.textContent)"
        " && parseInt(tile.lastChild.textContent.replaceAll(',', '')) >= least)",
        arg=least,
        timeout=MINUTES_2,
    )


def test_a_training_is_followed_to_its_end(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab) as page:
        run = start(page, lab, Epochs="3", Learning_rate="0.02")
        expect(page.get_by_role("heading", level=1)).to_have_text(run)
        expect(state(page)).to_have_text("Finished", timeout=MINUTES_2)
        told = next(row for row in lab.ask("/api/runs")[1]["runs"] if row["run"] == run)
        expect(tile(page, "Accuracy")).to_contain_text(percent(told["accuracy"]))
        rows = page.get_by_role("table", name="Losses and metrics at the end of each epoch").locator("tbody tr")
        expect(rows).to_have_count(3)
        with RunLog.read(lab.folder / run / "log.sqlite") as log:
            epochs, steps, layers = log.epochs(), log.steps(), log.layer_names()
        assert [row.locator("td").nth(2).inner_text() for row in rows.all()] == [figure(row.valid_loss) for row in epochs]
        expect(page.locator(".thumbnails button")).to_have_count(len(layers))
        chart = page.get_by_role("slider", name=f"Loss of {run} over the steps")
        chart.focus()
        page.keyboard.press("Home")
        expect(chart).to_have_attribute("aria-valuetext", re.compile(f"^step 0, loss {figure(steps[0].loss.mean)}"))
        page.keyboard.press("ArrowRight")
        expect(chart).to_have_attribute("aria-valuetext", re.compile(f"^step 1, loss {figure(steps[1].loss.mean)}"))
        expect(page.locator(".runs [aria-current] b")).to_have_text(run)


def test_findings_appear_and_lead_to_the_figure_that_shows_them(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab) as page:
        run = start(page, lab, Epochs="4", Learning_rate="1", Schedule="constant", Batch_norm=False)
        page.evaluate(
            "() => { window.heard = []; new MutationObserver(() => heard.push(document.getElementById('spoken').textContent))"
            ".observe(document.getElementById('spoken'), {childList: true}); }"
        )
        expect(state(page)).to_have_text("Finished", timeout=MINUTES_2)
        findings = lab.ask(f"/api/runs/{run}")[1]["verdict"]["findings"]
        cards = page.locator(".diagnosis article")
        expect(cards).to_have_count(len(findings))
        assert sorted(cards.locator("h3").all_inner_texts()) == sorted(finding["message"] for finding in findings)
        page.wait_for_function("heard.some((text) => /Finished/.test(text))")
        heard = " ".join(page.evaluate("heard"))
        assert [finding["name"] for finding in findings if f"{finding['severity'].title()}: {finding['message']}" not in heard] == []
        finding = next(one for one in findings if one["where"])
        page.get_by_role("button", name=finding["message"]).click()
        figure_of_it = page.get_by_role("slider", name=re.compile("Values of the chosen layer"))
        expect(figure_of_it).to_be_in_viewport()
        expect(page.locator(".layer-panel h3")).to_contain_text(f"Layer {finding['where']}, ")
        expect(page.locator(".numbers")).to_have_text(re.compile(rf"^Step {finding['step']}: mean "))


def test_a_change_that_a_finding_proposes_is_put_into_the_form(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab) as page:
        run = start(page, lab, Epochs="4", Learning_rate="1", Schedule="constant", Batch_norm=False)
        expect(state(page)).to_have_text("Finished", timeout=MINUTES_2)
        findings = lab.ask(f"/api/runs/{run}")[1]["verdict"]["findings"]
        changed = next(one for one in findings if one["fix"]["change"] and "norm" in one["fix"]["change"])
        page.locator("article").filter(has_text=changed["message"]).get_by_role("button", name="Train again with this").first.click()
        form = page.locator("form")
        expect(form.get_by_label("Batch norm")).to_be_checked()
        expect(form.get_by_label("Folder or CSV file")).to_have_value(str(lab.digits))
        expect(form.get_by_label("Epochs")).to_have_value("4")
        expect(form.get_by_role("button", name="Start", exact=True)).to_be_focused()


def test_a_reload_in_the_middle_and_a_second_page_go_on_where_the_run_is(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab) as page, lab_page(chromium, lab) as other:
        run = start(page, lab, Epochs=str(LONG), Learning_rate="0.01")
        wait_for_steps(page, 5)
        page.reload()
        wait_for_steps(page, 6)
        expect(state(page)).to_have_text("Training")
        assert page.url.endswith(f"#/train/{run}")

        other.goto(f"{lab.url}/#/train/{run}")
        wait_for_steps(other, steps_done(page))
        other.locator("form").get_by_role("button", name="Start").wait_for()
        expect(other.locator("form").get_by_role("button", name="Start")).to_be_disabled()
        expect(other.get_by_role("link", name=f"training {run}")).to_be_visible()
        seen = steps_done(page)
        wait_for_steps(page, seen + 1)  # both go on

        other.get_by_role("button", name="Stop").click()
        expect(state(other)).to_have_text("Stopped", timeout=MINUTES_2)
        expect(state(page)).to_have_text("Stopped", timeout=MINUTES_2)
        with RunLog.read(lab.folder / run / "log.sqlite") as log:
            done = log.steps()[-1].last_step + 1
        assert steps_done(page) == steps_done(other) == done

        page.get_by_role("button", name="Go on").click()
        wait_for_steps(page, done + 1)
        expect(state(page)).to_have_text("Training")


def test_a_lab_that_was_ended_and_started_again_is_found_again(chromium: Browser, lab: Served) -> None:
    """The training outlives the lab, and the page takes it up where it is."""
    with served(lab.folder, lab.digits) as first:
        page_of_both = lab_page(chromium, first, expected="Failed to load resource")
        page = page_of_both.__enter__()
        run = start(page, first, Epochs=str(LONG), Learning_rate="0.01")
        wait_for_steps(page, 5)
    expect(state(page)).to_have_text("Reconnecting …")
    seen = steps_done(page)
    with served(lab.folder, lab.digits, "--port", str(first.port)):
        wait_for_steps(page, seen + 1)
        expect(state(page)).to_have_text("Training")
        expect(page.get_by_role("heading", level=1)).to_have_text(run)
        page_of_both.__exit__(None, None, None)


def test_what_the_form_cannot_mean_is_said_beside_it(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, expected="status of 400") as page:
        form = page.locator("form")
        form.get_by_label("Learning rate").fill("fast")
        form.get_by_role("button", name="Start", exact=True).click()
        expect(form.get_by_label("Learning rate")).to_have_attribute("aria-invalid", "true")
        assert page.evaluate("document.querySelector('[name=lr]').validationMessage") == "Type auto, or a number above 0 such as 0.06."
        form.get_by_label("Learning rate").fill("0.1")
        form.get_by_label("My images").check()
        form.get_by_label("Folder or CSV file").fill("/no/such/folder")
        form.get_by_role("button", name="Start", exact=True).click()
        expect(form.get_by_role("alert")).to_contain_text("There is no folder or file '/no/such/folder'.")
        expect(form.get_by_role("alert")).to_contain_text("Give mnist, or the whole path of a folder of images or a CSV file.")


def test_a_run_that_is_not_there_is_said_so(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/train/nothing", expected="status of 404") as page:
        expect(page.get_by_role("alert")).to_contain_text(f"There is no run 'nothing' in {lab.folder}.")


def test_a_name_is_shown_as_it_is(chromium: Browser, lab: Served) -> None:
    """Names of layers, runs and messages reach the page as text."""
    shutil.copytree(lab.folder / "tiny", lab.folder / "b.tiny")
    config = lab.folder / "b.tiny" / "config.json"
    config.write_text(
        config.read_text().replace('"finished"', '"failed"').replace('"message": null', '"message": "<img src=x onerror=alert(1)>"')
    )
    with lab_page(chromium, lab, "/train/b.tiny") as page:
        expect(page.get_by_role("alert")).to_have_text("<img src=x onerror=alert(1)>")
    shutil.rmtree(lab.folder / "b.tiny")
