"""Small run directories for the tests of pages: every number is chosen so that it can be told apart from every other."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

from PIL import Image

from convscope.records import (
    DataSummary,
    EpochRecord,
    Evaluation,
    Evidence,
    Finding,
    Fix,
    Histogram,
    LayerRow,
    LayerStats,
    NetworkSummary,
    Range,
    SampleImage,
    SkippedFile,
    StepRecord,
)
from convscope.rundir import RunDir
from convscope.runlog import RunLog

HOSTILE = "<script>alert('x')</script><b>&amp;\"cat\"</b>"  # as a folder or file can be called on Linux
CLASSES = (HOSTILE, "dog", "größe/🐟")
STEPS = 8

CONFIG: dict[str, Any] = {
    "schema": 1,
    "command": "train",
    "name": "pets-001",
    "created": "2026-11-23T14:40:12+00:00",
    "argv": ["/usr/local/bin/convscope", "train", "my pets", "--epochs", "2"],
    "data": {"source": "my pets", "kind": "folder", "image_size": 28, "valid_pct": 0.2, "augment": None},
    "model": {"name": "simple_cnn", "arguments": {"norm": True, "channels": [8, 16]}},
    "classes": list(CLASSES),
    "train": {"epochs": 2, "batch_size": 512, "lr": 0.0625, "lr_source": "finder", "schedule": "one_cycle", "seed": 1234},
    "device": {"name": "cpu", "reason": "no CUDA device was found"},
    "versions": {"convscope": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
    "status": "finished",
    "message": None,
    "result": {
        "accuracy": 0.90625,
        "balanced_accuracy": 0.8901234,
        "valid_loss": 0.3141592,
        "epochs": 2,
        "steps": STEPS,
        "seconds": 92.4,
        "verdict": "problem",
    },
}

CONFUSION = ((30, 1, 2), (0, 28, 3), (0, 0, 32))  # 96 images, 90 right


def png(shade: int) -> bytes:
    """A small grey PNG file."""
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def data_summary() -> DataSummary:
    return DataSummary(
        source="my pets",
        classes=CLASSES,
        counts={"train": (101, 203, 307), "valid": (33, 31, 32)},
        image_shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        samples=tuple(SampleImage(png(20 * i), CLASSES[i % 3], f"{HOSTILE}-{i}.png") for i in range(5)),
        skipped=(SkippedFile(f"{HOSTILE}.txt", "it is text, not an image"),),
        augment={"rotate": 7.5},
        class_weights=(1.5, 1.0, 0.75),
        notes=("The largest class has 3.04 times as many images as the smallest.",),
    )


def evaluation(**changes: Any) -> Evaluation:
    record = Evaluation(
        split="valid",
        count=96,
        loss=0.3141592,
        accuracy=90 / 96,
        balanced_accuracy=0.8901234,
        confusion=CONFUSION,
        wrong=(SampleImage(png(99), CLASSES[1], f"dog/{HOSTILE}.png", CLASSES[2], 0.987654),),
    )
    return dataclasses.replace(record, **changes)


def network() -> NetworkSummary:
    rows = (
        LayerRow("0.0", "Conv2d", (8, 14, 14), 208, 208, 39_200, 40_768, 79_968, 34_992, 156_800, 1),
        LayerRow("0.1", "ReLU", (8, 14, 14), 0, 0, 0, 0, 1_568, 0, 0, 1),
        LayerRow("1", "Linear", (3,), 4_707, 4_704, 4_704, 4_707, 9_411, 4_704, 0, 0, "the head"),
    )
    return NetworkSummary("simple_cnn", (1, 28, 28), rows)


def steps() -> list[StepRecord]:
    hyper = [{"lr": Range.of(0.001 * (i + 1)), "beta1": Range.of(0.95 - 0.01 * i), "weight_decay": Range.of(0.01)} for i in range(STEPS)]
    return [
        StepRecord(i, i, (i + 1) / 4, Range.of(2.3 / (i + 1) + 1 / 7), hyper[i], Range.of(1.1 / (i + 1)), Range.of(0.05))
        for i in range(STEPS)
    ]


def epochs() -> list[EpochRecord]:
    return [
        EpochRecord(1, 4, 1.2345678, 0.7654321, {"accuracy": 0.8125, "balanced_accuracy": 0.8012345}, 45.5),
        EpochRecord(2, 8, 0.4567891, 0.3141592, {"accuracy": 0.9375, "balanced_accuracy": 0.8901234}, 46.25),
    ]


def findings() -> list[Finding]:
    cause = Finding(
        "lr_too_high",
        "problem",
        "0.0",
        3,
        f"The learning rate is too high for layer {HOSTILE}.",
        Fix("Lower the learning rate to 0.006.", {"lr": 0.006}),
        (Evidence("update ratio", 0.0432), Evidence("dead channels", 7, "of 8"), Evidence("first tensor", HOSTILE)),
        "Karpathy",
    )
    effect = Finding(
        "dead_units", "warning", "0.1", 5, "Seven of eight channels are never positive.", Fix("Fix the cause first."), cause="lr_too_high"
    )
    return [cause, effect]


def layers() -> dict[str, list[LayerStats]]:
    def stats(layer: str, step: int) -> LayerStats:
        histogram = Histogram(250 - step, (1, 2, 3 + step, 4))
        zeros = Histogram(0, (5,))
        return LayerStats(
            layer,
            step,
            step,
            100,
            0.25 + step,
            100.0 * (step + 1) ** 2,
            0.0,
            3.5,
            kind="ReLU",
            sample_count=15 + step,
            zero_count=5,
            near_zero_count=6,
            histogram=histogram.merge(zeros),
            positive=b"\x07",
            channels=4,
            positive_samples=64,
            update_ratio=math.nan,
        )

    return {name: [stats(name, step) for step in range(STEPS)] for name in ("0.0", "0.1")}


def make_run(path: Path, *, config: dict[str, Any] | None = None, log: bool = True, **records: Any) -> RunDir:
    """A run directory. Records are data, network, evaluation, steps, epochs, layers and findings; None leaves one out."""
    path.mkdir(parents=True)
    run = RunDir(path)
    run.write_config(CONFIG if config is None else config)
    for name, default in (("data", data_summary), ("network", network), ("evaluation", evaluation)):
        record = records.get(name, default())
        if record is not None:
            run.keep(record)
    if log:
        with RunLog.create(run.log) as written:
            for step in records.get("steps", steps()):
                written.step(step)
            for series in records.get("layers", layers()).values():
                for stats in series:
                    written.layer(stats)
            for row in records.get("epochs", epochs()):
                written.epoch(row)
            for finding in records.get("findings", findings()):
                written.finding(finding)
    return run
