"""Kernel, in a real browser: what is shown for an edited kernel is torch's conv2d, place by place and as a matrix."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lab_maps import number, value_at
from lab_pages import lab_page, wait_until
from lab_served import Served
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d

from convscope.data.shipped import read_mnist

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def seven() -> Tensor:
    """The page's first image."""
    return torch.tensor(read_mnist("t10k").images_NCHW[0]).float() / 255


def output_of(page: Page, shape: str) -> None:
    """Wait until the output has a shape, such as 1×26×26."""
    expect(page.locator(".before-after figcaption").nth(1)).to_have_text(f"output, {shape}")


def type_kernel(page: Page, kernel: list[list[float]]) -> None:
    for i, row in enumerate(kernel):
        for j, value in enumerate(row):
            page.get_by_label(f"row {i}, column {j}", exact=True).fill(str(value))


def check_place(page: Page, output: Tensor, place: tuple[int, int, int]) -> None:
    """One place of the output by the arrow keys: its value, its products and their sum."""
    grid = page.locator(".before-after .maps").nth(1)
    expected = float(output[place])
    wait_until(page, lambda: value_at(grid, place) == pytest.approx(expected, rel=1e-4, abs=1e-5), f"{expected} at {place}")
    expect(page.locator(".place-sum").locator("xpath=..").locator("p").first).to_have_text(
        re.compile(rf"row {place[1]}, column {place[2]}\b")
    )
    total, value = (float(page.locator(f".place-sum .{name}").get_attribute("value") or "") for name in ("total", "value"))
    assert total == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_typed_kernel_gives_what_conv2d_gives(chromium: Browser, lab: Served, seven: Tensor) -> None:
    kernel = [[0.5, -1, 2], [0, 1.25, -0.75], [3, 0, -2]]
    with lab_page(chromium, lab, "/kernel") as page:
        output_of(page, "1×26×26")
        type_kernel(page, kernel)
        page.get_by_role("spinbutton", name="Bias").fill("-0.5")
        page.get_by_role("spinbutton", name="Stride").fill("2")
        page.get_by_role("spinbutton", name="Padding").fill("1")
        output_of(page, "1×14×14")
        assert page.locator(".facts code").all_text_contents() == ["floor((28 + 2·1 − 1·(3 − 1) − 1) / 2) + 1 = 14"] * 2
        output = conv2d(seven[None], torch.tensor([[kernel]]), torch.tensor([-0.5]), stride=2, padding=1)[0]
        for place in ((0, 0, 0), (0, 5, 6), (0, 13, 13)):
            check_place(page, output, place)
        page.wait_for_url(re.compile("stride=2"))
        page.reload()
        output_of(page, "1×14×14")
        expect(page.get_by_label("row 2, column 0", exact=True)).to_have_value("3")
        check_place(page, output, (0, 5, 6))


def test_named_kernels_of_both_sizes_with_dilation(chromium: Browser, lab: Served, seven: Tensor) -> None:
    with lab_page(chromium, lab, "/kernel") as page:
        output_of(page, "1×26×26")
        page.get_by_role("combobox", name="Kernel").select_option("sobel_vertical")
        page.get_by_role("spinbutton", name="Dilation").fill("2")
        output_of(page, "1×24×24")
        sobel = torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]])
        check_place(page, conv2d(seven[None], sobel, dilation=2)[0], (0, 8, 12))
        page.get_by_label("5×5").check()
        output_of(page, "1×20×20")
        expect(page.get_by_label("row 0, column 0", exact=True)).to_have_value("0")
        expect(page.get_by_label("row 2, column 1", exact=True)).to_have_value("-2")


