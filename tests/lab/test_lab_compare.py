"""The shipped pairs say what they show, and runs of one's own are compared in the same form."""

from __future__ import annotations

import gzip
import json
import shutil
import statistics
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest
from lab_served import Application

from convscope.lab.series import Series
from convscope.rundir import open_run
from convscope.runlog import RunLog

LARGEST = 600_000  # bytes of the package that the pairs may take


def shipped() -> dict[str, Any]:
    content = (resources.files("convscope.lab") / "pairs.json.gz").read_bytes()
    value: dict[str, Any] = json.loads(gzip.decompress(content))
    return value


def sides(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    [pair] = [pair for pair in shipped()["pairs"] if pair["id"] == name]
    bad, good = pair["sides"]
    return bad, good


def test_the_pairs_are_small_and_whole():
    content = (resources.files("convscope.lab") / "pairs.json.gz").read_bytes()
    assert len(content) < LARGEST
    pairs = json.loads(gzip.decompress(content))["pairs"]
    assert [pair["id"] for pair in pairs] == ["rate", "initialisation", "norm", "batch", "schedule"]
    for pair in pairs:
        assert {"title", "question", "explanation", "layer"} <= set(pair)
        [differs] = pair["differs"]  # one setting alone
        assert pair["sides"][0]["settings"][differs] != pair["sides"][1]["settings"][differs]
        assert pair["sides"][0]["seed"] == pair["sides"][1]["seed"]
        for side in pair["sides"]:
            assert side["state"] == "finished"
            assert side["layer"] in [layer["layer"] for layer in side["layers"]]
            for layer in side["layers"]:
                assert 60 <= len(layer["step"]) <= 200
                for counts, samples, nan, inf in zip(
                    layer["color_dim"]["counts"], layer["color_dim"]["samples"], layer["nan"], layer["inf"], strict=True
                ):
                    assert sum(counts) + nan + inf == samples
                    assert len(counts) == len(layer["color_dim"]["edges"]) - 1


@pytest.mark.parametrize("name", ["rate", "norm", "schedule"])
def test_what_collapses_collapses_and_the_other_learns(name: str):
    bad, good = sides(name)
    assert bad["accuracy"] < 0.2
    assert good["accuracy"] > 0.9
    assert bad["steps"]["loss"][-1] == pytest.approx(2.303, abs=0.02)
    assert bad["layers"][1]["near_zero"][-1] == 1  # every ReLU of the second layer is silent
    assert all(layer["near_zero"][-1] < 0.9 for layer in good["layers"])
    assert bad["layer"] == bad["layers"][1]["layer"]
    assert bad["verdict"] == "problem"
    assert good["verdict"] == "healthy"


def test_tiny_weights_make_each_layers_values_smaller():
    bad, good = sides("initialisation")
    first_steps = [layer["std"][0] for layer in bad["layers"]]
    assert all(after < before / 2 for before, after in pairwise(first_steps))
    assert good["layers"][-1]["std"][0] > 100 * bad["layers"][-1]["std"][0]
    assert all(before / 4 < after < before / 1.5 for before, after in pairwise([layer["std"][0] for layer in good["layers"]]))
    assert good["steps"]["loss"][10] < bad["steps"]["loss"][10] - 0.5  # training begins at once
    assert good["accuracy"] > bad["accuracy"]


def test_small_batches_are_noisier_and_more():
    small, large = sides("batch")
    assert small["steps"]["step"][-1] + 1 == 8 * (large["steps"]["step"][-1] + 1)
    half = len(large["steps"]["loss"]) // 2
    spread = statistics.mean(
        high - low for low, high in zip(small["steps"]["loss_low"][half:], small["steps"]["loss_high"][half:], strict=True)
    )
    jumps = statistics.mean(abs(after - before) for before, after in pairwise(large["steps"]["loss"][half:]))
    assert spread > 2 * jumps


def test_one_cycle_begins_low_and_ends_lower():
    _, good = sides("schedule")
    rates = good["steps"]["lr"]
    assert rates[0] == pytest.approx(0.06 / 25)
    assert max(rates) == pytest.approx(0.06, rel=1e-3)
    assert rates[-1] < rates[0] / 10


def test_they_are_served(application: Application):
    assert application.get("/api/compare").json == shipped()
    compressed = application.get("/api/compare", **{"accept-encoding": "gzip, br"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(compressed.body)) == shipped()


def test_runs_of_ones_own(application: Application):
    other = application.folder / "other"
    shutil.copytree(application.folder / "tiny", other)
    config = json.loads((other / "config.json").read_text())
    config["settings"]["lr"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    [pair] = application.get("/api/compare?runs=tiny,other").json["pairs"]
    assert pair["differs"] == ["lr"]
    assert [side["name"] for side in pair["sides"]] == ["tiny", "other"]
    with RunLog.read(open_run(other).log) as log:
        series = Series(200)
        assert pair["sides"][0]["steps"] == series.steps(log)
        assert pair["sides"][0]["layers"] == json.loads(json.dumps(series.layers(log)))
    for runs, message in (("tiny", "1 runs cannot be compared."), ("tiny,tiny,tiny,tiny,tiny", "5 runs cannot be compared.")):
        assert application.get(f"/api/compare?runs={runs}").message == message
