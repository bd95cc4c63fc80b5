"""Inside, in a real browser: images picked, drawn and uploaded; answers, activations and kernels as the library has them."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from lab_maps import canvas_of, said_at, value_at
from lab_pages import lab_page, wait_until
from lab_served import Served
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect

from convscope.records import Network
from convscope.tracing import executed
from convscope.train.inspect import image_of
from convscope.train.predict import Classifier, load_classifier

pytestmark = pytest.mark.chromium

FAINTEST = 8  # of 255: ink, in the page's drawing.js


@pytest.fixture(scope="module")
def classifier(lab: Served) -> Classifier:
    return load_classifier(lab.folder / lab.run)


def network_of(classifier: Classifier, image: str) -> Network:
    pixels = torch.from_numpy(image_of(classifier, image))
    return executed(classifier.model, pixels, (classifier.preprocess.mean, classifier.preprocess.std))


def wait_for_answer(page: Page) -> str:
    page.locator(".prediction").wait_for()
    return page.locator(".prediction").text_content() or ""


def mnist_centred(ink: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """MNIST's fitting and centring, pixel by pixel: the box around the ink averaged into at most 20x20, its mass to the middle of 28x28."""
    rows, columns = np.nonzero(ink >= FAINTEST)
    box = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(float)
    factor = 20 / max(box.shape)
    high, wide = (max(1, int(size * factor + 0.5)) for size in box.shape)
    fine = np.kron(box, np.ones((high, wide)))  # every part of a pixel that a smaller one takes is a whole number of these
    small = fine.reshape(high, box.shape[0], wide, box.shape[1]).mean(axis=(1, 3))
    mass = small.sum()
    down = (small.sum(1) * (np.arange(high) + 0.5)).sum() / mass
    along = (small.sum(0) * (np.arange(wide) + 0.5)).sum() / mass
    top, left = (min(max(int(np.floor(14 - at + 0.5)), 0), 28 - size) for at, size in ((down, high), (along, wide)))
    image = np.zeros((28, 28))
    image[top : top + high, left : left + wide] = small
    return image


