"""A network looked into through the API: every number is the library's own, and the fields are those of the products behind a unit."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from lab_served import Application
from PIL import Image

from convscope.data.shipped import read_mnist
from convscope.lab.network import Networks
from convscope.records import to_json
from convscope.rundir import open_run
from convscope.tracing import executed, trace_executed, unfold_executed
from convscope.train.inspect import trace_run
from convscope.train.predict import load_classifier


def values(array: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(array["data"]), "<f4").reshape(array["shape"])


def post(application: Application, part: str, body: object) -> Any:
    answer = application.post(f"/api/runs/tiny/{part}", body)
    assert answer.status == 200, answer.body[:500]
    return answer.json


@pytest.fixture(scope="module")
def network(application: Application):
    classifier = load_classifier(application.folder / "tiny")
    pixels = read_pixels(3)
    return classifier, executed(classifier.model, torch.from_numpy(pixels.copy()), (classifier.preprocess.mean, classifier.preprocess.std))


def read_pixels(index: int) -> np.ndarray[Any, Any]:
    """The tiny run's validation image: those of a folder are ordered by class, then by file name."""
    found = read_mnist("t10k")
    order = sorted(range(60), key=lambda place: (int(found.labels_N[place]), f"{place}.png"))
    return found.images_NCHW[order[index]]


def test_inside_shows_every_operation_with_its_values(application: Application, network):
    classifier, executed_network = network
    answer = post(application, "inside", {"image": {"valid": 3}})
    assert (values(answer["image"]) == read_pixels(3)).all()
    assert answer["output"] == executed_network.output
    assert [layer["name"] for layer in answer["layers"]] == [node.name for node in executed_network.nodes]
    for layer, node in zip(answer["layers"], executed_network.nodes, strict=True):
        assert (layer["kind"], layer["inputs"], layer["shape"]) == (node.kind, list(node.inputs), list(node.shape))
        assert (values(layer["maps"]) == node.values.reshape(node.shape)).all()
        assert layer["shown"] == node.shape[0]
    kernels = {layer["name"]: layer["kernels"] for layer in answer["layers"] if layer["kernels"]}
    assert kernels == {"0.0": [8, 1, 5, 5], "1.0": [16, 8, 3, 3], "2.0": [32, 16, 3, 3], "3.0": [64, 32, 3, 3], "4.0": [10, 64, 3, 3]}
    predicted = classifier.predict_one(read_pixels(3))
    assert (answer["prediction"], answer["confidence"]) == (predicted.label, predicted.confidence)
    assert [one["probability"] for one in answer["probabilities"]] == list(predicted.probabilities)
    assert answer["label"] == "0"


