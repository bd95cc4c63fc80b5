"""The page of a run: one self-contained HTML file, from the run directory alone.

Receives a run directory, writes `report.html` in it. It reads the files that rundir.py lists and the log, needs neither torch nor
the images, and trains, judges and measures nothing. What a run did not keep is left out, with a sentence that says why.

    contents    what is read, as one value            verdict     name, result, diagnosis, tiles
    charts      records -> plotly's values            training    curves, schedules, epochs
    html        elements that escape their text       answers     confusion matrix, classes, mistakes
    parts       pieces that sections share            inputs      the data
    words       numbers and times in words            machine     the network, settings, how to repeat
    document    the file around the sections          layers      what happened inside the network, from layer_values
    ratings     the sections of a run on ratings
"""

from __future__ import annotations

from pathlib import Path

from convscope.rundir import RunDir, write_text
from convscope.show.page import answers, document, inputs, layers, machine, ratings, training, verdict
from convscope.show.page.contents import Contents, read
from convscope.show.page.html import join
from convscope.show.page.parts import Absent, Section

SECTIONS = (
    training.curves,
    training.epochs,
    layers.layers,
    answers.answers,
    answers.mistakes,
    inputs.data,
    machine.network,
    machine.settings,
)
RATING_SECTIONS = (
    training.curves,
    training.epochs,
    ratings.items,
    ratings.factors,
    ratings.surprises,
    ratings.traced,
    layers.layers,
    ratings.data,
    machine.network,
    machine.settings,
)


def write_report(run: RunDir) -> Path:
    """Write the page of a run into its directory, in place of an older one.

    Args:
        run: an existing run directory; it may be unfinished.

    Returns:
        The page's path.

    Raises:
        RunError: config.json is missing, a file of the run is damaged, or the page cannot be written.

    Example:
        >>> write_report(open_run("runs/mnist-001"))
        PosixPath('runs/mnist-001/report.html')
    """
    write_text(run.report, render(run))
    return run.report


def render(run: RunDir) -> str:
    """The page of a run as text.

    Raises:
        RunError: config.json is missing, or a file of the run is damaged.
    """
    return document_of(read(run))


def document_of(contents: Contents) -> str:
    """The page of what was read."""
    made = [section(contents) for section in (RATING_SECTIONS if contents.is_of_ratings else SECTIONS)]
    present = [part for part in made if isinstance(part, Section)]
    absent = [part.sentence for part in made if isinstance(part, Absent) and part.sentence]
    head = join(verdict.header(contents), verdict.verdict(contents), verdict.overview(contents))
    version = contents.setting("versions", "convscope")
    return document.page(f"{contents.name} – convscope", head, present, document.footer(absent, str(version or "")))
