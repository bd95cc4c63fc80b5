"""The collapse run and the healthy run: their figures' data stay what they were, and tell the two apart."""

import json

import make
import numpy
import pytest

REPEATED = 9  # steps that are trained again: three points of the curves, one column of the pictures
MEAN, STD, LOSS = 0.05, 0.05, 0.02  # in standard deviations; relative; relative: another processor rounds differently
NEAR_ZERO = 6.0  # percentage points: of samples of one or two thousand values in runs of neighbours; which ones are looked at may change


@pytest.mark.parametrize("name", make.RUNS)
def test_the_first_steps_repeat_the_golden_ones(name):
    golden, watch = make.golden(name), make.train(name, REPEATED).activation_stats.watcher
    now = make.figure_data(watch.layers(), REPEATED // 3, REPEATED // 9)
    assert [record.loss.last for record in watch.steps()] == pytest.approx(golden["loss"][:REPEATED], rel=LOSS)
    assert list(now) == list(golden["layers"])
    for layer, expected in golden["layers"].items():
        drawn = {key: numpy.array([now[layer][key], expected[key][:3]]) for key in make.STATISTICS}
        assert numpy.diff(drawn["mean"], axis=0) == pytest.approx(0, abs=MEAN * drawn["std"].max()), layer
        assert drawn["std"][0] == pytest.approx(drawn["std"][1], rel=STD), layer
        assert numpy.diff(drawn["near_zero"], axis=0) == pytest.approx(0, abs=NEAR_ZERO), layer
        (column,) = now[layer]["color_dim"]
        looked_at = numpy.mean([record.sample_count for record in watch.layers()[layer]])
        assert sum(column) == pytest.approx(looked_at, rel=0.01), layer  # every value is in the picture


def test_the_figures_tell_the_two_runs_apart():
    collapse, healthy = make.golden("collapse"), make.golden("healthy")
    assert min(collapse["loss"][-20:]) > 2.29  # guessing among ten digits costs log(10) = 2.303
    assert max(healthy["loss"][-20:]) < 0.2
    for run, dead in ((collapse, True), (healthy, False)):
        inner = {name: layer for name, layer in run["layers"].items() if layer["kind"] == "ReLU" and name[0] != "0"}
        assert len(inner) == 3
        for layer in inner.values():
            assert (min(layer["near_zero"][-10:]) > 95) is dead
            assert (max(layer["std"][-10:]) < 0.1) is dead
            at_zero = [column[int(layer["color_dim_ticks"]["0"])] / sum(column) for column in layer["color_dim"][-3:]]
            assert (min(at_zero) > 0.95) is dead


@pytest.mark.parametrize("name", make.RUNS)
def test_the_files_hold_whole_runs_and_plain_json(name):
    text = (make.HERE / f"{name}.json").read_text(encoding="utf-8")
    golden = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert (golden["run"], len(golden["loss"])) == (name, make.STEPS)
    for layer in golden["layers"].values():
        assert [len(layer[key]) for key in make.STATISTICS] == [make.POINTS] * 3
        assert len(layer["color_dim"]) == make.COLUMNS
