"""The page that compares runs: what differs, and every number as in the runs."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import page_reader
import pytest
import report_runs
from playwright.sync_api import Browser
from report_runs import CONFIG, HOSTILE, make_run

from convscope.errors import RunError, UsageError
from convscope.records import Range, StepRecord
from convscope.rundir import RunDir
from convscope.show.compare import distinct, write_comparison

OTHER = [StepRecord(i, i, 0.0, Range.of(5.0 - i), {"lr": Range.of(0.5)}) for i in range(4)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunDir]:
    folder = tmp_path_factory.mktemp("runs")
    config = copy.deepcopy(CONFIG)
    config["train"] |= {"lr": 0.5, "schedule": "constant", "clip": 1.0}
    config["result"] = {"accuracy": 0.25, "valid_loss": 2.302, "epochs": 1, "steps": 4, "seconds": 3.5, "verdict": "healthy"}
    layers = {"0.0": report_runs.layers()["0.0"][:2]}
    second = make_run(
        folder / "two", config=config | {"name": HOSTILE}, evaluation=None, steps=OTHER, epochs=[], findings=[], layers=layers
    )
    third = make_run(folder / "three", config={}, data=None, network=None, evaluation=None, log=False)
    return [make_run(folder / "one"), second, third]


@pytest.fixture(scope="module")
def page(runs: list[RunDir], tmp_path_factory: pytest.TempPathFactory) -> page_reader.Element:
    path = tmp_path_factory.mktemp("out") / "comparison.html"
    assert write_comparison(runs, path) == path
    return page_reader.parse(path.read_text(encoding="utf-8"))


def text(rows: list[list[page_reader.Element]]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]


def test_results_are_the_runs(page: page_reader.Element) -> None:
    assert page.one("h1").text == "Comparison of 3 runs"
    assert page.one("p", class_="lead").text == f"pets-001 has the highest accuracy, 93.75 %; the lowest is 25.00 % ({HOSTILE})."
    rows = page_reader.table(page, "What came out of each run")
    assert text(rows)[1:] == [
        ["pets-001", "93.75 % highest", "89.01 %", "0.3142", "2", "8", "1 min 32 s", "4,915", "finished"],
        [HOSTILE, "25.00 %", "–", "2.302", "1", "4", "3.5 s", "4,915", "finished"],
        ["three", "–", "–", "–", "–", "–", "–", "–", "–"],
    ]
    assert [number for cell in rows[1] for number in cell.numbers] == [90 / 96, 0.8901234, 0.3141592, 2, 8, 92.4, 4915]


def test_only_settings_that_differ_are_shown_first(runs: list[RunDir], tmp_path: Path) -> None:
    page = page_reader.parse(write_comparison(runs[:2], tmp_path / "two.html").read_text(encoding="utf-8"))
    assert text(page_reader.table(page, "Settings that differ")) == [
        ["Setting", "pets-001", HOSTILE],
        ["train: lr", "0.0625", "0.5"],
        ["train: schedule", "one_cycle", "constant"],
        ["train: clip", "–", "1.0"],
    ]
    same = text(page_reader.table(page, "Settings that are the same"))
    assert ["train: seed", "1234"] in same
    assert ["classes", "3"] in same


def test_curves_are_overlaid(page: page_reader.Element) -> None:
    training = page_reader.values(page, "loss")["data"]
    assert [trace["name"] for trace in training] == [
        "pets-001",
        "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&lt;b&gt;&amp;amp;&quot;cat&quot;&lt;/b&gt;",
    ]
    assert (training[1]["x"], training[1]["y"]) == ([0, 1, 2, 3], [5.0, 4.0, 3.0, 2.0])
    assert page_reader.values(page, "valid-loss")["data"][0]["y"] == [0.7654321, 0.3141592]
    assert [trace["y"] for trace in page_reader.values(page, "rates")["data"]] == [
        [r.hyper["lr"].mean for r in report_runs.steps()],
        [0.5] * 4,
    ]


def test_verdicts_stand_side_by_side(page: page_reader.Element) -> None:
    cards = page.one("section", id="verdicts").all("article")
    assert [card.one("p").text for card in cards] == ["✕Problem", "✓Healthy", "?Not diagnosed"]
    assert cards[0].all("li")[1].text == "dead units from step 5: Seven of eight channels are never positive."


def test_statistics_of_layers_stand_side_by_side(page: page_reader.Element) -> None:
    rows = page_reader.table(page, "Last statistics of each layer")
    last, second = report_runs.layers()["0.0"][-1], report_runs.layers()["0.0"][1]
    assert [number for cell in rows[1] for number in cell.numbers] == [
        last.mean, last.std, last.share_near_zero, second.mean, second.std, second.share_near_zero,
    ]  # fmt: skip
    assert text(rows)[2] == ["0.1", "7.25 ± 8", "27.27 %", "–", "–", "–", "–"]


def test_names_are_told_apart() -> None:
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


def test_one_run_is_not_a_comparison(runs: list[RunDir], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        write_comparison(runs[:1], tmp_path / "page.html")
    assert str(raised.value) == "A comparison needs at least two runs; it got 1. Give two or more run directories."


def test_a_missing_run_is_an_error(runs: list[RunDir], tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        write_comparison([runs[0], RunDir(tmp_path / "none")], tmp_path / "page.html")
    expected = (
        f"{tmp_path / 'none'} is not a run directory: it has no config.json. A run directory is what `convscope train` or `watch` writes."
    )
    assert str(raised.value) == expected


def test_it_needs_no_torch() -> None:
    code = "import sys, convscope.show.compare; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.chromium
def test_it_draws_in_a_browser_and_fits_a_phone(chromium: Browser, runs: list[RunDir], tmp_path: Path) -> None:
    path = write_comparison(runs, tmp_path / "page.html")
    page = chromium.new_page(viewport={"width": 360, "height": 740})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.chart .main-svg').length >= 3")
    pictures = (
        "[...document.querySelectorAll('[data-strip]')].map((strip) => [...strip.children].map((one) => one.getAttribute('aria-label')))"
    )
    assert page.evaluate(pictures) == [
        ["Layer 0.0, ReLU: lr too high from step 3", "Layer 0.1, ReLU: dead units from step 5"],
        ["Layer 0.0, ReLU"],
    ]
    assert (complaints, page.evaluate("document.documentElement.scrollWidth")) == ([], 360)
    page.close()
