"""fastai's side of benchmarks/folder.py, run by it in an environment of its own: the book's chapter 13 on a folder of PNG files.

Prints one line of JSON. `python folder_fastai.py FOLDER BATCH LR EPOCHS`.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

from torch import nn

Moment = tuple[float, float]  # seconds on the wall and of the processor


def now() -> Moment:
    """The time, and the processor's time of this process and of its children that have ended."""
    times = os.times()
    return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


def span(begin: Moment, end: Moment) -> Moment:
    """Seconds from one moment to another, by both clocks."""
    return end[0] - begin[0], end[1] - begin[1]


def by_clock(spans: list[Moment]) -> dict[str, list[float]]:
    """The same seconds, one list per clock."""
    return {"seconds": [wall for wall, _ in spans], "processor_seconds": [processor for _, processor in spans]}


def conv(inputs: int, outputs: int, kernel: int = 3, *, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, stride=2, kernel_size=kernel, padding=kernel // 2), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if act else []))


def net_b() -> nn.Sequential:
    """The chapter's net B with batch norm."""
    return nn.Sequential(conv(1, 8, 5), conv(8, 16), conv(16, 32), conv(32, 64), conv(64, 10, act=False), nn.Flatten())


def main() -> None:
    import fastai
    import torch
    from fastai.callback.core import Callback
    from fastai.callback.schedule import Learner  # the schedules add fit_one_cycle to Learner
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import GrandparentSplitter, Normalize, get_image_files, parent_label
    from fastai.metrics import accuracy
    from fastai.vision.core import PILImageBW
    from fastai.vision.data import ImageBlock

    class Clock(Callback):  # type: ignore[misc]
        """Notes the end of every epoch, validation included."""

        ends: list[Moment] = []  # noqa: RUF012

        def after_epoch(self) -> None:
            self.ends.append(now())

    folder, batch, lr, epochs = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    begin = now()
    block = DataBlock(
        blocks=(ImageBlock(cls=PILImageBW), CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter("training", "testing"),
        get_y=parent_label,
        batch_tfms=Normalize(),
    )
    loaders = block.dataloaders(folder, bs=batch)
    learner = Learner(loaders, net_b(), loss_func=nn.CrossEntropyLoss(), metrics=accuracy, cbs=[clock := Clock()])
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, lr)
    result = {
        **by_clock([span(*pair) for pair in itertools.pairwise([begin, *clock.ends])]),
        "accuracy": float(learner.recorder.metrics[0].value),
        "versions": {"fastai": fastai.__version__, "torch": str(torch.__version__), "workers": loaders.train.num_workers},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
