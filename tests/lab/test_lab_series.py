"""Logs as series: what a page ends up with after any number of readings is what the log holds; bands are those of a run's own page."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy
import pytest

from convscope.columns import LayerColumns
from convscope.lab.series import Bands, Series, layer_values
from convscope.records import Histogram, LayerStats, Range, StepRecord, bin_edges
from convscope.runlog import RunLog
from convscope.show.page.layer_values import layer_values as page_values


def step(number: int) -> StepRecord:
    return StepRecord(
        number,
        number,
        number / 10,
        Range.of(math.sin(number)),
        {"lr": Range.of(0.1 / (number + 1)), "beta1": Range.of(0.9)},
        Range.of(number),
    )


def stats(number: int, name: str = "0.1", reach: float = 1.0) -> LayerStats:
    values = numpy.random.default_rng(number).normal(0, reach, 64)
    counts = [0] * 4000
    for value in values:
        octave = math.floor(math.log2(abs(value)))
        index = 2 * (octave + 126) + (1 if abs(value) < 1.5 * 2**octave else 2)
        counts[2000 + (index if value > 0 else -index)] += 1
    used = [place for place, count in enumerate(counts) if count]
    histogram = Histogram(used[0] - 2000, tuple(counts[used[0] : used[-1] + 1]))
    mean = float(values.mean())
    m2 = float(((values - mean) ** 2).sum())
    return LayerStats(
        name, number, number, 64, mean, m2, float(values.min()), float(values.max()), kind="ReLU", sample_count=64, histogram=histogram
    )


class Page:
    """The rule of the contract, as the page applies it: rows from an event's first step on are replaced, all of them when it restarts."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[int, dict[str, Any]]] = {}
        self.restarts = 0

    def take(self, name: str, event: dict[str, Any] | None) -> None:
        if event is None:
            return
        event = {**event, **event.get("color_dim", {})}
        held = self.rows.setdefault(name, {})
        self.restarts += event["restart"]
        kept = {} if event["restart"] else {first: row for first, row in held.items() if first < event["first"][0]}
        columns = [key for key, value in event.items() if isinstance(value, list) and key != "edges"]
        for place, first in enumerate(event["first"]):
            kept[first] = {key: event[key][place] for key in columns}
        self.rows[name] = kept


@pytest.mark.parametrize("seed", range(6))
def test_a_page_that_reads_now_and_then_holds_what_the_log_holds(seed: int):
    chance = random.Random(seed)
    log, series, page = RunLog.create(capacity=40), Series(most_rows=15), Page()
    for number in range(chance.randrange(20, 300)):
        log.step(step(number))
        log.layer(stats(number, reach=1 + number / 20))
        if chance.random() < 0.15:
            log.flush()
            page.take("steps", series.steps(log))
            for event in series.layers(log):
                page.take("layer", event)
    log.flush()
    page.take("steps", series.steps(log))
    for event in series.layers(log):
        page.take("layer", event)
    assert series.steps(log) is None
    assert series.layers(log) == []

    fresh, whole = Page(), Series(most_rows=15)
    fresh.take("steps", whole.steps(log))
    for event in whole.layers(log):
        fresh.take("layer", event)
    assert len(page.rows["steps"]) <= 15
    steps = list(page.rows["steps"].values())
    assert steps[0]["first"] == 0
    assert steps[-1]["step"] == number
    for before, after in itertools.pairwise(steps):  # no gap, no overlap
        assert after["first"] == before["step"] + 1
    assert page.rows["layer"] == fresh.rows["layer"]
    for row, other in zip(steps, fresh.rows["steps"].values(), strict=True):
        assert {k: pytest.approx(v) for k, v in row.items()} == other


def test_values_are_the_records_own():
    log = RunLog.create()
    for number in range(5):
        log.step(step(number))
    log.flush()
    event = Series().steps(log)
    assert event is not None
    assert event["restart"] is True
    assert (event["first"], event["step"]) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert event["loss"] == event["loss_low"] == event["loss_high"] == [math.sin(number) for number in range(5)]
    assert event["lr"] == [0.1 / (number + 1) for number in range(5)]
    assert event["momentum"] == [0.9] * 5
    assert event["gradient_norm"] == [0, 1, 2, 3, 4]


def test_numbers_that_are_not_finite_are_null():
    log = RunLog.create()
    log.step(StepRecord(0, 0, math.nan, Range.of(math.nan)))
    log.layer(LayerStats("0", 0, 0, 0, math.nan, 0.0, math.nan, math.nan, sample_count=0))
    log.flush()
    event = Series().steps(log)
    assert event is not None
    assert (event["loss"], event["lr"], event["gradient_norm"]) == ([None], [None], [None])
    [layer] = Series().layers(log)
    assert (layer["mean"], layer["std"], layer["near_zero"]) == ([None], [None], [None])


@pytest.mark.parametrize("reach", [1e-9, 0.01, 1.0, 300.0, 1e6, 1e30])
def test_bands_are_those_of_the_runs_own_page(reach: float):
    records = [stats(number, reach=reach) for number in range(7)]
    columns, bands = LayerColumns.of(records), Bands()
    bands.grow(columns)
    values = layer_values(columns, bands)
    [expected] = page_values({"0.1": records})["layers"]
    assert values["color_dim"]["counts"] == expected["counts"]
    assert values["color_dim"]["samples"] == expected["samples"]
    inner = values["color_dim"]["edges"]
    assert inner == pytest.approx(expected["edges"])
    assert values["mean"] == pytest.approx(expected["mean"], rel=1e-4)
    assert values["std"] == pytest.approx(expected["std"], rel=1e-4)


def test_a_layer_begins_anew_when_its_values_outgrow_the_picture():
    log, series = RunLog.create(), Series()
    log.layer(stats(0, reach=0.1))
    log.flush()
    [first] = series.layers(log)
    log.layer(stats(1, reach=0.01))
    log.flush()
    [second] = series.layers(log)
    log.layer(stats(2, reach=1000.0))
    log.flush()
    [third] = series.layers(log)
    assert [event["restart"] for event in (first, second, third)] == [True, False, True]
    assert [len(event["first"]) for event in (first, second, third)] == [1, 2, 3]
    counts = third["color_dim"]["counts"]
    assert [sum(row) for row in counts] == third["color_dim"]["samples"] == [64, 64, 64]
    assert {len(row) for row in counts} == {len(third["color_dim"]["edges"]) - 1}
    assert third["color_dim"]["edges"] == sorted(third["color_dim"]["edges"])
    assert bin_edges(0)[1] < third["color_dim"]["edges"][-1]
