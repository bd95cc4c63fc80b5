"""Things that look odd to other tools and are fine: real short runs, in which nothing more than a note may be said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from diagnose_programs import Settings, build

from convscope.diagnose import diagnose
from diagnose import watched

BASE = Settings(arch="plain5", data="mnist", train_images=1600, batch_size=16, epochs=3)  # 300 steps of 16 images


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"inputs": "unit", "schedule": "warmup"}, id="images in 0..1, warm-up"),
        pytest.param({"inputs": "imagenet", "spike": 100, "optimizer": "adam"}, id="ImageNet's normalisation, a spike that recovers"),
        pytest.param({"pretrained": True, "frozen": "backbone"}, id="frozen trained backbone"),
        pytest.param({"mixup": True, "label_smoothing": 0.1, "norm": True}, id="mixup and label smoothing"),
        pytest.param({"schedule": "one_cycle", "epochs": 8, "norm": True}, id="converged"),
        pytest.param({"optimizer": "adam", "activation": "relu", "arch": "lenet"}, id="sparse activations"),
    ],
)
def test_a_run_that_looks_odd_and_is_fine(changes: dict[str, Any]) -> None:
    steps, layers, observations = watched(build(dataclasses.replace(BASE, **changes)))
    verdict = diagnose(steps, layers, observations)
    assert [(finding.name, finding.severity) for finding in verdict.findings if finding.severity != "note"] == []
    assert verdict.verdict in ("healthy", "note")
    if changes.get("arch") == "lenet":  # more than half of what some ReLU hands on is zero, and that is no finding
        assert max(r.share_zero for r in layers if r.kind.lower() == "relu" and r.sample_count) > 0.5
    if "spike" in changes:  # one step thirty times too long, from which it comes back by itself
        assert max(s.loss.last for s in steps[100:130]) > 2 * steps[-1].loss.last
    if changes.get("epochs") == 8:  # nearly nothing is left to learn
        assert steps[-1].loss.last < 0.1
