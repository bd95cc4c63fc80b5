"""What a page is made of: everything that it reads from a run directory, in one value.

Receives a RunDir, returns `Contents`; draws nothing. Every part but the settings may be missing: a run can be interrupted before its
evaluation, and a watched script has no data summary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convscope.diagnose import diagnose
from convscope.records import (
    DataSummary,
    EpochRecord,
    Evaluation,
    Finding,
    LayerStats,
    NetworkSummary,
    NotChecked,
    Observation,
    RatingsEvaluation,
    StepRecord,
)
from convscope.rundir import RunDir
from convscope.runlog import RunLog
from convscope.show.page.charts import SEVERITIES, Evaluated


@dataclass(frozen=True, slots=True)
class Contents:
    """One run as its page shows it.

    Attributes:
        name: the run's name.
        config: the settings, as read; any key may be missing.
        verdict: the one word of the diagnosis: what the run kept, else what its log says now; "" when there is nothing to judge.
        findings: cause before consequence.
        not_checked: the rules that could not be applied to the log.
        validation: losses of new samples: at each epoch's end, or where a watched loop evaluated them by a loss that was seen.
        ratings: what a network of ratings did; None for images, and while it is not known.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    data: DataSummary | None = None
    network: NetworkSummary | None = None
    evaluation: Evaluation | None = None
    steps: Sequence[StepRecord] = ()
    epochs: Sequence[EpochRecord] = ()
    layers: Mapping[str, Sequence[LayerStats]] = field(default_factory=dict)
    verdict: str = ""
    findings: Sequence[Finding] = ()
    not_checked: Sequence[NotChecked] = ()
    validation: Sequence[Evaluated] = ()
    ratings: RatingsEvaluation | None = None

    def setting(self, *path: str) -> Any:
        """A setting by its keys from the outside in, or None when any of them is missing."""
        value: Any = self.config
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def measured(self, name: str) -> float | None:
        """A number of the run's result, or None."""
        value = self.setting("result", name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names: the data's, else the settings', else numbers for the evaluation's rows."""
        if self.data and self.data.classes:
            return self.data.classes
        listed = self.setting("classes")
        if isinstance(listed, list | tuple) and listed:
            return tuple(map(str, listed))
        return tuple(str(i) for i in range(len(self.evaluation.confusion))) if self.evaluation else ()

    @property
    def is_of_ratings(self) -> bool:
        """Whether the run predicts ratings instead of classes of images."""
        return self.ratings is not None or self.setting("data", "kind") == "ratings"

    @property
    def step_count(self) -> int | None:
        """Optimiser steps taken, or None when nothing was logged."""
        return self.steps[-1].last_step + 1 if self.steps else None


def read(run: RunDir) -> Contents:
    """Everything that the page shows, from the run directory alone.

    Raises:
        RunError: the settings are missing, or a file is damaged.
    """
    config = run.read_config()
    name = str(config.get("name") or run.path.name)
    result = config.get("result")
    said = result.get("verdict") if isinstance(result, dict) else None
    kept = Contents(name, config, run.data(), run.network(), run.evaluation(), verdict=str(said or ""), ratings=run.ratings())
    if not run.log.exists():
        return kept
    with RunLog.read(run.log) as log:
        steps, layers, epochs, findings = log.steps(), log.layers(), log.epochs(), log.findings()
        observations = log.observations()
        judged = diagnose(steps, layers, observations)
    if not said and not findings and steps:  # nobody judged the run while it went on, or it was cut off before
        said, findings = judged.verdict, list(judged.findings)
    worst = next((severity for severity in SEVERITIES if any(finding.severity == severity for finding in findings)), "")
    return dataclasses.replace(
        kept,
        steps=steps,
        epochs=epochs,
        layers=layers,
        verdict=str(said or worst),
        findings=cause_first(findings),
        not_checked=judged.not_checked if steps else (),
        validation=_validation(epochs, observations),
    )


def _validation(epochs: Sequence[EpochRecord], observations: Sequence[Observation]) -> list[Evaluated]:
    if epochs:
        return [Evaluated(row.steps - 1, row.valid_loss, f"epoch {row.epoch}") for row in epochs]
    seen = [(o.step, o.numbers.get("loss")) for o in observations if o.kind == "validation"]
    return [Evaluated(step, loss, f"after step {step:,}") for step, loss in seen if isinstance(loss, float)]


def causes(findings: Sequence[Finding]) -> list[int | None]:
    """For each finding the place of the one it follows from, or None; a circle is cut where it closes."""
    places = {finding.name: place for place, finding in reversed(list(enumerate(findings)))}
    of: list[int | None] = [places.get(finding.cause or "") for finding in findings]
    for place in range(len(of)):
        above, seen = of[place], {place}
        while above is not None and above not in seen:
            seen.add(above)
            above = of[above]
        if above == place:
            of[place] = None
    return of


def cause_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings in their order, except that each stands after its cause, with what follows from it right behind it."""
    of = causes(findings)

    def following(cause: int | None) -> Iterator[Finding]:
        for place, above in enumerate(of):
            if above == cause:
                yield findings[place]
                yield from following(place)

    return tuple(following(None))
