"""The pictures of the layers: every element looked at is in one row, and the numbers are the records'."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import page_reader
import pytest
import report_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser
from report_runs import HOSTILE, make_run

from convscope.records import Finding, Fix, Histogram, LayerStats, bin_edges, to_json
from convscope.runlog import merge_all
from convscope.show.page import render, write_report
from convscope.show.page.layer_values import banded, belongs, fewer, layer_values


def stats(step: int, histogram: Histogram, *, nan: int = 0, inf: int = 0, layer: str = "0") -> LayerStats:
    looked_at = histogram.total + nan + inf
    return LayerStats(
        layer, step, step, looked_at, 0.0, 1.0, -1.0, 1.0, sample_count=looked_at, nan_count=nan, inf_count=inf, histogram=histogram
    )


histograms = st.builds(Histogram, st.integers(-510, 400), st.lists(st.integers(0, 9), max_size=110).map(tuple))


@given(st.lists(st.tuples(histograms, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_every_element_is_in_the_row_of_its_value(records: list[tuple[Histogram, int, int]]) -> None:
    series = [stats(step, histogram, nan=nan, inf=inf) for step, (histogram, nan, inf) in enumerate(records)]
    layer = layer_values({"0": series})["layers"][0]
    edges = layer["edges"]
    assert edges == sorted(set(edges))
    assert -edges[len(edges) - 1 - [e > 0 for e in edges[::-1]].index(False)] == next(e for e in edges if e > 0) == 2.0**-7
    for column, record in enumerate(series):
        expected = [0] * (len(edges) - 1)
        for index, count in enumerate(record.histogram.counts, record.histogram.first):
            centre = sum(bin_edges(index)) / 2  # of one bin, which no edge cuts
            row = next((i for i in range(len(edges) - 1) if edges[i] <= centre < edges[i + 1]), None)
            if count:
                assert row is not None
                expected[row] += count
        assert layer["counts"][column] == expected
        assert sum(expected) + layer["nan"][column] + layer["inf"][column] == layer["samples"][column]
    assert len(edges) - 1 <= 2 * 32 + 1


def test_bands_of_a_histogram() -> None:
    two_to_the_minus_seven = 2 * (126 - 7) + 1  # the bin [2^-7, 1.5 * 2^-7)
    histogram = Histogram(two_to_the_minus_seven - 2, (1, 2, 4, 8, 16))
    assert banded(histogram, 0, 3, 1) == [3, 4, 8, 16]
    assert banded(Histogram(-two_to_the_minus_seven - 1, (5, 7, 9)), 2, 0, 1) == [5, 7, 9]
    assert banded(histogram, 0, 2, 2) == [3, 12, 16]


def test_long_logs_and_deep_networks_stay_small() -> None:
    series = [stats(step, Histogram(250, (1, 2, step % 5))) for step in range(2000)]
    few = layer_values({"0": series})["layers"][0]
    assert (len(few["counts"]), few["first"][0], few["last"][-1]) == (223, 0, 1999)
    assert sum(few["samples"]) == sum(record.sample_count for record in series)
    many = layer_values({str(i): series[:200] for i in range(150)})["layers"]
    assert {len(layer["counts"]) for layer in many} == {40}


def test_the_numbers_are_the_records(tmp_path: Path) -> None:
    page = page_reader.parse(render(make_run(tmp_path / "run")))
    first, second = page_reader.values(page, "layers")["layers"]
    series = report_runs.layers()["0.0"]
    assert (first["name"], first["type"], first["channels"]) == ("0.0", "ReLU", 4)
    assert first["mean"] == [record.mean for record in series]
    assert first["std"] == [record.std for record in series]
    assert first["near"] == [record.share_near_zero for record in series]
    assert first["silent"] == [[3]] * 8
    assert [(mark["place"], mark["step"]) for mark in first["marks"]] == [(1, 3)]
    assert [(mark["place"], mark["step"]) for mark in second["marks"]] == [(2, 5)]
    rows = page_reader.table(page, "Every layer's output at its last recorded steps")
    last = series[-1]
    assert [number for cell in rows[1] for number in cell.numbers] == [
        last.mean, last.std, last.minimum, last.maximum, last.share_near_zero, 1, 0, None,
    ]  # fmt: skip


def test_channels_are_shown_as_when_they_were_last_looked_at() -> None:
    looked = [(0, b"\0"), (64, b"\x05"), (0, b"\0"), (0, b"\0"), (128, b"\x04")]  # images, and a bit for each of three channels
    series = [
        dataclasses.replace(stats(i, Histogram(250, (1,))), channels=3, positive_samples=n, positive=mask)
        for i, (n, mask) in enumerate(looked)
    ]
    layer = layer_values({"0": series})["layers"][0]
    assert layer["silent"] == [[], [1], [1], [1], [0, 1]]
    assert layer["images"] == [0, 64, 64, 64, 128]


def test_numbers_that_are_not_finite_are_gaps() -> None:
    lost = dataclasses.replace(stats(0, Histogram(), nan=5), mean=math.nan, minimum=math.nan, maximum=math.nan)
    layer = layer_values({HOSTILE: [lost]})["layers"][0]
    assert (layer["mean"], layer["least"], layer["counts"], layer["nan"]) == ([None], [None], [[0]], [5])
    assert "<" not in layer["name"]


@pytest.mark.parametrize(
    ("where", "answer"), [("2.0", True), ("2.0.weight", True), ("2.0.1.weight", False), ("2", False), ("2.01", False), ("", False)]
)
def test_a_finding_belongs_to_its_layer(where: str, answer: bool) -> None:
    assert belongs(Finding("dead_units", "note", where, 0, "", Fix("")), "2.0") is answer


def test_fewer_records_are_the_mergers_of_neighbours() -> None:
    series = report_runs.layers()["0.1"]
    assert fewer(series, 8) is series
    assert [(record.first_step, record.last_step) for record in fewer(series, 3)] == [(0, 2), (3, 5), (6, 7)]
    assert to_json(fewer(series, 3)) == to_json([merge_all(series[:3]), merge_all(series[3:6]), merge_all(series[6:])])


@pytest.mark.chromium
def test_a_layer_is_chosen_and_its_steps_are_read(chromium: Browser, tmp_path: Path) -> None:
    path = write_report(make_run(tmp_path / "run"))
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    numbers = page.locator("#layer-numbers")
    assert page.locator("#layer-name").text_content() == "Layer 0.0, ReLU"
    at_the_finding = (
        "Step 3: mean 3.25, spread 4. Of 18 values looked at: from 0 to 3.5, near zero 33.3 %, exactly zero 27.8 %. "
        "1 of 4 channels were not positive once in the 64 images last looked at."
    )
    assert numbers.text_content() == at_the_finding
    page.locator("#layer-step").press("ArrowRight")
    assert (numbers.text_content() or "").startswith("Step 4: mean 4.25")
    page.get_by_role("button", name="Layer 0.1, ReLU: dead units from step 5").press("Enter")
    assert page.locator("#layer-name").text_content() == "Layer 0.1, ReLU"
    page.get_by_role("link", name="in the layer").first.press("Enter")
    assert numbers.text_content() == at_the_finding
    page.get_by_role("link", name="in the layer").last.press("Enter")
    box = page.locator("#layer-picture .nsewdrag").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.94, box["y"] + box["height"] / 2)
    page.wait_for_function("document.getElementById('layer-numbers').textContent.startsWith('Step 7: mean 7.25')")
    shares = page.evaluate("document.getElementById('layer-histogram').data[0].x")
    assert [share for share in shares if share] == [5 / 22, 1 / 22, 2 / 22, 10 / 22, 4 / 22]
    assert complaints == []
    page.close()