def test_a_drawn_image_is_prepared_as_in_training(application: Application):
    picture = Image.fromarray(read_pixels(7)[0]).resize((56, 56), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    answer = post(application, "inside", {"image": {"png": base64.b64encode(buffer.getvalue()).decode()}})
    classifier = load_classifier(application.folder / "tiny")
    assert (values(answer["image"]) == classifier.preprocess.from_image(picture)).all()
    assert answer["label"] is None


@pytest.mark.parametrize(
    ("layer", "unit"), [("0.0", [2, 5, 6]), ("1.2", [3, 0, 6]), ("3.0", [63, 1, 0]), ("4.1", [9, 0, 0]), ("5", [3]), ("input", [0, 3, 3])]
)
def test_a_trace_is_the_librarys(application: Application, network, layer: str, unit: list[int]):
    answer = post(application, "trace", {"image": {"valid": 3}, "layer": layer, "unit": unit})
    expected = json.loads(json.dumps(to_json(trace_executed(network[1], layer, unit))))
    assert {name: answer[name] for name in expected} == expected
    assert (answer["terms_left_out"], answer["left_out_sum"]) == (0, 0.0)


def test_without_a_unit_the_answer_is_traced(application: Application):
    answer = post(application, "trace", {"image": {"valid": 3}})
    found = trace_run(application.folder / "tiny", "valid:3")
    assert (answer["answer"], answer["layer"], answer["unit"]) == (found.answer, found.trace.layer, list(found.trace.unit))
    assert answer["total"] == found.trace.total


@pytest.mark.parametrize(
    ("layer", "unit"), [("0.0", (0, 0, 0)), ("1.0", (2, 3, 6)), ("1.2", (0, 6, 0)), ("2.0", (5, 1, 2)), ("3.2", (1, 1, 1)), ("5", (2,))]
)
def test_fields_hold_every_unit_that_a_product_came_from(application: Application, network, layer: str, unit: Sequence[int]):
    """The slow reference: unfold the unit into all products down to the pixels and box the units that stand in them."""
    answer = post(application, "trace", {"image": {"valid": 3}, "layer": layer, "unit": list(unit)})
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for trace in unfold_executed(network[1], layer, unit):
        boxes.setdefault(trace.layer, []).append(trace.unit)
        for term in trace.terms:
            boxes.setdefault(term.source, []).append(term.unit)
    checked = 0
    for name, units in boxes.items():
        places = [place[1:] for place in units if len(place) == 3]
        if not places:
            continue
        rows, columns = zip(*places, strict=True)
        assert answer["fields"][name] == {"top": min(rows), "left": min(columns), "bottom": max(rows), "right": max(columns)}, name
        checked += 1
    assert checked >= 2
    assert answer["fields"]["pixels"] == answer["receptive_field"]


def test_kernels_and_biases(application: Application, network):
    answer = application.get("/api/runs/tiny/kernels/1.0").json
    layer = network[0].model.get_submodule("1.0")
    assert (values(answer["kernels"]) == layer.weight.detach().numpy()).all()
    assert answer["bias"] == layer.bias.tolist()
    missing = application.get("/api/runs/tiny/kernels/0.1")
    assert (missing.status, missing.json["error"]) == (
        404,
        {"message": "There are no kernels in layer '0.1'.", "hint": "Layers with kernels: 0.0, 1.0, 2.0, 3.0, 4.0."},
    )


def test_images_with_predictions_and_filters(application: Application, network):
    classifier, _ = network
    everything = application.get("/api/runs/tiny/images?count=60").json
    assert (everything["count"], len(everything["images"])) == (60, 60)
    for image in everything["images"]:
        content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(content)))[None]
        assert (pixels == read_pixels(image["index"])).all()
    predicted = classifier.predict([read_pixels(index) for index in range(60)])
    assert [image["predicted"] for image in everything["images"]] == [one.label for one in predicted]
    sevens = application.get("/api/runs/tiny/images?label=7&count=60").json
    expected = [image["index"] for image in everything["images"] if image["label"] == "7"]
    assert ([image["index"] for image in sevens["images"]], sevens["count"]) == (expected, len(expected))
    assert application.get("/api/runs/tiny/images?label=7&count=1&first=1").json["images"][0]["index"] == expected[1]
    wrong = application.get("/api/runs/tiny/images?wrong=1&count=60").json
    assert [image["index"] for image in wrong["images"]] == [
        image["index"] for image in everything["images"] if image["predicted"] != image["label"]
    ]
    assert application.get("/api/runs/tiny/images?label=x").message == "There is no class 'x'."


def test_the_workbook_of_a_unit(application: Application):
    answer = application.post("/api/runs/tiny/workbook", {"image": {"valid": 3}, "layer": "1.0", "unit": [0, 1, 1]})
    assert answer.status == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="tiny.xlsx"'
    names = zipfile.ZipFile(io.BytesIO(answer.body)).namelist()
    assert "xl/workbook.xml" in names


@pytest.mark.parametrize(
    ("part", "body", "status", "message"),
    [
        ("inside", {}, 400, '"image" is not an object.'),
        ("inside", {"image": {"valid": 60}}, 400, '"valid" is 60, which cannot be meant.'),
        ("inside", {"image": {}}, 400, '"png" is not text.'),
        ("trace", {"image": {"valid": 0}, "layer": "1.0"}, 400, '"layer" and "unit" belong together.'),
        ("trace", {"image": {"valid": 0}, "layer": 3, "unit": [0]}, 400, '"layer" is 3, which cannot be meant.'),
        ("trace", {"image": {"valid": 0}, "layer": "1.0", "unit": [0, 7, 0]}, 400, None),
        ("trace", {"image": {"valid": 0}, "layer": "1.9", "unit": [0, 0, 0]}, 404, None),
    ],
)
def test_what_cannot_be_answered_is_told(application: Application, part: str, body: object, status: int, message: str | None):
    answer = application.post(f"/api/runs/tiny/{part}", body)
    assert answer.status == status
    assert message is None or answer.message == message


def test_a_run_without_weights_yet(application: Application):
    run = application.folder / "young"
    run.mkdir()
    (run / "config.json").write_text((application.folder / "tiny" / "config.json").read_text())
    answer = application.get("/api/runs/young/images")
    assert (answer.status, answer.message) == (409, "young has no weights yet.")


def test_networks_are_kept_until_their_weights_change(application: Application):
    networks, run = Networks(), open_run(application.folder / "tiny")
    first = networks.of(run)
    assert networks.of(run) is first
    picture = first.picture({"image": {"valid": 1}})
    assert first.network(picture) is first.network(picture)
    content = run.weights.read_bytes()
    run.weights.unlink()
    run.weights.write_bytes(content)
    assert networks.of(run) is not first
