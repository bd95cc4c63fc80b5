"""The sections on training: its curves and schedules, and the results of each epoch.

Receives `Contents`, returns sections, or a sentence where the run logged nothing.
"""

from __future__ import annotations

import math

from convscope.records import Range
from convscope.show.page import charts
from convscope.show.page.contents import Contents
from convscope.show.page.html import Markup, join, number, table, tag
from convscope.show.page.parts import Absent, Section, chart
from convscope.show.page.words import chosen, count, duration, figure, percent, plural

# What schedules move; hyper-parameters that are not here are shown under their own names.
SCHEDULED = {"lr": "Learning rate", "momentum": "Momentum", "beta1": "Momentum (beta 1)"}
ABBREVIATIONS = frozenset({"rmse", "mae", "mse"})  # metrics written in capitals


def curves(run: Contents) -> Section | Absent:
    """Losses, schedules and gradients over the steps."""
    if not run.steps:
        return Absent("The curves of training are missing: no step was logged.")
    loss = chart("loss", "Loss", charts.loss_chart(run.steps, run.validation, run.findings), _loss_label(run), _loss_caption(run))
    return Section("training", "How it trained", "Training", join(loss, _beside_loss(run)))


def _loss_label(run: Contents) -> str:
    first, last = run.steps[0].loss.mean, run.steps[-1].loss.last
    said = f"Training loss over {plural(run.step_count or 0, 'step')}, from {figure(first)} to {figure(last)}."
    if run.validation:
        last_one = run.validation[-1]
        said += f" Validation loss at the last of {plural(len(run.validation), 'evaluation')} ({last_one.when}): {figure(last_one.loss)}."
    return said


def _loss_caption(run: Contents) -> Markup:
    first, last = run.steps[0].loss.mean, run.steps[-1].loss.last
    said = [
        join(
            "Training loss went from ", number(first, figure(first)), " at the first step to ", number(last, figure(last)), " at the last."
        )
    ]
    gone = [record for record in run.steps if not math.isfinite(record.loss.mean) or not math.isfinite(record.loss.last)]
    if gone:
        said.append(join(f" It was not a finite number in {plural(len(gone), 'record')}, first at {charts.span(gone[0])}."))
    if run.findings:
        marked = "; ".join(
            f"{place} {finding.name.replace('_', ' ')}, step {finding.step:,}" for place, finding in enumerate(run.findings, 1)
        )
        said.append(join(f" Marked where it begins: {marked}."))
        if any(finding.severity == "problem" for finding in run.findings):
            said.append(join(" Shaded: everything after the first problem."))
    return join(said)


def title_of(name: str) -> str:
    """A hyper-parameter's name in words; "lr:1" is that of the second group of parameters."""
    base, _, group = name.partition(":")
    words = SCHEDULED.get(base, base.replace("_", " "))
    return f"{words}, group {int(group) + 1}" if group.isdecimal() else words


def _hyper(run: Contents) -> dict[str, list[Range]]:
    """The hyper-parameters at every step that has them; a group of parameters that goes with the first one is left out."""
    held = {name: [r.hyper[name] for r in run.steps if name in r.hyper] for name in dict.fromkeys(n for r in run.steps for n in r.hyper)}
    return {name: ranges for name, ranges in held.items() if ":" not in name or ranges != held.get(name.partition(":")[0])}


def _beside_loss(run: Contents) -> Markup:
    """Small charts of every hyper-parameter that moved and of the gradients, and one sentence on those that did not move."""
    drawn: list[Markup] = []
    fixed: list[Markup] = []
    for name, ranges in _hyper(run).items():
        title = title_of(name)
        low, high = min(r.minimum for r in ranges), max(r.maximum for r in ranges)
        if low == high:
            fixed.append(join(tag("b", title), " ", number(low, chosen(low))))
            continue
        label = f"{title} over the steps, between {chosen(low)} and {chosen(high)}."
        caption = join("Between ", number(low, chosen(low)), " and ", number(high, chosen(high)), ".")
        colour = f"series-{1 + len(drawn) % 3}"
        drawn.append(chart(f"hyper-{len(drawn)}", title, charts.hyper_chart(run.steps, name, title, colour), label, caption))
    if any(record.gradient_norm for record in run.steps):
        label = "The norm of all gradients at every step, on a logarithmic axis."
        caption = join("Length of the gradient over all parameters, before clipping.")
        drawn.append(chart("gradient-norm", "Gradient norm", charts.gradient_chart(run.steps, run.findings), label, caption))
    sentence = (
        tag("p", "The same at every step: ", [join(item, ", ") for item in fixed[:-1]], fixed[-1], ".", class_="muted") if fixed else None
    )
    return join(tag("div", drawn, class_="small-charts") if drawn else None, sentence)


def epochs(run: Contents) -> Section | Absent:
    """One row an epoch, as in results.csv."""
    if not run.epochs:
        return Absent("The results by epoch are missing: no epoch was finished.")
    metrics = list(dict.fromkeys(name for row in run.epochs for name in row.metrics))
    finite = [row.valid_loss for row in run.epochs if math.isfinite(row.valid_loss)]
    best = min(finite) if finite else None
    rows = []
    for row in run.epochs:
        is_best = row.valid_loss == best and len(run.epochs) > 1
        valid = number(row.valid_loss, figure(row.valid_loss))
        rows.append(
            [
                number(row.epoch, count(row.epoch)),
                number(row.steps, count(row.steps)),
                number(row.train_loss, figure(row.train_loss)),
                tag("strong", valid, tag("span", " lowest", class_="tagged")) if is_best else valid,
                *(_metric(name, row.metrics.get(name)) for name in metrics),
                number(row.seconds, duration(row.seconds)),
            ]
        )
    head = ["Epoch", "Steps done", "Training loss", "Validation loss", *map(_title, metrics), "Time"]
    return Section(
        "epochs", "Results by epoch", "Epochs", table("Losses and metrics at the end of each epoch", head, rows, numeric=range(len(head)))
    )


def _title(metric: str) -> str:
    return metric.upper() if metric in ABBREVIATIONS else metric.replace("_", " ").capitalize()


def _metric(name: str, value: float | None) -> Markup:
    return number(value, percent(value) if "accuracy" in name else figure(value))
