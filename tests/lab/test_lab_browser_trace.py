"""Trace, in a real browser: the products of an activation are cs.trace's, they add up to the model's value, and lead down to the pixels."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from lab_maps import canvas_of, number
from lab_pages import lab_page
from lab_served import Served
from playwright.sync_api import Browser, Page, expect

from convscope.records import Term, Trace
from convscope.train.inspect import trace_run

pytestmark = pytest.mark.chromium


def wait_for_trace(page: Page, heading: str) -> None:
    expect(page.locator(".activation h2")).to_have_text(heading)


def listed(page: Page) -> list[tuple[str, float, float, float]]:
    """Every product on every page of the table, in the kernel's order: from, value, weight, product."""
    page.get_by_label("as in the kernel").check()
    rows: list[tuple[str, float, float, float]] = []
    while True:
        for cells in page.locator(".terms tbody tr").evaluate_all(
            "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
        ):
            rows.append((cells[1], number(cells[2]), number(cells[3]), number(cells[4])))
        further = page.get_by_role("button", name="Further products")
        if not further.count() or further.is_disabled():
            return rows
        further.click()


def check_sum(page: Page, found: Trace) -> None:
    """What the page shows is the trace, product by product and in total."""

    def shown(term: Term) -> tuple[object, ...]:
        return (
            f"{term.source} [{', '.join(map(str, term.unit))}]",
            *(pytest.approx(x, rel=1e-5) for x in (term.value, term.weight, term.product)),
        )

    rows = listed(page)
    assert rows == [shown(term) for term in found.terms]
    assert float(page.locator(".sum .total").get_attribute("value") or "") == found.total
    assert float(page.locator(".sum .value").get_attribute("value") or "") == found.value
    assert number(page.locator(".sum > div").first.locator(".n").text_content() or "") == pytest.approx(
        sum(row[3] for row in rows), rel=1e-4, abs=1e-4
    )
    if not found.steps:
        assert sum(row[3] for row in rows) + found.bias == pytest.approx(found.value, rel=1e-4, abs=1e-4)


