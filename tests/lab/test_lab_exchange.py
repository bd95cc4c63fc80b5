"""JSON in and out: bodies read with bounds, fields checked, arrays exact, and what the form of Train becomes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_served import Application

from convscope.errors import UsageError
from convscope.lab import jobs
from convscope.lab.exchange import Refused, array, flag, number, query_whole, text, whole
from convscope.lab.jobs import INITS, Jobs, settings_from
from convscope.lab.runs import DEFAULTS, RunsFolder
from convscope.nn.build import MODELS
from convscope.nn.init import SCHEMES
from convscope.train.schedules import Schedule
from convscope.train.settings import TrainSettings


def test_arrays_keep_every_bit():
    numbers = np.array([[1.5, -0.0, 3e-45], [np.nan, np.inf, -7.25]], np.float32)
    sent = json.loads(json.dumps(array(numbers)))
    assert (sent["shape"], sent["low"], sent["high"]) == ([2, 3], -7.25, 1.5)
    assert base64.b64decode(sent["data"]) == numbers.tobytes()
    assert array(np.zeros((0, 3)))["low"] == array(np.full(3, np.nan))["high"] == 0.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"3",
        b"nonsense",
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_objects_are_refused(application: Application, body: bytes):
    answer = application.post("/api/train", raw=body)
    assert answer.status == 400
    assert answer.message in ("The request's body is not JSON.", "The request's body is not a JSON object.")


def test_fields():
    fields: dict[str, Any] = {"one": 1, "half": 0.5, "two": 2.0, "yes": True, "word": "x", "list": [1]}
    assert whole(fields, "one", 0, 5) == 1
    assert whole(fields, "two", 0, 5) == 2
    assert whole(fields, "none", 0, 5, 4) == 4
    assert number(fields, "half", 0, 1) == 0.5
    assert flag(fields, "yes", False) is True
    assert text(fields, "word", 1) == "x"
    for check in (
        lambda: whole(fields, "half", 0, 5),
        lambda: whole(fields, "yes", 0, 5),
        lambda: whole(fields, "none", 0, 5),
        lambda: whole(fields, "one", 2, 5),
    ):
        with pytest.raises(Refused):
            check()
    for name in ("yes", "word", "list", "none"):
        with pytest.raises(Refused):
            number(fields, name, 0, 1)
    for value in ("xy", 3, "\0", "\ud800", None):
        with pytest.raises(Refused):
            text({"word": value}, "word", 1)
    assert query_whole({"a": "12"}, "a", 0, 99, 5) == 12
    for wrong in ("-1", "100", "1e3", "", "٣", "9" * 5000):
        with pytest.raises(Refused):
            query_whole({"a": wrong}, "a", 0, 99, 5)


def test_what_the_page_can_choose_is_what_there_is():
    assert tuple(MODELS) == jobs.MODELS
    assert tuple(SCHEMES) == INITS
    for schedule in jobs.SCHEDULES:
        Schedule(schedule, 0.1)  # type: ignore[arg-type]
    assert settings_from(DEFAULTS) == TrainSettings("mnist", model="simple_cnn")


def test_the_form_becomes_a_command(tmp_path: Path):
    fields = {
        "data": str(tmp_path),
        "model": "small_resnet",
        "epochs": 3,
        "batch_size": 64,
        "lr": 0.05,
        "norm": True,
        "init": "kaiming_normal",
    }
    fields |= {"schedule": "constant", "seed": 7, "weight_decay": 0, "clip_norm": 1, "augment": False, "label_smoothing": 0.1}
    assert settings_from(fields).command() == [
        *(
            "convscope",
            "train",
            str(tmp_path),
            "--model",
            "small_resnet",
            "--epochs",
            "3",
            "--batch-size",
            "64",
            "--lr",
            "0.05",
            "--seed",
            "7",
        ),
        *(
            "--no-augment",
            "--init",
            "kaiming_normal",
            "--weight-decay",
            "0",
            "--label-smoothing",
            "0.1",
            "--clip-norm",
            "1",
            "--schedule",
            "constant",
        ),
    ]
    assert settings_from({"data": "mnist", "norm": False}).command() == ["convscope", "train", "mnist", "--no-norm"]
    assert settings_from({"data": "mnist", "lr": "auto", "model": None, "init": ""}).command() == ["convscope", "train", "mnist"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, '"data" is null, which cannot be meant.'),
        ({"data": "digits"}, "There is no folder or file 'digits'."),
        ({"data": "/no/such/place"}, "There is no folder or file '/no/such/place'."),
        ({"data": "--help"}, "There is no folder or file '--help'."),
        ({"data": "mnist", "epochs": 0}, '"epochs" is 0, which cannot be meant.'),
        ({"data": "mnist", "lr": 0}, '"lr" is 0, which cannot be meant.'),
        ({"data": "mnist", "lr": "fast"}, '"lr" is "fast", which cannot be meant.'),
        ({"data": "mnist", "schedule": "cyclic"}, '"schedule" is "cyclic", which cannot be meant.'),
        ({"data": "mnist", "model": "vgg"}, '"model" is "vgg", which cannot be meant.'),
        ({"data": "mnist", "model": "small_resnet", "norm": False}, "Only simple_cnn can be built without batch norm."),
        ({"data": "mnist", "out": "/tmp"}, "There is no setting 'out'."),
    ],
)
def test_settings_that_cannot_be_meant(fields: dict[str, object], message: str):
    with pytest.raises(Refused) as refused:
        settings_from(fields)
    assert refused.value.message == message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("data", "taken", "name"),
    [("mnist", [], "mnist-001"), ("mnist", ["mnist-007", "mnist-x"], "mnist-008"), ("/a/_My data!", [], "My-data-001")],
)
def test_runs_are_named_as_on_the_command_line(tmp_path: Path, data: str, taken: list[str], name: str, monkeypatch: pytest.MonkeyPatch):
    for old in taken:
        (tmp_path / old).mkdir()
    started: list[list[str]] = []
    monkeypatch.setattr(Jobs, "_run", lambda self, name, words, before=None: started.append(words))
    assert Jobs(RunsFolder(tmp_path)).start(TrainSettings(data)) == name
    assert started == [["train", data, "--out", str(tmp_path), "--name", name]]


def test_new_settings_are_checked_and_told():
    with pytest.raises(UsageError, match=r"^--schedule cyclic is unknown; give one_cycle, cosine or constant\.$"):
        TrainSettings("mnist", schedule="cyclic")  # type: ignore[arg-type]
    assert TrainSettings("mnist", norm=False).command() == ["convscope", "train", "mnist", "--no-norm"]
