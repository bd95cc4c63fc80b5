"""The top of the page: the run's name, its result in one sentence, what the diagnosis found, and the first figures.

Receives `Contents`, returns HTML. It repeats what the run's records say and judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convscope.diagnose import NAMES
from convscope.records import LOSS_UNSEEN, Evidence, Finding, NotChecked
from convscope.show.page import ratings
from convscope.show.page.contents import Contents, causes
from convscope.show.page.html import Child, Markup, join, number, tag
from convscope.show.page.layer_values import belongs
from convscope.show.page.parts import more, tiles
from convscope.show.page.words import chosen, count, duration, figure, percent, plural

SIGNS = {"healthy": "✓", "note": "i", "warning": "!", "problem": "✕", "too_early": "…"}
WORDS = {"healthy": "Healthy", "note": "Note", "warning": "Warning", "problem": "Problem", "too_early": "Too early to say"}
STATES = {
    "running": "This page was written while the run was still going on.",
    "interrupted": "The run was interrupted; what it had done until then is below.",
    "failed": "The run failed; what it had done until then is below.",
}


def header(run: Contents) -> Markup:
    """The run's name, its result and its state."""
    state = run.setting("status")
    message = run.setting("message")
    notice = (
        tag("p", tag("strong", STATES[state]), f" {message}" if message else None, class_=f"notice {state}") if state in STATES else None
    )
    return tag(
        "header", tag("p", "convscope run", class_="kicker"), tag("h1", run.name), tag("p", result_sentence(run), class_="lead"), notice
    )


def result_sentence(run: Contents) -> Markup:
    """What came out of the run, in one sentence."""
    if run.is_of_ratings:
        return ratings.result_sentence(run)
    training = (
        ["training took ", number(run.measured("seconds"), duration(run.measured("seconds")))]
        if run.measured("seconds") is not None
        else []
    )
    epochs = run.measured("epochs")
    after = f" after {plural(int(epochs), 'epoch')}" if epochs is not None else ""
    judged = run.evaluation
    if judged is None:
        accuracy = run.measured("accuracy")
        if accuracy is not None:
            return join(
                "Accuracy on validation images was ",
                tag("b", number(accuracy, percent(accuracy))),
                after,
                *([("; "), *training] if training else []),
                ".",
            )
        taken = f"{plural(run.step_count, 'step')} of training were recorded" if run.step_count else "No step of training was recorded yet"
        return join(taken, *(["; ", *training] if training else []), ".")
    right = sum(row[i] for i, row in enumerate(judged.confusion))
    kind = {"valid": "validation", "test": "test"}.get(judged.split, judged.split)
    said: list[Child] = [
        "The network answers ",
        number(right, count(right)),
        " of ",
        number(judged.count, count(judged.count)),
        f" {kind} images correctly (",
    ]
    said += [tag("b", number(judged.accuracy, percent(judged.accuracy))), f"){after}"]
    return join(*said, *(["; ", *training] if training else []), ".")


def verdict(run: Contents) -> Markup:
    """The diagnosis: one line, then each finding with its evidence and what to do; a consequence stands inside its cause."""
    word = run.verdict if run.verdict in WORDS else ""
    if not word:
        body: Child = tag(
            "p",
            tag("span", "?", class_="sign", aria_hidden="true"),
            tag("strong", "Not diagnosed."),
            " No diagnosis was kept with this run.",
            class_="line",
        )
        return tag("section", tag("h2", "Diagnosis", class_="quiet"), body, id="diagnosis", class_="verdict")
    line = tag(
        "p",
        tag("span", SIGNS[word], class_=f"sign {word}", aria_hidden="true"),
        tag("strong", f"{WORDS[word]}."),
        f" {_overview(run, word)}",
        class_="line",
    )
    of = causes(run.findings)
    cards = [_card(place, run, of) for place, cause in enumerate(of) if cause is None]
    return tag(
        "section",
        tag("h2", "Diagnosis", class_="quiet"),
        line,
        tag("ol", cards, class_="findings") if cards else None,
        _not_checked(run.not_checked) if run.not_checked else None,
        id="diagnosis",
        class_=f"verdict {word}",
    )


def _not_checked(items: Sequence[NotChecked]) -> Markup:
    """The rules that could not be applied, together with those that share their reason."""
    reasons: dict[str, list[str]] = {}
    for item in items:
        reasons.setdefault(item.why, []).append(item.name.replace("_", " "))
    listed = [tag("li", tag("b", ", ".join(names)), f": {why}") for why, names in reasons.items()]
    return more(f"{plural(len(items), 'rule')} could not be checked", tag("ul", listed, class_="notes"))