def test_a_clicked_activation_is_the_sum_of_its_products(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3") as page:
        page.locator(".activation h2").wait_for()
        canvas = canvas_of(page.locator('[data-operation="1.0"]'))
        canvas.scroll_into_view_if_needed()
        canvas.click(position={"x": 7 * 3 + 3, "y": 15 + 7 * 2 + 3})  # cells of 7 pixels under a name of 15
        wait_for_trace(page, "Layer 1.0: channel 0, row 2, column 3")
        found = trace_run(lab.folder / lab.run, "valid:3", "1.0", (0, 2, 3)).trace
        check_sum(page, found)
        box = found.receptive_field
        expect(
            page.get_by_text(
                f"It sees rows {box.top}–{box.bottom} and columns {box.left}–{box.right} of the image, {box.height}×{box.width} pixels."
            )
        ).to_be_visible()


@pytest.mark.parametrize(
    ("layer", "unit", "heading"),
    [
        ("2.2", "20,1,3", "Layer 2.2: channel 20, row 1, column 3"),
        ("0.2", "0,0,0", "Layer 0.2: channel 0, row 0, column 0"),
        ("5", "4", "Logit of 4"),
    ],
)
def test_norms_activations_and_padding_add_up_too(chromium: Browser, lab: Served, layer: str, unit: str, heading: str) -> None:
    found = trace_run(lab.folder / lab.run, "valid:8", layer, tuple(map(int, unit.split(",")))).trace
    with lab_page(chromium, lab, f"/trace/tiny?image=valid:8&layer={layer}&unit={unit}") as page:
        expect(page.locator(".activation h2")).to_have_text(re.compile(f"^{heading}"))
        check_sum(page, found)
        steps = page.locator(".sum > div").filter(has_text=re.compile("BatchNorm2d|ReLU|Flatten"))
        assert [number(text) for text in steps.locator(".n").all_text_contents()] == [
            pytest.approx(step.value, rel=1e-5, abs=1e-30) for step in found.steps
        ]


def test_down_to_the_pixels_and_back(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3&layer=1.2&unit=0,3,3") as page:
        wait_for_trace(page, "Layer 1.2: channel 0, row 3, column 3")
        page.get_by_label("as in the kernel").check()
        page.get_by_role("button", name="Go down to 0.2 [0, 5, 5]").click()
        wait_for_trace(page, "Layer 0.2: channel 0, row 5, column 5")
        expect(page.locator(".activation h2")).to_be_focused()  # where reading goes on, now that the button is gone
        page.get_by_role("button", name="Go down to input [0, 10, 10]").click()
        wait_for_trace(page, "Layer input: channel 0, row 10, column 10")
        page.get_by_role("button", name="Go down to pixels [0, 10, 10]").click()
        wait_for_trace(page, "Layer pixels: channel 0, row 10, column 10")
        expect(page.get_by_text("This is a pixel of the image")).to_be_visible()
        crumbs = page.locator(".crumbs li")
        assert crumbs.all_text_contents() == ["1.2 [0, 3, 3]", "0.2 [0, 5, 5]", "input [0, 10, 10]", "pixels [0, 10, 10]"]
        page.reload()
        wait_for_trace(page, "Layer pixels: channel 0, row 10, column 10")
        assert crumbs.count() == 4
        crumbs.nth(1).get_by_role("link").click()
        wait_for_trace(page, "Layer 0.2: channel 0, row 5, column 5")
        assert crumbs.all_text_contents() == ["1.2 [0, 3, 3]", "0.2 [0, 5, 5]"]
        page.go_back()
        wait_for_trace(page, "Layer pixels: channel 0, row 10, column 10")


def test_what_it_sees_is_shown_in_every_layer_between(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3&layer=2.0&unit=1,2,2") as page:
        wait_for_trace(page, "Layer 2.0: channel 1, row 2, column 2")
        assert page.locator(".plans li").all_text_contents() == [
            "pixels to input 17×17 of 28×28",
            "0.0 to 0.2 7×7 of 14×14",
            "1.0 to 1.2 3×3 of 7×7",
            "2.0 1×1 of 4×4",
        ]
        assert page.locator(".way.lit").evaluate_all("rows => rows.map((row) => row.dataset.operation)") == [
            "pixels",
            "input",
            "0.0",
            "0.1",
            "0.2",
            "1.0",
            "1.1",
            "1.2",
            "2.0",
        ]
        assert page.locator('[data-operation="0.2"] .way-head .muted').text_content() == "rows 5–11, columns 5–11"


def test_a_unit_is_chosen_by_its_numbers(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3") as page:
        page.locator(".activation h2").wait_for()
        page.get_by_label("Layer", exact=True).select_option("3.2")
        wait_for_trace(page, "Layer 3.2: channel 31, row 0, column 0")
        channel = page.get_by_role("spinbutton", name="Channel")
        channel.fill("5")
        channel.press("Enter")
        wait_for_trace(page, "Layer 3.2: channel 5, row 0, column 0")
        assert "unit=5%2C0%2C0" in page.url


def test_an_activation_is_traced_with_keys_alone(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3") as page:
        page.locator(".activation h2").wait_for()
        canvas = canvas_of(page.locator('[data-operation="0.2"]'))
        canvas.focus()
        for key in ("ArrowRight", "PageDown", "ArrowDown", "Enter"):
            canvas.press(key)
        wait_for_trace(page, "Layer 0.2: channel 1, row 1, column 0")
        expect(canvas).to_be_focused()
        expect(page.locator("#spoken")).to_have_text(re.compile(r"^Layer 0\.2: channel 1, row 1, column 0: .*products?$"))


@pytest.mark.parametrize("button", ["Workbook of this activation", "Workbook of the whole network"])
def test_the_workbook_is_downloaded(chromium: Browser, lab: Served, tmp_path: Path, button: str) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3&layer=1.0&unit=0,2,3") as page:
        wait_for_trace(page, "Layer 1.0: channel 0, row 2, column 3")
        with page.expect_download() as waiting:
            page.get_by_role("button", name=button).click()
        part = "-1.0-0-2-3" if "activation" in button else ""
        assert waiting.value.suggested_filename == f"tiny-valid-3{part}.xlsx"
        waiting.value.save_as(tmp_path / "found.xlsx")
    with zipfile.ZipFile(tmp_path / "found.xlsx") as book:
        assert book.testzip() is None
        sheets = b"".join(book.read(name) for name in book.namelist() if name.startswith("xl/worksheets/sheet"))
    assert b"<f>" in sheets  # live formulas


def test_an_image_of_another_window_is_said_to_be_missing(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=own:abc&layer=0.0&unit=0,1,1") as page:
        expect(page.get_by_text("drawn or uploaded in another browser window")).to_be_visible()
        wait_for_trace(page, "Layer 0.0: channel 0, row 1, column 1")


def test_a_unit_outside_the_map_is_refused_in_words(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/trace/tiny?image=valid:3&layer=0.0&unit=0,99,1", expected="status of 400") as page:
        expect(page.get_by_role("alert")).to_contain_text("14")
