"""fastai's side of benchmarks/folder.py, run by it in an environment of its own: the book's chapter 13 on a folder of PNG files.

Prints one line of JSON. `python folder_fastai.py FOLDER BATCH LR EPOCHS`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

import fastai
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # the schedules add fit_one_cycle to Learner
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import GrandparentSplitter, Normalize, get_image_files, parent_label
from fastai.metrics import accuracy
from fastai.vision.core import PILImageBW
from fastai.vision.data import ImageBlock
from torch import nn


def conv(inputs: int, outputs: int, kernel: int = 3, *, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, stride=2, kernel_size=kernel, padding=kernel // 2), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if act else []))


def net_b() -> nn.Sequential:
    """The chapter's net B with batch norm."""
    return nn.Sequential(conv(1, 8, 5), conv(8, 16), conv(16, 32), conv(32, 64), conv(64, 10, act=False), nn.Flatten())


class Clock(Callback):
    """Notes the end of every epoch, validation included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_epoch(self) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    folder, batch, lr, epochs = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    clock = Clock()
    begin = time.perf_counter()
    block = DataBlock(
        blocks=(ImageBlock(cls=PILImageBW), CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter("training", "testing"),
        get_y=parent_label,
        batch_tfms=Normalize(),
    )
    loaders = block.dataloaders(folder, bs=batch)
    learner = Learner(loaders, net_b(), loss_func=nn.CrossEntropyLoss(), metrics=accuracy, cbs=clock)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, lr)
    ends = [begin, *clock.ends]
    result = {
        "seconds": [after - before for before, after in itertools.pairwise(ends)],
        "accuracy": float(learner.recorder.values[-1][-1]),
        "versions": {"fastai": fastai.__version__, "torch": str(torch.__version__), "workers": loaders.train.num_workers},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
