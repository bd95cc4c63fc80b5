"""What a run is made of: its data, and a network for it that is initialised from the seed or from another run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from convscope.data import DataLoaders, RatingLoaders, holds_ratings, load_data, load_ratings
from convscope.errors import DataError, UsageError
from convscope.nn import build, build_rating_model, initialise, start_from
from convscope.seeds import derive
from convscope.train.predict import weights_path
from convscope.train.processes import Processes
from convscope.train.settings import TrainSettings
from convscope.train.tasks import Data, task_of
from convscope.train.weights import WeightsInfo, describe_weights, load_weights

FOR_IMAGES = (
    "image_size",
    "augment",
    "class_weights",
    "label_smoothing",
    "init_from",
    "freeze_body",
    "norm",
)  # settings without a meaning for ratings
FOR_RATINGS = ("factors", "split", "y_range", "titles")  # and without one for images


class Teller:
    """Says things on stderr, once however many processes there are.

    Args:
        console: where to; stderr unless given.
        processes: only the main one speaks.
    """

    def __init__(self, console: Console | None, processes: Processes) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.processes = processes

    def say(self, line: str) -> None:
        """One line, as it is."""
        if self.processes.is_main:
            self.console.print(line, markup=False, soft_wrap=True)


def materials(settings: TrainSettings, teller: Teller) -> tuple[Data, nn.Module, WeightsInfo]:
    """Load the data, tell what it is, and build a network for it.

    Returns:
        The data, the network, and what its weights file will say about itself.

    Raises:
        DataError: the data cannot be used.
        UsageError: a setting is out of range, or a name does not exist.
        CheckpointError: the weights to start from cannot be loaded, or belong to another network.
    """
    data = _ratings(settings) if holds_ratings(Path(settings.data)) else _images(settings)
    teller.say(repr(data))
    for note in data.summary.notes:
        teller.say(f"  note: {note}")
    if (skipped := _skipped(data)) is not None:
        teller.say(f"  note: {skipped}")
    if settings.freeze_body and not settings.init_from:
        raise UsageError("--freeze-body needs --init-from: a body that was never trained is not worth freezing.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(settings.seed, "initial weights"))
        model = _network(settings, data)
        if settings.init:
            initialise(model, settings.init)
    if settings.init_from:
        start_from(model, load_weights(weights_path(settings.init_from))[0], freeze_body=settings.freeze_body)
    return data, model, describe_weights(model, data.classes, task_of(data, torch.device("cpu")), settings.to_config())


def _refuse(settings: TrainSettings, names: tuple[str, ...], about: str, held: str) -> None:
    defaults = {f.name: f.default for f in fields(settings)}
    for name in names:
        if getattr(settings, name) != defaults[name]:
            raise UsageError(f"--{name.replace('_', '-')} is about {about}, and {settings.data} holds {held}. Leave it out.")


def _images(settings: TrainSettings) -> DataLoaders:
    _refuse(settings, FOR_RATINGS, "ratings", "images")
    return load_data(
        settings.data,
        settings.batch_size,
        image_size=settings.image_size,
        valid_pct=settings.valid_pct,
        augment=settings.augment,
        seed=settings.seed,
        strict=settings.strict,
        class_weights=settings.class_weights,
    )


def _ratings(settings: TrainSettings) -> RatingLoaders:
    _refuse(settings, FOR_IMAGES, "images", "ratings")
    data = load_ratings(
        settings.data,
        settings.batch_size,
        split=settings.split,
        valid_pct=settings.valid_pct,
        y_range=settings.y_range or "auto",
        titles=settings.titles,
        seed=settings.seed,
    )
    if settings.strict and data.table.skipped_count:
        first = data.summary.skipped[0]
        raise DataError(
            f"{settings.data} has {data.table.skipped_count:,} rows that cannot be used, and strict was asked for; the first is line {first.line}: "
            f"{first.reason}. Mend or remove them, or train without --strict, which leaves them out and lists them."
        )
    return data


def _network(settings: TrainSettings, data: Data) -> nn.Module:
    given = {"norm": settings.norm, "factors": settings.factors}
    arguments = dict(settings.model_arguments or {}) | {name: value for name, value in given.items() if value is not None}
    if isinstance(data, RatingLoaders):
        return build_rating_model(settings.model or "dot_product", data.model_arguments, **arguments)
    name = settings.model or ("simple_cnn" if data.kind == "mnist" else "small_resnet")
    channels, height, width = data.preprocess.shape
    return build(name, channels, len(data.classes), min(height, width), **arguments)


def _skipped(data: Data) -> str | None:
    """A sentence on what was left out."""
    if not data.summary.skipped:
        return None
    if isinstance(data, RatingLoaders):
        row, count = data.summary.skipped[0], data.summary.skipped_count
        what, first = "row", f"line {row.line} ({row.reason})"
    else:
        file, count = data.summary.skipped[0], len(data.summary.skipped)
        what, first = "file", f"{file.path} ({file.reason})"
    many = f"{count:,} {what}s were" if count > 1 else f"1 {what} was"
    more = f", and others; skipped_{what}s.csv has them all" if count > 1 else ""
    return f"{many} left out: {first}{more}"
