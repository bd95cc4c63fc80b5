"""What the Learner costs: an epoch of `Learner` against a bare hand-written PyTorch loop, interleaved: `python benchmarks/loop.py [--pairs 12]`.

Claim: the median of the paired ratios is at most 1.05. Both train the book's net with batch norm on MNIST, batch 512, by the same Adam with the
same number of batches and one validation pass with loss and accuracy, on the same uint8 tensors in memory, gathered and normalised batch by
batch; nothing is watched. Further figures: against a bare loop whose images were normalised beforehand and are kept as float32, four times the
memory; and the same ratios of processor time instead of wall time, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from common import keep, spread
from torch import Tensor, nn

import convscope as cs

BATCH = 512
LR = 0.01
BOUND = 1.05


def bare_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], mean: float, std: float) -> None:
    """One epoch and one validation pass as one would write them by hand."""

    def batch(split: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        images = tensors[f"{split}_images"][rows]
        if images.dtype == torch.uint8:
            images = images.float().sub_(mean).div_(std)
        return images, tensors[f"{split}_labels"][rows]

    model.train()
    order = torch.randperm(len(tensors["train_labels"]))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        images, labels = batch("train", order[start : start + BATCH])
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(tensors["valid_labels"]), BATCH):
            images, labels = batch("valid", torch.arange(start, min(start + BATCH, len(tensors["valid_labels"]))))
            logits = model(images)
            total += F.cross_entropy(logits, labels).item() * len(labels)
            right += int((logits.argmax(1) == labels).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    pairs = parser.parse_args().pairs
    data = cs.load_data("mnist", BATCH)
    mean, std = data.preprocess.mean[0] * 255, data.preprocess.std[0] * 255
    raw = {
        f"{name}_{what}": value
        for name, loader in (("train", data.train), ("valid", data.valid))
        for what, value in (("images", loader.split.images_MCHW), ("labels", loader.split.labels_N))
    }
    ready = {name: value.float().sub_(mean).div_(std) if name.endswith("images") else value for name, value in raw.items()}
    torch.manual_seed(0)
    model = cs.simple_cnn()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01, foreach=True)
    learner = cs.Learner(data, cs.simple_cnn(), seed=0, device="cpu")

    epochs = {
        "ours": lambda: learner.fit(1, LR),
        "bare": lambda: bare_epoch(model, optimizer, raw, mean, std),
        "bare_ready": lambda: bare_epoch(model, optimizer, ready, mean, std),
    }
    for epoch in epochs.values():
        epoch()  # warm up
    wall: dict[str, list[float]] = {name: [] for name in epochs}
    processor: dict[str, list[float]] = {name: [] for name in epochs}
    for pair in range(pairs):  # the order changes from pair to pair, so that drift of the machine's speed favours none
        for name in sorted(epochs, reverse=pair % 2 == 0):
            started, used = time.perf_counter(), time.process_time()
            epochs[name]()
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - used)
    ratios = {}
    for clock, times in (("wall", wall), ("processor", processor)):
        for other in ("bare", "bare_ready"):
            ratio = spread([one / two for one, two in zip(times["ours"], times[other], strict=True)])
            ratios[f"{clock} / {other}"] = ratio
            print(
                f"Learner / {other}, {clock} time: median {ratio['median']:.3f}, {ratio['min']:.3f} to {ratio['max']:.3f}, n {ratio['n']}"
            )
    print(f"bound {BOUND}: {'holds' if ratios['wall / bare']['median'] <= BOUND else 'FAILS'}")
    keep("loop", {"bound": BOUND, "ratios": ratios, "seconds": {name: spread(values) for name, values in wall.items()}})


if __name__ == "__main__":
    main()
