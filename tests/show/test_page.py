"""The page's text: every number is the record's, text is escaped, what is missing is said."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import page_reader
import pytest
import report_runs
from report_runs import CLASSES, CONFIG, CONFUSION, HOSTILE, make_run

from convscope.errors import RunError
from convscope.records import Evaluation, Range, StepRecord
from convscope.rundir import RunDir
from convscope.show.page import render, write_report

MOST_BESIDE_PLOTLY = 250_000  # characters of a small run's page without plotly's script


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> page_reader.Element:
    return page_reader.parse(render(make_run(tmp_path_factory.mktemp("run") / "pets")))


def section(page: page_reader.Element, identifier: str) -> page_reader.Element:
    return page.one("section", id=identifier)


def test_the_lead_says_the_result(page: page_reader.Element) -> None:
    lead = page.one("p", class_="lead")
    assert lead.text == "The network answers 90 of 96 validation images correctly (93.75 %) after 2 epochs; training took 1 min 32 s."
    assert lead.numbers == [90, 96, 90 / 96, 92.4]


def test_the_tiles_are_the_results(page: page_reader.Element) -> None:
    tiles = page.one("dl", class_="tiles")
    assert [item.text for item in tiles.all("dt")] == ["Accuracy", "Balanced accuracy", "Validation loss", "Steps", "Time", "Parameters"]
    assert tiles.numbers == [90 / 96, 0.8901234, 0.3141592, 8, 92.4, 4915]


def test_the_loss_chart_holds_every_step_and_epoch(page: page_reader.Element) -> None:
    chart = page_reader.values(page, "loss")
    traces = {trace["name"]: trace for trace in chart["data"]}
    assert traces["Training loss"]["x"] == list(range(8))
    assert traces["Training loss"]["y"] == [record.loss.mean for record in report_runs.steps()]
    assert traces["Validation loss"]["x"] == [3, 7]
    assert traces["Validation loss"]["y"] == [0.7654321, 0.3141592]


def test_findings_are_marked_on_the_loss_where_they_begin(page: page_reader.Element) -> None:
    layout = page_reader.values(page, "loss")["layout"]
    assert [(shape["type"], shape["x0"], shape["x1"]) for shape in layout["shapes"]] == [("rect", 3, 7), ("line", 3, 3), ("line", 5, 5)]
    assert [(note["x"], note["text"], note["bgcolor"]) for note in layout["annotations"]] == [(3, "1", "--problem"), (5, "2", "--warning")]
    caption = section(page, "training").all("figcaption")[0].text
    assert "Marked where it begins: 1 lr too high, step 3; 2 dead units, step 5." in caption


def test_a_hyper_parameter_that_moved_has_a_chart_and_one_that_did_not_a_sentence(page: page_reader.Element) -> None:
    rates = page_reader.values(page, "hyper-0")["data"][0]
    assert (rates["name"], rates["y"]) == ("Learning rate", [record.hyper["lr"].mean for record in report_runs.steps()])
    momentum = page_reader.values(page, "hyper-1")["data"][0]
    assert (momentum["name"], momentum["y"]) == ("Momentum (beta 1)", [record.hyper["beta1"].mean for record in report_runs.steps()])
    fixed = [p.text for p in section(page, "training").all("p")]
    assert fixed == ["The same at every step: weight decay 0.01."]


def test_groups_of_parameters_are_shown_where_they_differ(tmp_path: Path) -> None:
    hyper = [{"lr": 0.1 * i, "lr:1": 0.1 * i, "lr:2": 0.2, "weight_decay": 0.01, "weight_decay:1": 0.0} for i in range(4)]
    steps = [StepRecord(i, i, 1.0, Range.of(1.0), {name: Range.of(value) for name, value in each.items()}) for i, each in enumerate(hyper)]
    training = section(page_reader.parse(render(make_run(tmp_path / "run", steps=steps))), "training")
    assert [heading.text for heading in training.all("h3")] == ["Loss", "Learning rate"]
    fixed = "The same at every step: Learning rate, group 3 0.2, weight decay 0.01, weight decay, group 2 0."
    assert [p.text for p in training.all("p")] == [fixed]


def test_gradient_norms(page: page_reader.Element) -> None:
    assert page_reader.values(page, "gradient-norm")["data"][0]["y"] == [1.1 / (i + 1) for i in range(8)]


def test_the_table_of_epochs_is_the_log(page: page_reader.Element) -> None:
    rows = page_reader.table(page, "Losses and metrics at the end of each epoch")
    assert [cell.text for cell in rows[0]] == [
        "Epoch",
        "Steps done",
        "Training loss",
        "Validation loss",
        "Accuracy",
        "Balanced accuracy",
        "Time",
    ]
    read = [[number for cell in row for number in cell.numbers] for row in rows[1:]]
    assert read == [
        [row.epoch, row.steps, row.train_loss, row.valid_loss, *row.metrics.values(), row.seconds] for row in report_runs.epochs()
    ]
    assert [cell.text for cell in rows[2]] == ["2", "8", "0.4568", "0.3142 lowest", "93.75 %", "89.01 %", "46 s"]


def test_the_confusion_matrix_is_the_evaluation(page: page_reader.Element) -> None:
    chart = page_reader.values(page, "confusion")
    matrix = [[0] * 3 for _ in range(3)]
    for i, j, count, share in chart["cells"]:
        matrix[i][j] = count
        assert share == count / sum(CONFUSION[i])
    assert tuple(map(tuple, matrix)) == CONFUSION
    rows = page_reader.table(page, "Most frequent of 6 mistakes")
    assert [[cell.text for cell in row] for row in rows[1:]] == [
        ["dog", CLASSES[2], "3", "9.68 %"],
        [HOSTILE, CLASSES[2], "2", "6.06 %"],
        [HOSTILE, "dog", "1", "3.03 %"],
    ]


def test_classes_have_their_accuracy_and_precision(page: page_reader.Element) -> None:
    rows = page_reader.table(page, "Accuracy of each class")
    assert [cell.text for cell in rows[1]] == [HOSTILE, "33", "30", "90.91 %", "100 %"]
    read = [[number for cell in row for number in cell.numbers] for row in rows[1:]]
    assert read == [[33, 30, 30 / 33, 30 / 30], [31, 28, 28 / 31, 28 / 29], [32, 32, 1.0, 32 / 37]]


def test_a_wrong_image_shows_its_picture_and_the_answer(page: page_reader.Element) -> None:
    figure = section(page, "mistakes").one("figure")
    image = figure.one("img")
    assert base64.b64decode((image.attributes["src"] or "").removeprefix("data:image/png;base64,")) == report_runs.png(99)
    assert image.attributes["alt"] == f"dog/{HOSTILE}.png: is dog, answered {CLASSES[2]}"
    assert figure.one("figcaption").text == f"is dog, answered {CLASSES[2]}98.77 % suredog/{HOSTILE}.png"
    assert figure.numbers == [0.987654]


def test_the_data_is_its_summary(page: page_reader.Element) -> None:
    rows = page_reader.table(page, "Images of each class")
    assert [[cell.text for cell in row] for row in rows] == [
        ["Class", "Training", "Validation"],
        [HOSTILE, "101", "33"],
        ["dog", "203", "31"],
        [CLASSES[2], "307", "32"],
        ["All classes", "611", "96"],
    ]
    data = section(page, "data")
    assert len(data.all("img")) == 5
    assert [item.text for item in data.one("ul").all("li")] == ["The largest class has 3.04 times as many images as the smallest."]
    assert [[cell.text for cell in row] for row in page_reader.table(page, "Skipped files")[1:]] == [
        [f"{HOSTILE}.txt", "it is text, not an image"]
    ]
    assert [item.text for item in data.one("dl").all("dd")] == [
        "my pets",
        "1 × 28 × 28",
        "0.1307 / 0.3081",
        "rotate 7.5",
        f"{HOSTILE} 1.5, dog 1, {CLASSES[2]} 0.75",
    ]


def test_the_network_is_its_summary_with_totals(page: page_reader.Element) -> None:
    rows = page_reader.table(page, "Layers in the order of execution")
    assert [cell.text for cell in rows[1]] == ["0.0", "Conv2d", "8 × 14 × 14", "208", "208", "39,200", ""]
    assert [cell.text for cell in rows[-1]] == ["3 layers", "", "", "4,915", "4,912", "43,904", ""]
    ways = page_reader.table(page, "Operations for one image")
    assert [cell.text for cell in ways[-1]] == ["All layers", "43,904", "45,475", "90,947", "39,696", "156,800"]


def test_settings_are_all_there_and_the_command_repeats_the_run(page: page_reader.Element) -> None:
    settings = section(page, "settings")
    assert settings.one("code", id="command").text == "convscope train 'my pets' --epochs 2"
    shown = {item.one("dt").text: item.one("dd").text for group in settings.all("dl") for item in group.all("div")}
    assert shown == {
        "source": "my pets", "kind": "folder", "image size": "28", "valid pct": "0.2", "augment": "none",
        "name": "simple_cnn", "arguments: norm": "on", "arguments: channels": "8, 16",
        "epochs": "2", "batch size": "512", "lr": "0.0625", "lr source": "finder", "schedule": "one_cycle", "seed": "1234",
        "Started": "23 November 2026, 14:40 UTC", "Device": "cpu – no CUDA device was found",
        "accuracy": "0.90625", "balanced accuracy": "0.8901234", "valid loss": "0.3141592", "steps": "8", "seconds": "92.4", "verdict": "problem",
        "convscope": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "command": "train",
    }  # fmt: skip


def test_a_consequence_stands_inside_its_cause(page: page_reader.Element) -> None:
    diagnosis = section(page, "diagnosis")
    assert diagnosis.one("p", class_="line").text == "✕Problem. 2 findings in 8 steps, beginning at step 3."
    cause, effect = diagnosis.all("article")
    assert cause.one("h3").text == f"The learning rate is too high for layer {HOSTILE}."
    assert [item.text for item in cause.one("dl").all("div")] == ["update ratio0.0432", "dead channels7 of 8", f"first tensor{HOSTILE}"]
    assert cause.one("p", class_="fix").text == "What to do: Lower the learning rate to 0.006. lr=0.006"
    assert effect.one("h3").text == "Seven of eight channels are never positive."
    links = [(link.text, link.attributes["href"], link.attributes.get("data-layer")) for link in effect.all("a")]
    assert links == [("on the loss", "#training", None), ("in the layer", "#layers", "1")]
    outer = diagnosis.all("li")[0]
    assert outer.one("ol").all("article") == [effect]


def test_findings_that_cause_each_other_are_all_shown(tmp_path: Path) -> None:
    one, two = report_runs.findings()
    run = make_run(tmp_path / "run", findings=[dataclasses.replace(one, cause="dead_units"), two])
    shown = page_reader.parse(render(run)).all("article")
    assert sorted(article.one("h3").text for article in shown) == sorted([one.message, two.message])


def test_text_from_the_data_is_never_markup(page: page_reader.Element) -> None:
    assert not page.all("b", class_="cat")
    scripts = page.all("script")
    assert [script for script in scripts if "alert('x')" in script.text and script.attributes.get("type") != "application/json"] == []
    assert (
        len([script for script in scripts if script.attributes.get("type") != "application/json"]) == 3
    )  # plotly's and the page's own two


def test_the_policy_allows_no_request_and_only_the_scripts_of_the_page(page: page_reader.Element) -> None:
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"] or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = [
        base64.b64encode(hashlib.sha256(s.text.encode()).digest()).decode() for s in page.all("script") if s.attributes.get("type") is None
    ]
    assert rules == {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{value}'" for value in hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_a_reader_of_the_screen_finds_its_way(page: page_reader.Element) -> None:
    identifiers = [
        e.attributes["id"]
        for name in ("section", "div", "h2", "code", "script", "html", "button", "main")
        for e in page.all(name)
        if "id" in e.attributes
    ]
    assert len(identifiers) == len(set(identifiers))
    assert (len(page.all("main")), len(page.all("h1")), len(page.all("nav"))) == (1, 1, 1)
    assert all(image.attributes.get("alt") for image in page.all("img"))
    assert all(chart.attributes.get("aria-label") for chart in page.all("div", role="img"))
    assert all(table.one("caption").text for table in page.all("table"))
    links = [link.attributes["href"] or "" for link in page.all("a")]
    assert all(link.startswith("#") and link[1:] in identifiers for link in links)
    levels = [int(heading[1]) for heading in re.findall(r"<(h[1-6])[ >]", _without_scripts(page))]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def _without_scripts(element: page_reader.Element) -> str:
    inner = "".join("" if isinstance(c, str) or c.name == "script" else _without_scripts(c) for c in element.children)
    return f"<{element.name}>{inner}"


EMPTY = "\n".join(
    [
        "The curves of training are missing: no step was logged.",
        "The results by epoch are missing: no epoch was finished.",
        "What happened inside the layers is missing: no layer was watched.",
        "The confusion matrix and the wrong images are missing: the network was not evaluated.",
        "The data is not described: the run kept no summary of it.",
        "The network's table is missing: the run kept none.",
        "The settings are missing: the run's config.json holds none.",
    ]
)


def test_a_run_that_kept_nothing_says_so(tmp_path: Path) -> None:
    page = page_reader.parse(render(make_run(tmp_path / "bare", config={}, log=False, data=None, network=None, evaluation=None)))
    assert page.one("h1").text == "bare"
    assert page.one("p", class_="lead").text == "No step of training was recorded yet."
    assert page.one("p", class_="line").text == "?Not diagnosed. No diagnosis was kept with this run."
    assert "\n".join(item.text for item in page.one("section", class_="missing").all("li")) == EMPTY


def test_a_watched_script_has_its_curves_but_no_data_nor_answers(tmp_path: Path) -> None:
    config = {
        "schema": 1,
        "command": "watch",
        "name": "script-001",
        "argv": ["convscope", "watch", "--", "python", "train.py"],
        "status": "finished",
        "message": None,
        "result": None,
    }
    page = page_reader.parse(
        render(make_run(tmp_path / "run", config=config, data=None, network=None, evaluation=None, epochs=[], findings=[]))
    )
    assert page.one("p", class_="lead").text == "8 steps of training were recorded."
    assert page.all("section", id="training")
    assert [link.text for link in page.one("nav").all("a")] == ["Overview", "Training", "Layers", "Settings"]


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        ("running", None, "This page was written while the run was still going on."),
        ("interrupted", "Ctrl-C at step 8.", "The run was interrupted; what it had done until then is below. Ctrl-C at step 8."),
        ("failed", f"<i>{HOSTILE}</i>", f"The run failed; what it had done until then is below. <i>{HOSTILE}</i>"),
    ],
)
def test_an_unfinished_run_says_so(tmp_path: Path, status: str, message: str | None, said: str) -> None:
    run = make_run(tmp_path / "run", config=CONFIG | {"status": status, "message": message, "result": None}, evaluation=None)
    assert page_reader.parse(render(run)).one("p", class_="notice").text == said


def test_a_loss_that_is_not_a_number_is_a_gap_and_is_said(tmp_path: Path) -> None:
    lost = [StepRecord(step, step, 1.0, Range.of(math.nan if step > 5 else 2.0)) for step in range(8)]
    page = page_reader.parse(render(make_run(tmp_path / "run", steps=lost, findings=[])))
    assert page_reader.values(page, "loss")["data"][0]["y"] == [2.0] * 6 + [None] * 2
    caption = page.one("section", id="training").all("figcaption")[0].text
    assert (
        caption
        == "Training loss went from 2 at the first step to NaN at the last. It was not a finite number in 2 records, first at step 6."
    )


def test_merged_steps_show_their_range(tmp_path: Path) -> None:
    merged = [StepRecord(2 * i, 2 * i + 1, 1.0, Range(1.0 - i / 10, 2.0, 3.0, 2.5, 2)) for i in range(3)]
    traces = page_reader.values(page_reader.parse(render(make_run(tmp_path / "run", steps=merged))), "loss")["data"]
    assert [(trace["name"], trace["y"]) for trace in traces[:3]] == [
        ("least", [1.0, 0.9, 0.8]),
        ("greatest", [3.0] * 3),
        ("Training loss", [2.0] * 3),
    ]
    assert traces[2]["text"][1] == "steps 2–3: mean 2, 0.9 to 3"


def test_a_thousand_classes_stay_small_and_begin_with_the_worst(tmp_path: Path) -> None:
    n = 1000
    confusion = tuple(tuple(40 if i == j else 10 if (i, j) == (500, 501) else 0 for j in range(n)) for i in range(n))
    names = tuple(f"class {i}" for i in range(n))
    judged = Evaluation("test", 40_010, 0.1, 40_000 / 40_010, 0.99, confusion)
    run = make_run(tmp_path / "run", config=CONFIG | {"classes": list(names)}, data=None, evaluation=judged)
    text = render(run)
    page = page_reader.parse(text)
    assert len(page_reader.values(page, "confusion")["cells"]) == 1001
    assert [cell.text for cell in page_reader.table(page, "Accuracy of each class, worst first")[1]] == [
        "class 500",
        "50",
        "40",
        "80.00 %",
        "100 %",
    ]
    assert len(text) < 4_900_000 + 1_000_000


def test_the_page_is_small_beside_plotly(page: page_reader.Element) -> None:
    scripts = sorted((len(script.text) for script in page.all("script")), reverse=True)
    assert scripts[0] > 4_000_000
    assert sum(scripts[1:]) < MOST_BESIDE_PLOTLY


@pytest.mark.parametrize("name", ["config.json", "data.json", "network.json", "evaluation.json"])
def test_damaged_json_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    (run.path / name).write_text('{"schema": 1,')
    expected = (
        f"{run.path / name} is damaged and cannot be read (Expecting property name enclosed in double quotes: line 1 column 14 (char 13)). "
        "Restore the file from a copy, or train again."
    )
    with pytest.raises(RunError) as raised:
        write_report(run)
    assert str(raised.value) == expected
    assert not run.report.exists()


def test_a_directory_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        write_report(RunDir(tmp_path))
    expected = f"{tmp_path} is not a run directory: it has no config.json. A run directory is what `convscope train` or `watch` writes."
    assert str(raised.value) == expected


def test_settings_of_any_kind_are_shown(tmp_path: Path) -> None:
    config = {
        "train": {"lr": None, "extra": {"deep": {"er": 1}}},
        "classes": "nonsense",
        "result": 3,
        "versions": [1],
        "argv": "x",
        "device": "cpu",
        "odd": [1, 2],
    }
    page = page_reader.parse(render(make_run(tmp_path / "run", config=config)))
    shown = {item.one("dt").text: item.one("dd").text for group in section(page, "settings").all("dl") for item in group.all("div")}
    assert shown == {"lr": "none", "extra: deep": "{'er': 1}", "result": "3", "odd": "1, 2"}


def test_writing_replaces_the_old_page_and_needs_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.report.write_text("old")
    code = (
        "import json, sys; from pathlib import Path; from convscope.rundir import open_run; from convscope.show.page import write_report; "
        "path = write_report(open_run(sys.argv[1])); "
        "print(json.dumps([str(path), sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [str(run.report), []]
    assert run.report.read_text(encoding="utf-8") == render(run)
