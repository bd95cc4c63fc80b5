"""A kernel of one's own: output, size, partial sums, matrix and products equal PyTorch's and each other."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_served import Application
from PIL import Image

from convscope.arithmetic import apply_kernel
from convscope.arithmetic.kernels import KERNELS, named
from convscope.lab import kernels

TOP = [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]


def values(array: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(array["data"]), "<f4").reshape(array["shape"]).copy()


def nobody(run: str, image: object) -> Any:
    raise AssertionError(run)


def test_the_named_kernels_and_images(application: Application):
    answer = application.get("/api/kernels").json
    assert {one["name"]: one["kernel"] for one in answer["kernels"]} == {name: kernel.tolist() for name, kernel in KERNELS.items()}
    for image in answer["images"]:
        applied = application.post("/api/kernel", {"image": {"name": image["name"]}, "kernel": [[1]]}).json
        assert applied["image"]["shape"] == image["shape"]
        assert (values(applied["output"])[0] == values(applied["image"]).sum(0)).all() or len(values(applied["image"])) > 1
        assert 0 <= applied["image"]["low"] < applied["image"]["high"] <= 1


def test_the_digits_are_what_they_are_called():
    from convscope.data.shipped import read_mnist

    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert {name: words[int(read_mnist("t10k").labels_N[place])] for name, place in kernels.DIGITS.items()} == {
        name: name for name in kernels.DIGITS
    }


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_kernel_equals_pytorch_the_loops_and_the_matrix(data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(kernels.IMAGES)))
    colour = name == "colours"
    stride, padding, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3)), data.draw(st.integers(1, 2))
    rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    numbers = st.floats(-3, 3, width=32)
    matrix = data.draw(st.lists(st.lists(numbers, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    fields = {
        "image": {"name": name, "crop": 9},
        "kernel": matrix,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "bias": [0.25],
    }
    answer = kernels.apply(fields, nobody)
    image, kernel = torch.from_numpy(values(answer["image"])), torch.tensor(matrix, dtype=torch.float32)
    weight = kernel.expand(1, len(image), rows, columns)
    expected = F.conv2d(image[None], weight, torch.tensor([0.25]), stride, padding, dilation)[0]
    assert answer["size"] == list(expected.shape[1:])
    assert answer["formula"]["rows"].endswith(f"= {expected.shape[1]}")
    assert answer["formula"]["columns"].endswith(f"= {expected.shape[2]}")
    torch.testing.assert_close(torch.from_numpy(values(answer["output"])), expected)
    if dilation == 1 and not colour:
        torch.testing.assert_close(
            apply_kernel(image[0], kernel, stride=stride, padding=padding)[0] + 0.25, expected[0], rtol=1e-5, atol=1e-5
        )
    if colour:
        torch.testing.assert_close(torch.from_numpy(values(answer["partial"])).sum(1) + 0.25, expected, rtol=1e-5, atol=1e-5)
    if answer["matrix"]:
        product = torch.from_numpy(values(answer["matrix"]["data"])) @ image.reshape(-1)
        torch.testing.assert_close(product.reshape(expected.shape) + 0.25, expected, rtol=1e-5, atol=1e-5)
        ties, dense = values(answer["matrix"]["ties"]), values(answer["matrix"]["data"])
        assert (dense[ties < 0] == 0).all()
        assert (dense[ties >= 0] == weight.reshape(-1).numpy()[ties[ties >= 0].astype(int)]).all()
    place = {
        "filter": 0,
        "row": data.draw(st.integers(0, expected.shape[1] - 1)),
        "column": data.draw(st.integers(0, expected.shape[2] - 1)),
    }
    pixel = kernels.pixel({**fields, **place}, nobody)
    assert len(pixel["terms"]) == len(image) * rows * columns
    assert sum(term["product"] for term in pixel["terms"]) + pixel["bias"] == pytest.approx(pixel["total"], abs=1e-6)
    assert pixel["value"] == pytest.approx(float(expected[0, place["row"], place["column"]]), abs=1e-6)
    assert pixel["total"] == pytest.approx(pixel["value"], abs=1e-5)
    padded = F.pad(image, (padding,) * 4)
    for term in pixel["terms"]:
        channel, row, column = term["unit"]
        assert term["value"] == float(padded[channel, row + padding, column + padding])
        assert term["padding"] is not (0 <= row < image.shape[1] and 0 <= column < image.shape[2])
    inside = [term["unit"][1:] for term in pixel["terms"] if not term["padding"]]
    if inside and dilation == 1:
        window = pixel["window"]
        assert (window["top"], window["left"]) == (min(row for row, _ in inside), min(column for _, column in inside))
        assert (window["bottom"], window["right"]) == (max(row for row, _ in inside), max(column for _, column in inside))


def test_filters_with_channels_of_their_own(application: Application):
    random = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).round(3).tolist()
    answer = application.post("/api/kernel", {"image": {"name": "colours"}, "kernel": random, "bias": [1, -1], "padding": 1}).json
    image = torch.from_numpy(values(answer["image"]))
    expected = F.conv2d(image[None], torch.tensor(random), torch.tensor([1.0, -1.0]), padding=1)[0]
    torch.testing.assert_close(torch.from_numpy(values(answer["output"])), expected)
    assert answer["partial"]["shape"] == [2, 3, 48, 48]
    assert answer["matrix"] is None  # 4,608 × 6,912 places


def test_images_of_a_run_and_uploads(application: Application):
    answer = application.post(
        "/api/kernel", {"image": {"run": "tiny", "valid": 2}, "kernel": named("identity").tolist(), "padding": 1}
    ).json
    assert (values(answer["output"]) == values(answer["image"])).all()
    assert (values(answer["image"]) * 255 == values(application.post("/api/runs/tiny/inside", {"image": {"valid": 2}}).json["image"])).all()
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    assert application.post("/api/kernel", {"image": {"png": png}, "kernel": TOP}).json["image"]["shape"] == [1, 128, 128]
    small = application.post("/api/kernel", {"image": {"png": png, "crop": 8}, "kernel": TOP}).json
    assert (small["image"]["shape"], small["image_note"]) == ([1, 8, 8], "made 8×8 by averaging areas")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": None}, '"kernel" is null, which cannot be meant.'),
        ({"kernel": [[1, 2], [3]]}, '"kernel" is [[1, 2], [3]], which cannot be meant.'),
        ({"kernel": [["a"]]}, '"kernel" is [["a"]], which cannot be meant.'),
        ({"kernel": [[1e9]]}, '"kernel" is [[1000000000.0]], which cannot be meant.'),
        ({"kernel": [[0] * 16] * 16}, "There are 1 filters of 16×16 numbers, which is too many."),
        ({"kernel": [[[[1]], [[1]]]]}, "The kernel has 2 channels and the image 1."),
        ({"bias": [1, 2]}, "There are 2 biases for 1 filters."),
        ({"stride": 0}, '"stride" is 0, which cannot be meant.'),
        ({"padding": 1.5}, '"padding" is 1.5, which cannot be meant.'),
        ({"image": {"name": "nothing"}}, "There is no such image."),
        (
            {"image": {"name": "dot"}, "dilation": 16},
            "The kernel reaches over 33 places and the input with its padding has 15; it must fit.",
        ),
    ],
)
def test_what_cannot_be_meant_is_told(application: Application, change: dict[str, object], message: str):
    answer = application.post("/api/kernel", {"image": {"name": "seven"}, "kernel": TOP, **change})
    assert (answer.status in (400, 404), answer.message) == (True, message)
