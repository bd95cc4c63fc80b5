"""Watcher: what a network's layers do while it is trained, around any PyTorch loop.

Receives a network; while it is open, every optimiser step is recorded, and every layer at each (or every n-th) step. It hands out records, figures,
a verdict and a run directory. It changes nothing: losses, parameters, random numbers and flags are bit for bit what they are without it.
"""

from __future__ import annotations

import dataclasses
import platform
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import nn

from convscope.errors import UnknownNameError, UsageError
from convscope.records import NEAR_ZERO, LayerStats, StepRecord, Verdict
from convscope.rundir import RunDir, create_run
from convscope.runlog import RunLog
from convscope.show import figures
from convscope.version import VERSION
from convscope.watch.layers import unwrapped
from convscope.watch.ranks import is_main
from convscope.watch.recording import Recording

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


class Watcher:
    """Records every layer of a network while a loop trains it.

    Args:
        model: the network, or several by name: `{"generator": g, "discriminator": d}`.
        every: layers are recorded at one step in so many; optimiser steps are always recorded.
        layers: names of layers to record, or of modules that contain them; None for all.
        near_zero: |x| at most this counts as near zero.
        log: where records go; None keeps them in memory, in bounded space.
        first_step: optimiser steps taken before, when training goes on.

    In a distributed run every rank opens a Watcher of its own, after `init_process_group`. Rank 0's then holds the statistics of all ranks
    together; the others' hold their own share.

    Raises:
        UsageError: `model` is no network, or has nothing to watch; `every` is below 1.
        UnknownNameError: a name in `layers` does not exist.

    Example:
        >>> with Watcher(model) as watch:
        ...     train(model)
        >>> watch.color_dim("2.0")
        >>> print(watch.diagnose().verdict)
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, nn.Module],
        *,
        every: int = 1,
        layers: Iterable[str] | None = None,
        near_zero: float = NEAR_ZERO,
        log: RunLog | None = None,
        first_step: int = 0,
    ) -> None:
        models = {"": model} if isinstance(model, nn.Module) else model
        if not isinstance(models, Mapping) or not models or not all(isinstance(one, nn.Module) for one in models.values()):
            raise UsageError(f"Watcher got {type(model).__name__}; it needs the network (a torch.nn.Module), or several in a dict by name.")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise UsageError(f"every={every!r}: layers are recorded at one step in so many, a whole number from 1 up.")
        if isinstance(layers, str):
            layers = [layers]
        self.log = log if log is not None else RunLog.create()
        self.every, self._models = every, dict(models)
        self._recording = Recording(models, self.log, every=every, wanted=layers, near_zero=near_zero, first_step=first_step)
        self._open = False

    # ------------------------------------------------------------ around the loop

    def start(self) -> Watcher:
        """Begin to watch; `with` does it by itself."""
        if not self._open:
            self._open = True
            self._recording.open()
        return self

    def stop(self) -> None:
        """Take every hook off and complete the log; `with` does it by itself, also after an exception."""
        if self._open:
            self._open = False
            self._recording.close()

    def __enter__(self) -> Watcher:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def join_pass(self, model: nn.Module, arguments: tuple[object, ...]) -> None:
        """Say that a pass of a watched network began before its hooks were attached, and is still running."""
        self._recording.join_pass(model, arguments)

    def flush(self) -> None:
        """Write what was recorded until now to the log, for example before a checkpoint; to be called between steps."""
        self._recording.finish_step()
        self._recording.drain()
        self.log.flush()

    def report_epochs(self, epochs: Callable[[], float]) -> None:
        """Tell how many epochs are done, by a function that is asked after each step; the watcher cannot know it."""
        self._recording.epoch = epochs

    # ------------------------------------------------------------ records

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self._recording.step

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be seen, in words."""
        return tuple(self._recording.notes)

    def steps(self) -> list[StepRecord]:
        """What each optimiser step did, in order; long runs are merged."""
        self._read_now()
        return self.log.steps()

    def layers(self) -> dict[str, list[LayerStats]]:
        """What each layer's outputs looked like, by name, in the order in which they were computed; long runs are merged."""
        self._read_now()
        return self.log.layers()

    def layer_name(self, layer: str | int) -> str:
        """The name of a recorded layer, given by name or by place; negative places count from the last.

        Raises:
            UnknownNameError: there is no such layer.
        """
        self._read_now()
        return find_layer(layer, self.log.layer_names())

    def to_pandas(self) -> pandas.DataFrame:
        """Every record of every layer as a table, one row each, without histograms.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("to_pandas needs pandas, which is not installed. Install it with: pip install 'convscope[pandas]'") from None
        rows = []
        for records in self.layers().values():
            for record in records:
                row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
                for name in ("histogram", "positive", "sampled", "m2"):
                    del row[name]
                row.update(std=record.std, share_near_zero=record.share_near_zero, share_zero=record.share_zero)
                rows.append(row)
        return pandas.DataFrame(rows)

    def _read_now(self) -> None:
        if self._open and self._recording.thread == threading.get_ident():  # another thread sees what was drained last
            self._recording.read_now()

    # ------------------------------------------------------------ figures

    def plot_layer_stats(self, layer: str | int) -> list[Axes]:
        """Draw mean, standard deviation and share near zero of a layer by training step.

        Args:
            layer: name or place; negative places count from the last.
        """
        return figures.plot_layer_stats(self.log.layer_records(self.layer_name(layer)))

    def color_dim(self, layer: str | int, ax: Axes | None = None) -> Axes:
        """Draw the histograms of a layer side by side, one column a step.

        Args:
            layer: name or place; negative places count from the last.
            ax: where to draw; a new figure when None.
        """
        return figures.color_dim(self.log.layer_records(self.layer_name(layer)), ax=ax)

    def plot_all(self) -> list[Axes]:
        """Draw the histograms of all layers, exactly one panel each."""
        return figures.plot_all(self.layers())

    def plot_dead_units(self, ax: Axes | None = None) -> Axes:
        """Draw which channels of each layer were never positive."""
        return figures.plot_dead_units(self.layers(), ax=ax)

    def plot_update_ratios(self, ax: Axes | None = None) -> Axes:
        """Draw how large the updates were against the weights, against the line at 1e-3."""
        return figures.plot_update_ratios(self.layers(), ax=ax)

    # ------------------------------------------------------------ verdict and files

    def diagnose(self, *, ignore: Iterable[str] = ()) -> Verdict:
        """What is wrong with the training, if anything.

        Args:
            ignore: names of rules to leave out.
        """
        from convscope.diagnose import diagnose_log

        self._read_now()
        return diagnose_log(self.log, ignore=ignore)

    def save(self, path: str | Path) -> RunDir:
        """Write a run directory with everything that was recorded: for `convscope report`, `diagnose` and `compare`.

        Args:
            path: the directory; when it exists, a number is added to the name.

        Returns:
            The directory, whose `.path` says where it is; in a distributed run rank 0 alone writes it.

        Raises:
            UsageError: the last part of the path cannot name a folder.
            RunError: it cannot be written.
        """
        path = Path(path)
        if not is_main():
            return RunDir(path)
        run = create_run(path.parent, path.name, path.name)
        self._read_now()
        self.log.copy_to(run.log)
        run.write_config(
            {
                "kind": "watch",
                "model": ", ".join(type(unwrapped(model)).__name__ for model in self._models.values()),
                "every": self.every,
                "steps": self.step,
                "notes": list(self.notes),
                "versions": {"convscope": VERSION, "torch": torch.__version__, "python": platform.python_version()},
            }
        )
        return run


def find_layer(layer: str | int, names: list[str]) -> str:
    """The name of a layer, given by name or by place.

    Raises:
        UnknownNameError: there is no such layer.
    """
    if isinstance(layer, int) and not isinstance(layer, bool) and -len(names) <= layer < len(names):
        return names[layer]
    if layer in names:
        return str(layer)
    raise UnknownNameError("layer", layer, names)
