"""The Questions tab: answers of every kind right, wrong and unreadable, what is shown for them, and when they come again."""

from __future__ import annotations

import re

import pytest
from lab_pages import lab_page
from lab_served import Served
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.chromium

TOP_EDGE, BOTTOM_EDGE = (-1, -1, -1, 0, 0, 0, 1, 1, 1), (1, 1, 1, 0, 0, 0, -1, -1, -1)


def graded(page: Page) -> Locator:
    return page.locator(".graded")


def answered(lab: Served, number: int) -> int:
    """How often the learner's own file says that a question was answered."""
    times: int = lab.ask(f"/api/questions/{number}")[1]["answered"]
    return times


def test_a_number_wrong_and_then_right_is_shown_rated_and_comes_again(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/3") as page:
        field = page.get_by_label("Your answer")
        field.fill("9")
        page.keyboard.press("Enter")
        expect(graded(page)).to_have_text("✕Not so. You say 9; computed: 9.5.")
        page.get_by_role("button", name="Try once more").click()
        expect(field).to_be_focused()
        field.fill("4 + 5 + 1 - 1 + 0.5")
        page.keyboard.press("Enter")
        expect(graded(page)).to_have_text("✓Right. You say 9.5; computed: 9.5.")

        shown = page.locator(".demonstration")
        expect(shown.locator("table.matrix").first.locator("td")).to_have_text(["0", "0", "−1", "0", "0", "0", "1", "4", "5"])
        expect(shown.locator(".wrong-answers .said")).to_have_text("“multiplication”")
        assert answered(lab, 3) == 0, "nothing is noted before it is rated"
        page.keyboard.press("4")
        expect(page.locator(".rate")).to_contain_text(re.compile(r"Noted: easy\. This question comes again in \d+ days\."))
        assert answered(lab, 3) == 1
        expect(page.get_by_role("link", name=re.compile("^Question 3, kernels, comes again in"))).to_have_class("known")
        expect(page.get_by_role("button", name="Next question")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".kicker")).to_contain_text("Question 1 ")


def test_a_kernel_is_graded_by_running_it(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/2") as page:

        def answer(numbers: tuple[int, ...]) -> None:
            page.get_by_label("Row 1, column 1").focus()
            for place, number in enumerate(numbers):
                page.keyboard.type(str(number))
                page.keyboard.press("ArrowRight" if place % 3 < 2 else "ArrowDown")
                if place % 3 == 2 and place < 8:
                    page.keyboard.press("ArrowLeft")
                    page.keyboard.press("ArrowLeft")
            page.get_by_role("button", name="Check").click()

        answer(BOTTOM_EDGE)
        expect(graded(page)).to_contain_text("Not so. It does not answer top edges with a positive number: top edge -3")
        page.get_by_role("button", name="Try once more").click()
        answer(TOP_EDGE)
        expect(graded(page)).to_contain_text("Right. It detects top edges: top edge 3, bottom edge -3, left edge 0, right edge 0")
        expect(page.get_by_role("application", name=re.compile("^its top edges: 26 rows, 26 columns"))).to_be_visible()
        picture = page.get_by_role("application", name=re.compile("^the digit"))
        picture.focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".demonstration .figure .tip").first).to_have_text("0row 0, column 0")


def test_a_choice_from_the_keyboard(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/38") as page:
        page.get_by_role("heading", level=1).focus()
        page.keyboard.press("a")
        expect(page.get_by_role("radio").first).to_be_checked()
        page.keyboard.press("c")
        page.keyboard.press("Enter")
        expect(graded(page)).to_contain_text("Right. c is right.")


def test_what_cannot_be_read_counts_for_nothing(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/8", expected="status of 422") as page:
        field = page.get_by_label("Your answer")
        field.fill("many")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("?A shape is asked for: whole numbers, such as 2, 3, 4.")
        expect(field).to_have_value("many")
        expect(field).to_be_editable()
        expect(page.locator(".rate")).to_have_count(0)


def test_a_text_is_rated_by_the_learner_with_the_answer_beside(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/12") as page:
        page.get_by_label("Your answer").fill("Less to get wrong.")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".explanation")).to_be_visible()
        expect(page.get_by_role("group", name="How well did you know it?").get_by_role("button")).to_have_count(4)
        page.get_by_role("button", name="Good").click()
        expect(page.locator(".rate")).to_contain_text("Noted: good.")
        assert answered(lab, 12) == 1


def test_hints_come_one_by_one_and_make_a_right_answer_hard(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/15") as page:
        hint = page.get_by_role("button", name="Hint")
        hint.click()
        expect(page.locator(".hints li")).to_have_count(1)
        hint.click()
        expect(page.locator(".hints li")).to_have_count(2)
        expect(hint).to_be_hidden()
        page.get_by_label("Your answer").fill("18432")
        page.keyboard.press("Enter")
        expect(graded(page)).to_contain_text("Right.")
        expect(page.locator(".ratings .primary")).to_contain_text("Hard")


def test_an_answer_that_is_being_typed_survives_a_reload(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/7") as page:
        page.get_by_label("Your answer").fill("[[i for i in range(2)]")
        page.reload()
        expect(page.get_by_label("Your answer")).to_have_value("[[i for i in range(2)]")


def test_the_map_is_walked_with_the_arrow_keys(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/questions/5") as page:
        page.get_by_role("link", name=re.compile("^Question 5,")).focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("link", name=re.compile("^Question 6,"))).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".kicker")).to_contain_text("Question 6 ")
        page.go_back()
        expect(page.locator(".kicker")).to_contain_text("Question 5 ")