def _overview(run: Contents, word: str) -> str:
    over = f" in {plural(run.step_count, 'step')}" if run.step_count else ""
    if any(item.why == LOSS_UNSEEN for item in run.not_checked) and not run.findings:
        return f"It cannot be said how training goes{over}: the training loss was not seen."
    if word == "too_early":
        return f"There is too little to judge{over}."
    if not run.findings:
        applied = f" ({len(NAMES) - len(run.not_checked)} of {len(NAMES)} could be applied)" if run.not_checked else ""
        return f"No rule found anything wrong{over}{applied}." if word == "healthy" else f"The findings were not kept{over}."
    where = f", beginning at step {min(finding.step for finding in run.findings):,}"
    return f"{plural(len(run.findings), 'finding')}{over}{where}."


def _card(place: int, run: Contents, of: Sequence[int | None]) -> Markup:
    """A finding, and below it those that follow from it."""
    finding = run.findings[place]
    following = [_card(other, run, of) for other, cause in enumerate(of) if cause == place]
    rule = f"{WORDS[finding.severity]} · {finding.name.replace('_', ' ')}"
    evidence = [tag("div", tag("dt", item.name), tag("dd", _evidence(item))) for item in finding.evidence]
    change = _settings(finding.fix.change)
    shown = join(". See it ", _figures(finding, run)) if run.steps or run.layers else "."
    card = tag(
        "article",
        tag("p", tag("span", str(place + 1), class_=f"badge {finding.severity}"), tag("span", rule, class_="rule"), class_="top"),
        tag("h3", finding.message),
        tag(
            "p",
            f"In {finding.where}, from" if finding.where else "From",
            " step ",
            number(finding.step, count(finding.step)),
            shown,
            class_="muted",
        ),
        tag("dl", evidence, class_="evidence") if evidence else None,
        tag("p", tag("b", "What to do: "), finding.fix.text, [" ", tag("code", change)] if change else None, class_="fix"),
        tag("p", f"Source of the rule: {finding.source}", class_="source") if finding.source else None,
    )
    below = [tag("p", "What follows from it", class_="follows"), tag("ol", following, class_="findings")] if following else None
    return tag("li", card, below)


def _figures(finding: Finding, run: Contents) -> Markup:
    """Links to the figures that show a finding: the loss, and the layer that it is about."""
    watched = [name for name, records in run.layers.items() if records]
    layer = next((place for place, name in enumerate(watched) if belongs(finding, name)), None)
    links = [tag("a", "on the loss", href="#training")] if run.steps else []
    links += [tag("a", "in the layer", href="#layers", data_layer=layer)] if layer is not None else []
    return join([join(" and " if i else None, link) for i, link in enumerate(links)], ".")


def _settings(change: Mapping[str, Any] | None) -> str:
    """A change of settings, as it would be made in Python."""
    return ", ".join(f"{key}={value!r}" for key, value in (change or {}).items())


def _evidence(item: Evidence) -> Child:
    unit = f" {item.unit}" if item.unit else ""
    if isinstance(item.value, str):
        return item.value + unit
    return join(number(item.value, count(item.value) if isinstance(item.value, int) else chosen(item.value)), unit)


def overview(run: Contents) -> Markup:
    """The first figures as tiles; those that are not known are left out."""
    if run.is_of_ratings:
        return ratings.overview(run)
    judged = run.evaluation
    accuracy = judged.accuracy if judged else run.measured("accuracy")
    balanced = judged.balanced_accuracy if judged else run.measured("balanced_accuracy")
    loss = judged.loss if judged else run.measured("valid_loss")
    steps = run.measured("steps") if run.measured("steps") is not None else run.step_count
    seconds, epochs, device = run.measured("seconds"), run.measured("epochs"), run.setting("device", "name")
    parameters = run.network.total("parameters") if run.network else None
    known: list[tuple[str, float | None, str, Child]] = [
        ("Accuracy", accuracy, percent(accuracy), f"on {plural(judged.count, 'image')}" if judged else None),
        ("Balanced accuracy", balanced, percent(balanced), "every class counts the same"),
        ("Validation loss" if judged is None or judged.split == "valid" else "Test loss", loss, figure(loss), None),
        ("Steps", steps, figure(steps), f"in {plural(int(epochs), 'epoch')}" if epochs is not None else None),
        ("Time", seconds, duration(seconds), f"on {device}" if device else None),
        ("Parameters", parameters, count(parameters), f"in {plural(len(run.network.rows), 'layer')}" if run.network else None),
    ]
    items = [(name, number(value, text), note) for name, value, text, note in known if value is not None]
    return tiles(items) if items else join()