def test_colours_and_several_filters(chromium: Browser, lab: Served) -> None:
    discs = [
        ((torch.arange(48)[:, None] - top) ** 2 + (torch.arange(48)[None] - left) ** 2 < 14**2).float()
        for top, left in ((17, 24), (30, 16), (30, 32))
    ]
    with lab_page(chromium, lab, "/kernel?image=ready:colours") as page:
        output_of(page, "1×46×46")
        page.get_by_role("button", name="Add one").click()
        output_of(page, "2×46×46")
        page.get_by_label("each its own").check()
        page.get_by_label("green").check()
        type_kernel(page, [[0, 1, 0], [1, -4, 1], [0, 1, 0]])
        top_edge, laplacian = torch.tensor([[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]]), torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
        weight = torch.stack([torch.stack([top_edge] * 3), torch.stack([top_edge, laplacian, top_edge])])
        output = conv2d(torch.stack(discs)[None], weight)[0]
        check_place(page, output, (1, 16, 20))
        check_place(page, output, (0, 4, 24))
        expect(page.locator(".facts")).to_contain_text("2 × 3 × 3 × 3 = 54, and 2 biases")


def test_the_matrix_has_a_row_for_every_output(chromium: Browser, lab: Served, seven: Tensor) -> None:
    top_edge = torch.tensor([[[[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]]]])
    small = conv2d(adaptive_avg_pool2d(seven, 6)[None], top_edge)[0, 0]
    with lab_page(chromium, lab, "/kernel") as page:
        view = page.locator(".matrix-view").locator("xpath=..")
        expect(view.locator("p").first).to_have_text("16×36 matrix: 144 of 576 places hold one of 9 weights, the other 75.0% are zero.")
        value_at(view.locator(".maps").nth(1), (0, 1, 3))
        said = view.get_by_role("status").text_content() or ""
        found = re.fullmatch(
            r"Row 7 of the matrix times the flattened image is the output's row 1, column 3: (\S+)\. It looks at 9 of 36 pixels\.", said
        )
        assert found, said
        assert number(found[1]) == pytest.approx(float(small[1, 3]), rel=1e-5)
        matrix = view.locator(".maps").nth(2)
        assert value_at(matrix, (0, 7, 9)) == -1  # output (1, 3) begins at pixel (1, 3), the tenth of the flattened image
        assert "one of 16 places tied to it" in (matrix.locator("[aria-live]").text_content() or "")


def test_what_is_no_number_is_marked_and_changes_nothing(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/kernel") as page:
        output_of(page, "1×26×26")
        cell = page.get_by_label("row 1, column 1", exact=True)
        cell.fill("x")
        expect(cell).to_have_attribute("aria-invalid", "true")
        output_of(page, "1×26×26")
        cell.fill("2")
        expect(cell).to_have_attribute("aria-invalid", "false")
        expect(page.get_by_role("combobox", name="Kernel")).to_have_value("")  # the learner's own now


def test_a_kernel_that_does_not_fit_is_refused_in_words(chromium: Browser, lab: Served) -> None:
    with lab_page(chromium, lab, "/kernel?image=ready:dot", expected="status of 400") as page:
        output_of(page, "1×13×13")
        page.get_by_label("5×5").check()
        page.get_by_role("spinbutton", name="Dilation").fill("4")
        expect(page.get_by_role("alert").first).to_contain_text("it must fit")


def test_an_uploaded_image_is_used_as_it_is_in_grey_and_in_colour(chromium: Browser, lab: Served, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    with lab_page(chromium, lab, "/kernel") as page:
        output_of(page, "1×26×26")
        page.get_by_label("Upload", exact=True).check()
        page.get_by_label("An image file, or drop one here").set_input_files(tmp_path / "noise.png")
        output_of(page, "1×18×22")
        page.get_by_label("in colour: three channels").check()
        expect(page.locator(".before-after figcaption").first).to_have_text("image, 3×20×24")
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        top_edge = torch.tensor([[[[-1.0, -1, -1], [0, 0, 0], [1, 1, 1]]]]).expand(1, 3, 3, 3)
        check_place(page, conv2d(image, top_edge)[0], (0, 11, 7))
