"""What watching costs: the time of a training step with the watcher over that without, in interleaved pairs in one process.

Claims (n pairs, each of a block of plain steps and a block of watched ones; median ratio):
    net B of the book chapter (5 convolutions, batch 512 of 28x28), AdamW, every layer at every step, histograms on: at most 1.05
    the same, layers at every 10th step: at most 1.01
    ResNet-18 on 64x64: at most 1.05
    watching and a verdict every three seconds: at most 1.05, worst block at most 1.08
    on a GPU, where there is one: at most 1.02, without a host synchronisation inside a step

Run `python benchmarks/watch_overhead.py [--pairs 24]`, and benchmarks/watch_overhead_rivals.py after it for others' watchers.
Results go to benchmarks/results/watch_overhead.json with hardware, versions and spread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from step_pairs import DIGITS, PHOTOS, Case, Watch, measure, net_b, nobody, resnet18
from torch import nn
from torch.nn import functional as F

from convscope.version import VERSION
from convscope.watch import Watcher


def convscope(every: int) -> Watch:
    return lambda model, _, step: Watcher(model, every=every, first_step=step)


@contextlib.contextmanager
def diagnosed(model: nn.Module, _: torch.optim.Optimizer, step: int) -> Iterator[None]:
    """The watcher, and one verdict for each block of steps."""
    with Watcher(model, first_step=step) as watch:
        yield
    watch.diagnose()


def host_syncs(steps: int = 8) -> dict[str, int]:
    """How often a plain and a watched training loop of net B wait for the GPU; the loop itself never does."""
    found = {}
    for name, watched in (("plain", False), ("watched", True)):
        model = net_b().cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        images, labels = torch.randn(DIGITS, device="cuda"), torch.randint(0, 10, DIGITS[:1], device="cuda")
        with Watcher(model, first_step=1001) if watched else contextlib.nullcontext(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for at in range(2 * steps):  # the first half warms up
                torch.cuda.set_sync_debug_mode("warn" if at >= steps else "default")
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
            torch.cuda.set_sync_debug_mode("default")
            found[name] = sum("synchroniz" in str(warning.message) for warning in caught)
    return found


@contextlib.contextmanager
def usual_hooks(model: nn.Module, _: torch.optim.Optimizer, __: int) -> Iterator[None]:
    """Hooks written the usual way: mean, std and histogram of every layer, each copied to the host at once."""
    seen: list[tuple[float, float, torch.Tensor]] = []

    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        values = output.detach()
        seen.append((values.mean().item(), values.std().item(), values.float().histc(40, 0, 10).cpu()))

    handles = [module.register_forward_hook(hook) for module in model.modules() if not list(module.children())]
    yield
    for handle in handles:
        handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    cases = [
        Case("net B, every step", net_b, DIGITS, convscope(1)),
        Case("net B, every 10th step", net_b, DIGITS, convscope(10)),
        Case("net B with batch norm, every step", lambda: net_b(True), DIGITS, convscope(1)),
        Case("net B with batch norm, every 10th step", lambda: net_b(True), DIGITS, convscope(10)),
        Case("ResNet-18 on 64x64, every step", resnet18, PHOTOS, convscope(1)),
        Case("net B with batch norm, watched and diagnosed every 3 s", lambda: net_b(True), DIGITS, diagnosed),
        Case("net B, nobody watches", net_b, DIGITS, nobody),
        Case("net B, hooks written the usual way", net_b, DIGITS, usual_hooks),
    ]
    if torch.cuda.is_available():
        cases.append(Case("net B on the GPU, every step", net_b, DIGITS, convscope(1), "cuda"))
        cases.append(Case("ResNet-18 on the GPU, every step", resnet18, (256, 3, 64, 64), convscope(1), "cuda"))
    results = [measure(case, arguments.pairs) for case in cases if arguments.only in case.name]
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
        "host synchronisations in 8 steps on the GPU": host_syncs() if torch.cuda.is_available() else None,
    }
    target = Path(__file__).with_name("results") / "watch_overhead.json"
    target.parent.mkdir(exist_ok=True)
    if not arguments.only:
        target.write_text(json.dumps({"facts": facts, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
