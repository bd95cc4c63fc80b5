"""The sections of a run on ratings: the items it learned to like, their factors as a picture, the most surprising ratings, and one rating traced.

Receives `Contents`, returns sections, or a sentence where the run was cut off before it was judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convscope.records import RatedItem, RatingsEvaluation, RatingTrace
from convscope.show.page.charts import Chart, escaped
from convscope.show.page.contents import Contents
from convscope.show.page.html import Child, Markup, join, number, table, tag
from convscope.show.page.parts import Absent, Section, chart, facts, tiles
from convscope.show.page.words import chosen, count, duration, figure, percent, plural

CUT_OFF = Absent("What the network learned of the items is missing: the run was cut off before it was judged.")
LONGEST_LABEL = 30  # characters of a title beside a bar or a point; longer ones would leave no room for the chart
MOST_NAMED = 25  # items whose names stand in the picture; the others show theirs on hovering


def result_sentence(run: Contents) -> Markup:
    """What came out of the run, in one sentence."""
    judged = run.ratings
    if judged is None:
        return join(f"{plural(run.step_count or 0, 'step')} of training were recorded.")
    took = (
        ["; training took ", number(run.measured("seconds"), duration(run.measured("seconds")))]
        if run.measured("seconds") is not None
        else []
    )
    return join(
        "Predictions of ",
        plural(judged.count, "validation rating"),
        " are off by ",
        tag("b", number(judged.rmse, figure(judged.rmse))),
        " (root mean square); always answering the mean is off by ",
        number(judged.baseline_rmse, figure(judged.baseline_rmse)),
        *took,
        ".",
    )


def overview(run: Contents) -> Markup:
    """The first figures as tiles; those that are not known are left out."""
    judged = run.ratings
    rmse, loss = (judged.rmse, judged.loss) if judged else (run.measured("rmse"), run.measured("valid_loss"))
    gain = 1 - judged.rmse / judged.baseline_rmse if judged and judged.baseline_rmse else None
    steps = run.measured("steps") if run.measured("steps") is not None else run.step_count
    seconds, device = run.measured("seconds"), run.setting("device", "name")
    parameters = run.network.total("parameters") if run.network else None
    known: list[tuple[str, float | None, str, Child]] = [
        ("RMSE", rmse, figure(rmse), f"on {plural(judged.count, 'rating')}" if judged else None),
        ("Better than the mean", gain, percent(gain), "share of its RMSE"),
        ("Validation loss", loss, figure(loss), "mean squared error"),
        ("Steps", steps, figure(steps), None),
        ("Time", seconds, duration(seconds), f"on {device}" if device else None),
        ("Parameters", parameters, count(parameters), None),
    ]
    return tiles((name, number(value, text), note) for name, value, text, note in known if value is not None)


def items(run: Contents) -> Section | Absent:
    """The items with the highest and lowest biases."""
    judged = run.ratings
    if judged is None:
        return CUT_OFF
    said = tag(
        "p",
        "An item's bias is what it gets from everyone, whatever their taste: after the factors have explained who likes what, this is left.",
        class_="muted",
    )
    label = f"Biases of items, from {judged.title(judged.most_liked[0].item)} down to {judged.title(judged.least_liked[0].item)}."
    body = join(
        said,
        chart("biases", "Most and least liked", bias_chart(judged), label),
        tag("div", _items("Most liked", judged.most_liked, judged), _items("Least liked", judged.least_liked, judged), class_="pair"),
    )
    return Section("items", "Most and least liked items", "Items", body)


def bias_chart(judged: RatingsEvaluation) -> Chart:
    """Bars of the biases, the most liked item on top; an item that is in both lists has one bar. Long titles are cut; hovering shows all."""
    shown = list({item.item: item for item in (*judged.most_liked, *reversed(judged.least_liked))}.values())[::-1]
    titles = [judged.title(item.item) for item in shown]
    places = list(range(len(shown)))  # numbers, because titles that were cut may be alike
    data = {
        "type": "bar",
        "orientation": "h",
        "x": [item.bias for item in shown],
        "y": places,
        "marker": {"color": ["--series-1" if item.bias >= 0 else "--series-2" for item in shown]},
        "hovertext": [
            f"<b>{escaped(title)}</b><br>bias {item.bias:+.3f}, {item.count:,} ratings, mean {item.mean:.2f}"
            for title, item in zip(titles, shown, strict=True)
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    names = {"tickmode": "array", "tickvals": places, "ticktext": [escaped(cut(title)) for title in titles], "automargin": True}
    layout = {"hovermode": "closest", "showlegend": False, "xaxis": {"title": {"text": "bias"}}, "yaxis": names}
    return {"data": [data], "layout": layout, "height": 90 + 18 * len(shown)}


def cut(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text shortened to so many characters, the last a "…" when something is missing."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _named(judged: RatingsEvaluation, item: str) -> Child:
    """An item by its title; pointing at it shows its name in the data."""
    return tag("span", judged.titles[item], title=item, class_="title") if item in judged.titles else item


def _items(title: str, listed: Sequence[RatedItem], judged: RatingsEvaluation) -> Markup:
    rows: list[list[Child]] = [
        [
            _named(judged, item.item),
            number(item.bias, figure(item.bias, 3)),
            number(item.count, count(item.count)),
            number(item.mean, figure(item.mean, 3)),
        ]
        for item in listed
    ]
    return tag("div", table(title, ["Item", "Bias", "Ratings", "Mean rating"], rows, numeric=(1, 2, 3)))


def factors(run: Contents) -> Section | Absent:
    """The most rated items, placed by the two principal components of the factors."""
    judged = run.ratings
    if judged is None:
        return Absent("")
    one, two = judged.explained
    said = join(
        "Items near each other are liked by the same people. The axes are the two directions in which the factors of all items differ most; they hold ",
        number(one, percent(one)),
        " and ",
        number(two, percent(two)),
        " of their variance. The signs of the axes mean nothing.",
    )
    title = f"The {plural(len(judged.picture), 'most rated item')}"
    body = chart("factors", title, factor_chart(judged), "Items placed by the two principal components of their factors.", said)
    return Section("factors-section", "The items' factors", "Factors", body)


def factor_chart(judged: RatingsEvaluation) -> Chart:
    """A point for each item, its title beside it for the most rated ones and on hovering for all."""
    shown = judged.picture
    labels = [escaped(cut(judged.title(item.item))) if place < MOST_NAMED else "" for place, item in enumerate(shown)]
    said = [
        f"<b>{escaped(judged.title(item.item))}</b><br>{item.count:,} ratings, mean {item.mean:.2f}, bias {item.bias:+.3f}"
        for item in shown
    ]
    data: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [item.x for item in shown],
        "y": [item.y for item in shown],
        "text": labels,
        "textposition": "top center",
        "textfont": {"size": 10, "color": "--muted"},
        "hovertext": said,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": 7, "color": "--series-1", "opacity": 0.7},
    }
    axes = {"xaxis": {"title": {"text": "first component"}}, "yaxis": {"title": {"text": "second component"}}}
    return {"data": [data], "layout": {"hovermode": "closest", "showlegend": False, **axes}, "height": 520}


def surprises(run: Contents) -> Section | Absent:
    """Validation ratings furthest from their prediction, and the first of them traced."""
    judged = run.ratings
    if judged is None:
        return Absent("")
    rows: list[list[Child]] = [
        [
            s.user,
            _named(judged, s.item),
            number(s.rating, figure(s.rating)),
            number(s.predicted, figure(s.predicted)),
            number(s.rating - s.predicted, f"{s.rating - s.predicted:+.2f}"),
        ]
        for s in judged.surprising
    ]
    said = tag(
        "p", "Validation ratings furthest from what was predicted, the furthest first. Look here for mistakes in the data.", class_="muted"
    )
    listed = table("Most surprising ratings", ["User", "Item", "Rating", "Predicted", "Difference"], rows, numeric=(2, 3, 4))
    return Section("surprises", "Most surprising ratings", "Surprises", join(said, listed))


def traced(run: Contents) -> Section | Absent:
    """One rating as the products and biases that make it."""
    trace = run.ratings.trace if run.ratings else None
    if run.ratings is None or trace is None:
        return Absent("No rating is traced: only those of dot_product are one sum." if run.ratings else "")
    rows: list[list[Child]] = [
        [f"Factor {place}", *(number(value, figure(value)) for value in values)]
        for place, values in enumerate(zip(trace.user_factors, trace.item_factors, trace.products, strict=True), 1)
    ]
    rows += [[name, "", "", number(value, figure(value))] for name, value in _added(trace)]
    foot: list[Child] = ["Sum", "", "", number(trace.sum, figure(trace.sum))]
    reached = (
        f"The sum goes through a sigmoid between {chosen(trace.y_range[0])} and {chosen(trace.y_range[1])}, which gives "
        if trace.y_range
        else "That is "
    )
    given = [f"; {trace.user} gave ", number(trace.rating, figure(trace.rating))] if trace.rating is not None else []
    said = tag(
        "p",
        reached,
        tag("b", number(trace.total, figure(trace.total))),
        *given,
        f". PyTorch computed {trace.value:.7g}; the difference is {trace.difference:.1e}.",
    )
    lead = tag(
        "p",
        f"How much {trace.user or 'an unknown user'} should like {run.ratings.title(trace.item) or 'an unknown item'}, product by product.",
        class_="muted",
    )
    body = join(
        lead, table("Products and biases", ["", "User", "Item", "Product"], rows, foot=foot, numeric=(1, 2, 3), class_="tall"), said
    )
    return Section("traced", "One rating, traced", "Trace", body)


def _added(trace: RatingTrace) -> tuple[tuple[str, float], ...]:
    return ("Bias of the user", trace.user_bias), ("Bias of the item", trace.item_bias), ("Offset", trace.offset)


def data(run: Contents) -> Section | Absent:
    """What the network was trained on."""
    judged = run.ratings
    if judged is None:
        return Absent("")
    notes = tag("ul", [tag("li", note) for note in judged.notes], class_="notes") if judged.notes else None
    return Section("data", "The data", "Data", join(notes, facts(_facts(run, judged))))


def _facts(run: Contents, judged: RatingsEvaluation) -> list[tuple[Child, Child]]:
    chosen_by = {"random": "at random, from the seed", "time": "the latest"}.get(judged.split, judged.split)
    return [
        ("Source", str(run.setting("data", "source") or "")),
        ("Users", number(judged.users, count(judged.users))),
        ("Items", number(judged.items, count(judged.items))),
        ("Training ratings", number(judged.train, count(judged.train))),
        ("Validation ratings", join(number(judged.count, count(judged.count)), f", chosen {chosen_by}")),
        (
            "Ratings",
            join(
                "from ",
                number(judged.lowest, chosen(judged.lowest)),
                " to ",
                number(judged.highest, chosen(judged.highest)),
                ", mean ",
                number(judged.mean, figure(judged.mean)),
            ),
        ),
        (
            "Rows left out",
            join(number(judged.skipped, count(judged.skipped)), "; they are in skipped_rows.csv" if judged.skipped else None),
        ),
    ]
