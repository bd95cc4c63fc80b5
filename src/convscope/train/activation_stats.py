"""ActivationStats: the Watcher as a callback of the Learner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from convscope.errors import UsageError
from convscope.records import NEAR_ZERO
from convscope.train.callback import Callback
from convscope.watch import Watcher

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from convscope.train.learner import Learner


class ActivationStats(Callback):
    """Records mean, standard deviation, share near zero and histogram of every layer's outputs at every step, and more; see `Watcher`.

    Args:
        every: layers are recorded at one step in so many.
        layers: names of layers to record; None for all.
        near_zero: |x| at most this counts as near zero.

    Attributes:
        watcher: the Watcher, once a fit has begun.

    Example:
        >>> learner = Learner(data, simple_cnn(), callbacks=[ActivationStats()])
        >>> learner.fit_one_cycle(1, lr_max=0.06)
        >>> learner.activation_stats.color_dim(-2)
    """

    logs_steps = True

    def __init__(self, every: int = 1, layers: Iterable[str] | None = None, near_zero: float = NEAR_ZERO) -> None:
        self.every, self.layers, self.near_zero = every, layers, near_zero
        self._watcher: Watcher | None = None

    @property
    def watcher(self) -> Watcher:
        """The Watcher of the last fit.

        Raises:
            UsageError: nothing was trained yet.
        """
        if self._watcher is None:
            raise UsageError(
                "ActivationStats has seen no training yet. Call fit or fit_one_cycle of a learner that has it among its callbacks first."
            )
        return self._watcher

    def plot_layer_stats(self, layer: str | int) -> Any:
        """Draw mean, standard deviation and share near zero of a layer by step; see `Watcher.plot_layer_stats`."""
        return self.watcher.plot_layer_stats(layer)

    def color_dim(self, layer: str | int, ax: Axes | None = None) -> Axes:
        """Draw the histograms of a layer, one column a step; see `Watcher.color_dim`."""
        return self.watcher.color_dim(layer, ax=ax)

    def plot_all(self) -> Any:
        """Draw the histograms of all layers, one panel each; see `Watcher.plot_all`."""
        return self.watcher.plot_all()

    def to_pandas(self) -> pandas.DataFrame:
        """All records as a table; see `Watcher.to_pandas`."""
        return self.watcher.to_pandas()

    def before_fit(self, learner: Learner) -> None:
        """Begin to watch."""
        batches = len(learner.data.train)
        self._watcher = Watcher(
            learner.model, every=self.every, layers=self.layers, near_zero=self.near_zero, log=learner.log, first_step=learner.step
        )
        self._watcher.report_epochs(lambda: learner.epoch + min(learner.batch / batches, 1))
        self._watcher.start()

    def before_checkpoint(self, learner: Learner) -> None:
        """Hand the log what was seen until now."""
        if self._watcher is not None:
            self._watcher.flush()

    def after_fit(self, learner: Learner) -> None:
        """Stop watching."""
        self.watcher.stop()