def pixels_of(png: str) -> npt.NDArray[np.uint8]:
    """The grey values of a PNG in base64."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))


INK = """() => {
  const board = document.querySelector("canvas.board"), { data } = board.getContext("2d").getImageData(0, 0, board.width, board.height);
  return Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]);
}"""


def test_a_drawn_digit_is_centred_as_in_mnist_and_predicted(chromium: Browser, lab: Served, classifier: Classifier) -> None:
    sent: list[str] = []

    def keep(request: Request) -> None:
        if request.url.endswith("/inside") and "png" in (request.post_data or ""):
            sent.append(json.loads(request.post_data or "")["image"]["png"])

    with lab_page(chromium, lab, "/inside/tiny") as page:
        wait_for_answer(page)
        page.on("request", keep)
        page.get_by_label("Draw", exact=True).check()
        board = page.locator("canvas.board")
        board.scroll_into_view_if_needed()
        box = board.bounding_box()
        assert box
        side = box["width"]
        for stroke in ([(0.15, 0.2), (0.5, 0.15)], [(0.5, 0.15), (0.45, 0.4), (0.3, 0.62)]):  # a small 7, away from the middle
            (x, y), *further = stroke
            page.mouse.move(box["x"] + x * side, box["y"] + y * side)
            page.mouse.down()
            for x, y in further:
                page.mouse.move(box["x"] + x * side, box["y"] + y * side, steps=8)
            page.mouse.up()
        expect(page.locator(".answer .hint")).to_contain_text("your drawing")
        expect(page.get_by_text("fitted and centred as MNIST's digits were")).to_be_visible()
        ink = np.array(page.evaluate(INK), dtype=np.uint8).reshape(280, 280)
        expected = mnist_centred(ink)

        def all_sent() -> bool:
            return bool(sent) and float(np.abs(pixels_of(sent[-1]) - expected).max()) <= 0.51  # rounded to whole numbers

        wait_until(page, all_sent, "the whole drawing to be sent")
        pixels = pixels_of(sent[-1])
        said = classifier.predict_one(pixels)
        expect(page.locator(".prediction")).to_have_text(said.label)
        expect(page.locator(".says span").first).to_have_text(f"{100 * said.confidence:.2f} %")
        expect(page).to_have_url(re.compile("own%3A"))  # written once the drawing has come to rest
        address = page.url
        page.reload()  # the drawing is kept as long as this tab lives
        assert wait_for_answer(page) == said.label
        assert page.url == address


def test_a_digit_is_drawn_with_keys_alone(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/inside/tiny") as page:
        wait_for_answer(page)
        page.get_by_label("Draw", exact=True).check()
        board = page.get_by_role("application", name="Drawing board")
        board.focus()
        for key in ("Space", *["ArrowDown"] * 14, "Space"):
            board.press(key)
        expect(page.locator(".answer .hint")).to_contain_text("your drawing")
        ink = np.array(page.evaluate(INK)).reshape(280, 280)
        assert ink[70:205, 140].min() == 255
        assert ink[:, :120].max() == 0
        board.press("Delete")
        assert max(page.evaluate(INK)) == 0


def test_an_uploaded_image_is_predicted_as_by_the_library(chromium: Browser, lab: Served, classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    Image.fromarray(image_of(classifier, "valid:7")[0]).save(path)
    with lab_page(chromium, lab, "/inside/tiny") as page:
        wait_for_answer(page)
        page.get_by_label("Upload", exact=True).check()
        page.get_by_label("An image file, or drop one here").set_input_files(path)
        expect(page.locator(".answer .hint")).to_contain_text("digit.png")
        assert wait_for_answer(page) == classifier.predict_one(path).label


def test_a_file_that_is_no_image_is_refused_in_words(chromium: Browser, lab: Served, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no image")
    with lab_page(chromium, lab, "/inside/tiny") as page:
        page.get_by_label("Upload", exact=True).check()
        page.get_by_label("An image file, or drop one here").set_input_files(path)
        expect(page.get_by_role("alert")).to_have_text("notes.png cannot be read as an image.")


def test_every_value_that_is_read_is_the_networks(chromium: Browser, lab: Served, classifier: Classifier) -> None:
    network = network_of(classifier, "valid:3")
    with lab_page(chromium, lab, "/inside/tiny?image=valid:3") as page:
        wait_for_answer(page)
        for name, place in (
            ("pixels", (0, 14, 9)),
            ("input", (0, 14, 9)),
            ("0.0", (2, 3, 4)),
            ("0.2", (7, 13, 13)),
            ("2.1", (20, 1, 3)),
            ("3.2", (63, 1, 0)),
        ):
            grid = page.locator(f'[data-operation="{name}"] .maps')
            assert value_at(grid, place) == pytest.approx(float(network.by_name[name].values[0][place]), rel=1e-5), name
        probabilities = torch.from_numpy(network.by_name[network.output].values[0]).softmax(0)
        shown = page.locator(".bars li").all_text_contents()
        assert [text.removesuffix(" %") for text in shown] == [
            f"{label}{100 * share:.1f}" if share >= 0.0005 else f"{label}< 0.1"
            for label, share in zip(classifier.classes, probabilities.tolist(), strict=True)
        ]


def test_before_and_after_the_activation_are_told_apart_and_dead_maps_counted(
    chromium: Browser, lab: Served, classifier: Classifier
) -> None:
    network = network_of(classifier, "valid:5")
    with lab_page(chromium, lab, "/inside/tiny?image=valid:5") as page:
        wait_for_answer(page)
        for block in range(4):
            chips = [page.locator(f'[data-operation="{block}.{step}"] .chip').text_content() for step in range(3)]
            assert chips == ["before the activation", "before the activation", "after the activation"]
            values = network.by_name[f"{block}.2"].values[0]
            dead = int((values == 0).all(axis=(1, 2)).sum())
            said = page.locator(f'[data-operation="{block}.2"] .silence')
            assert said.is_visible() == bool(dead)
            if dead:
                assert (said.text_content() or "").startswith(f"∅ {dead} of {len(values)} maps ")
        page.get_by_label("after the activation only").check()
        expect(page.locator('[data-operation="1.0"]')).to_be_hidden()
        expect(page.locator('[data-operation="1.2"]')).to_be_visible()


def test_kernels_are_the_weights(chromium: Browser, lab: Served, classifier: Classifier) -> None:
    weights = classifier.model.state_dict()
    with lab_page(chromium, lab, "/inside/tiny") as page:
        wait_for_answer(page)
        rows = page.locator(".kernels")
        assert value_at(rows.nth(0).locator(".maps"), (5, 4, 1)) == pytest.approx(float(weights["0.0.weight"][5, 0, 4, 1]), rel=1e-5)
        rows.nth(1).get_by_label("kernel", exact=True).fill("11")
        said = said_at(rows.nth(1).locator(".maps"), (6, 2, 0))
        assert "kernel 11, for channel 6, row 2, column 0" in said
        assert float(said.split(", ")[0].replace("−", "-")) == pytest.approx(float(weights["1.0.weight"][11, 6, 2, 0]), rel=1e-5)


def test_mistakes_can_be_looked_for(chromium: Browser, lab: Served, classifier: Classifier) -> None:
    with lab_page(chromium, lab, "/inside/tiny") as page:
        wait_for_answer(page)
        thumbs = page.locator(".thumb")
        expect(thumbs).to_have_count(24)
        page.get_by_label("mistakes").check()
        expect(page.locator(".thumb:not(:has(.wrong-answer))")).to_have_count(0)
        index = int(thumbs.first.get_attribute("data-index") or "")
        thumbs.first.click()
        expect(page.locator(".answer .hint")).to_contain_text(f"validation image {index}.")
        expect(page.locator(".says .chip")).to_have_class("chip wrong")
        assert wait_for_answer(page) == classifier.predict_one(image_of(classifier, f"valid:{index}")).label


def test_a_click_on_an_activation_traces_it(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/inside/tiny?image=valid:3") as page:
        wait_for_answer(page)
        canvas = canvas_of(page.locator('[data-operation="0.2"]'))
        canvas.scroll_into_view_if_needed()
        canvas.click(position={"x": 6 * 5 + 3, "y": 15 + 6 * 2 + 3})  # a name of 15 pixels, cells of 6
        expect(page.get_by_role("heading", level=2)).to_have_text("Layer 0.2: channel 0, row 2, column 5")
        expect(page.get_by_role("tab", selected=True)).to_have_text("Trace")
        page.go_back()
        wait_for_answer(page)


STRANGE = """async () => {
  const { colourBar, extent, shader, SIGNED } = await import("/static/js/shades.js");
  const bar = colourBar(), ends = extent(new Float32Array([NaN, -1, 2, Infinity, -Infinity])), shade = shader(SIGNED, ends);
  document.querySelector("main").append(bar.element);
  bar.show({ style: SIGNED, ends, counts: ends });
  return { ends, said: bar.element.innerText.split("\\n"), shades: [NaN, Infinity, -Infinity, 0].map((value) => shade(value).join()) };
}"""


def test_what_is_no_number_has_a_colour_and_a_count_of_its_own(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/inside/tiny") as page:
        wait_for_answer(page)
        found = page.evaluate(STRANGE)
        assert found["ends"] == {"low": -1, "high": 2, "nan": 1, "infinite": 2}
        assert [line for line in found["said"] if line.strip()] == ["−1", "0", "2", "1 not a number, 2 infinite"]
        nan, above, below, zero = found["shades"]
        assert nan == above == below != zero


def test_the_ends_of_a_colour_bar_are_the_least_and_greatest_value(chromium: Browser, lab: Served, classifier: Classifier) -> None:
    network = network_of(classifier, "valid:3")
    with lab_page(chromium, lab, "/inside/tiny?image=valid:3") as page:
        wait_for_answer(page)
        for name in ("0.0", "1.1", "3.2"):
            values = network.by_name[name].values
            said = page.locator(f'[data-operation="{name}"] .colour-key > span').all_text_contents()
            ends = [float(said[place].replace("−", "-")) for place in (0, 2)]
            assert ends == [pytest.approx(float(edge), rel=5e-3, abs=1e-9) for edge in (values.min(), values.max())]
