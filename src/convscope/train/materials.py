"""What a run is made of: its data, and a network for it that is initialised from the seed or from another run."""

from __future__ import annotations

import torch
from rich.console import Console
from torch import nn

from convscope.data import DataLoaders, load_data
from convscope.errors import UsageError
from convscope.nn import build, initialise, start_from
from convscope.seeds import derive
from convscope.train.predict import weights_path
from convscope.train.processes import Processes
from convscope.train.settings import TrainSettings
from convscope.train.weights import WeightsInfo, describe_weights, load_weights


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


def materials(settings: TrainSettings, teller: Teller) -> tuple[DataLoaders, nn.Module, WeightsInfo]:
    """Load the data, tell what it is, and build a network for it.

    Returns:
        The data, the network, and what its weights file will say about itself.

    Raises:
        DataError: the data cannot be used.
        UsageError: a setting is out of range, or a name does not exist.
        CheckpointError: the weights to start from cannot be loaded, or belong to another network.
    """
    data = load_data(
        settings.data,
        settings.batch_size,
        image_size=settings.image_size,
        valid_pct=settings.valid_pct,
        augment=settings.augment,
        seed=settings.seed,
        strict=settings.strict,
        class_weights=settings.class_weights,
    )
    teller.say(repr(data))
    for note in data.summary.notes:
        teller.say(f"  note: {note}")
    skipped = data.summary.skipped
    if skipped:
        many = f"{len(skipped)} files were" if len(skipped) > 1 else "1 file was"
        more = ", and others; skipped_files.csv has them all" if len(skipped) > 1 else ""
        teller.say(f"  note: {many} left out: {skipped[0].path} ({skipped[0].reason}){more}")
    if settings.freeze_body and not settings.init_from:
        raise UsageError("--freeze-body needs --init-from: a body that was never trained is not worth freezing.")
    name = settings.model or ("simple_cnn" if data.kind == "mnist" else "small_resnet")
    arguments = dict(settings.model_arguments or {})
    channels, height, width = data.preprocess.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(settings.seed, "initial weights"))
        model = build(name, channels, len(data.classes), min(height, width), **arguments)
        if settings.init:
            initialise(model, settings.init)
    if settings.init_from:
        start_from(model, load_weights(weights_path(settings.init_from))[0], freeze_body=settings.freeze_body)
    return data, model, describe_weights(model, data, settings.to_config())
