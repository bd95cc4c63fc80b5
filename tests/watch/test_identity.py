"""Few looks at the samples are enough once all of them are known, and many again as soon as others come."""

from __future__ import annotations

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from convscope.watch import Watcher
from convscope.watch.identity import THEN_EVERY, Identity

SAMPLES, BATCH = 96, 16


def epoch(identity: Identity, first: int, every: int = 1) -> None:
    hashes = numpy.arange(first, first + SAMPLES, dtype=numpy.int64) * 0x1E3779B97F4A7C15  # spread over all bits
    for start in range(0, SAMPLES, BATCH * every):
        identity.trained(hashes[start : start + BATCH], every=every)


def test_samples_are_settled_after_three_epochs_until_new_ones_come() -> None:
    identity, settled = Identity(), []
    for first in (1, 1, 1, 1):
        epoch(identity, first)
        settled.append(identity.settled)
    assert settled == [False, False, True, True]
    assert identity.train_images == 4 * SAMPLES
    epoch(identity, 1000)
    assert not identity.settled


def test_a_batch_that_stands_for_several_counts_as_several() -> None:
    identity = Identity()
    for _ in range(3):
        epoch(identity, 1)
    epoch(identity, 1, every=2)
    assert identity.train_images == 4 * SAMPLES
    assert identity.epochs == 4.0
    assert identity.numbers()["epoch_batches"] == SAMPLES // BATCH
    assert identity.numbers()["repeated_batches"] == 0.0


def test_a_long_run_looks_at_one_batch_in_so_many(monkeypatch) -> None:
    looks = []
    trained = Identity.trained
    monkeypatch.setattr(
        Identity, "trained", lambda self, batch, every=1, step=None: looks.append(every) or trained(self, batch, every, step)
    )
    torch.manual_seed(0)
    model, images, labels = nn.Linear(20, 3), torch.randn(64, 20), torch.randint(0, 3, (64,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for step in range(400):
            batch = torch.arange(16) + step % 4 * 16
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    few = sum(every == THEN_EVERY for every in looks)
    assert 25 <= few <= 400 / THEN_EVERY
    seen = [one for one in watch.log.observations() if one.kind == "identity"][-1].numbers
    assert abs(seen["train_images"] - 400 * 16) <= THEN_EVERY * 16
    assert seen["order_repeats"] == 4
