"""What watching costs: the time of a training step with the watcher over that without, in interleaved pairs in one process.

Claims (n pairs, each of a block of plain steps and a block of watched ones; median ratio):
    net B of the book chapter (5 convolutions, batch 512 of 28x28), AdamW, every layer at every step, histograms on: at most 1.05
    the same, layers at every 10th step: at most 1.01
    ResNet-18 on 64x64: at most 1.05

Run `python benchmarks/watch_overhead.py [--pairs 24]`. Results go to benchmarks/results/watch_overhead.json with hardware, versions and spread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from convscope.version import VERSION
from convscope.watch import Watcher

BLOCK_SECONDS = 0.5  # of one block of steps; long against the clock and short against changes of the machine's load
Watch = Callable[[nn.Module, int], AbstractContextManager[object]]


def net_b(norm: bool = False) -> nn.Module:
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
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return nn.Sequential(*stem, *(BasicBlock(*size) for size in sizes), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def convscope(every: int) -> Watch:
    return lambda model, step: Watcher(model, every=every, first_step=step)


@contextlib.contextmanager
def usual_hooks(model: nn.Module, _: int) -> Iterator[None]:
    """Hooks written the usual way: mean, std and histogram of every layer, each copied to the host at once."""
    seen: list[tuple[float, float, torch.Tensor]] = []

    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        values = output.detach()
        seen.append((values.mean().item(), values.std().item(), values.float().histc(40, 0, 10).cpu()))

    handles = [module.register_forward_hook(hook) for module in model.modules() if not list(module.children())]
    yield
    for handle in handles:
        handle.remove()


def measure(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], watch: Watch, pairs: int) -> dict[str, object]:
    """Median, quartiles and extremes of the ratio of watched to plain steps."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = [(torch.randn(shape), torch.randint(0, 10, shape[:1])) for _ in range(4)]
    done = 0

    def steps(count: int) -> float:
        nonlocal done
        started = time.perf_counter()
        for _ in range(count):
            images, labels = batches[done % len(batches)]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            done += 1
        return (time.perf_counter() - started) / count

    steps(3)
    block = max(3, round(BLOCK_SECONDS / steps(3)))
    plain, watched = [], []
    for pair in range(pairs):
        for turn in (0, 1) if pair % 2 else (1, 0):  # who goes first takes turns
            with watch(model, done) if turn else nullcontext():
                (watched if turn else plain).append(steps(block))
    ratios = sorted(after / before for before, after in zip(plain, watched, strict=True))
    quartiles = statistics.quantiles(ratios, n=4)
    result = {
        "what": name,
        "pairs": pairs,
        "steps in a block": block,
        "plain step, ms (median)": round(1e3 * statistics.median(plain), 3),
        "watched step, ms (median)": round(1e3 * statistics.median(watched), 3),
        "ratio (median)": round(statistics.median(ratios), 4),
        "ratio (quartiles)": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "ratio of the fastest blocks": round(min(watched) / min(plain), 4),
    }
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    digits, photos = (512, 1, 28, 28), (32, 3, 64, 64)
    cases: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], Watch]] = [
        ("net B, every step", net_b, digits, convscope(1)),
        ("net B, every 10th step", net_b, digits, convscope(10)),
        ("net B with batch norm, every step", lambda: net_b(True), digits, convscope(1)),
        ("ResNet-18 on 64x64, every step", resnet18, photos, convscope(1)),
        ("net B, hooks written the usual way", net_b, digits, usual_hooks),
    ]
    results = [measure(name, make, shape, watch, arguments.pairs) for name, make, shape, watch in cases if arguments.only in name]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    facts = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "convscope": VERSION,
        "commit": commit,
    }
    target = Path(__file__).with_name("results") / "watch_overhead.json"
    target.parent.mkdir(exist_ok=True)
    if not arguments.only:
        target.write_text(json.dumps({"facts": facts, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
