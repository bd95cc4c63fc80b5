"""How much slower a training step becomes under something that watches it: plain and watched blocks of steps take turns in one process.

Needs torch only, so that benchmarks/watch_overhead_rivals.py can run it in an environment of the rivals'.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

BLOCK_SECONDS = 3.0  # of one block of steps, with the watcher's beginning and end, which a run pays once
DIGITS, PHOTOS = (512, 1, 28, 28), (32, 3, 64, 64)

AfterStep = Callable[[int, float], object]  # what a loop must call by itself after each step, with its number and loss
Watch = Callable[[nn.Module, torch.optim.Optimizer, int], AbstractContextManager[AfterStep | object]]


def net_b(norm: bool = False) -> nn.Module:
    """The book chapter's net B."""
    blocks = []
    for channels, filters, kernel in ((1, 8, 5), (8, 16, 3), (16, 32, 3), (32, 64, 3), (64, 10, 3)):
        block = [nn.Conv2d(channels, filters, kernel, 2, kernel // 2), *([nn.BatchNorm2d(filters)] if norm else [])]
        blocks.append(nn.Sequential(*block, *([nn.ReLU()] if filters != 10 else [])))
    return nn.Sequential(*blocks, nn.Flatten())


class BasicBlock(nn.Module):
    """Two convolutions and what they are added to (He et al., 2015)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)
        same = stride == 1 and channels == filters
        self.downsample = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(hidden)) + self.downsample(images))


def resnet18() -> nn.Module:
    """ResNet-18 as in the paper, with ten classes."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return nn.Sequential(*stem, *(BasicBlock(*size) for size in sizes), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


@dataclass(frozen=True)
class Case:
    """Something to measure: who watches (`nobody`: what the harness itself finds) which network on batches of which shape, where."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    watch: Watch
    device: str = "cpu"


def nobody(_: nn.Module, __: torch.optim.Optimizer, ___: int) -> AbstractContextManager[object]:
    """No watcher at all."""
    return nullcontext()


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Ratio of watched to plain steps: median, quartiles, worst, and that of the fastest blocks; beginning and end of watching count."""
    torch.manual_seed(0)
    model = case.make().to(case.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = [(torch.randn(case.shape).to(case.device), torch.randint(0, 10, case.shape[:1]).to(case.device)) for _ in range(4)]
    done = 0

    def steps(count: int, after: AfterStep | object = None) -> None:
        nonlocal done
        for _ in range(count):
            images, labels = batches[done % len(batches)]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            if callable(after):
                after(done, loss.item())
            done += 1

    def seconds(count: int, watch: Watch) -> float:
        """For one of so many steps."""
        started = time.perf_counter()
        with watch(model, optimizer, done) as after:
            steps(count, after)
            if case.device != "cpu":
                torch.cuda.synchronize()
        return (time.perf_counter() - started) / count

    steps(3)
    block = max(3, round(BLOCK_SECONDS / seconds(3, nobody)))
    plain, watched = [], []
    for pair in range(pairs):
        for turn in (0, 1) if pair % 2 else (1, 0):  # who goes first takes turns
            (watched if turn else plain).append(seconds(block, case.watch if turn else nobody))
    ratios = [after / before for before, after in zip(plain, watched, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    result = {
        "what": case.name,
        "pairs": pairs,
        "steps in a block": block,
        "plain step, ms (median)": round(1e3 * statistics.median(plain), 3),
        "watched step, ms (median)": round(1e3 * statistics.median(watched), 3),
        "ratio (median)": round(statistics.median(ratios), 4),
        "ratio (quartiles)": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "ratio (worst)": round(max(ratios), 4),
        "ratio of the fastest blocks": round(min(watched) / min(plain), 4),
    }
    print(json.dumps(result), flush=True)
    return result
