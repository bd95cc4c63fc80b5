"""Which images come when: 64-bit hashes of sampled pixels, and what they tell about order, repetition and overlap.

Receives batches of images and gives hashes (on the device); receives the hashes as numbers later and keeps bounded memory of them. Equal hashes
mean equal sampled pixels: images that differ only by augmentation are different images here.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

MOST_IMAGES = 4096  # of a batch; fewer would make an evaluation of training images look like a leak
PIXELS = 64  # looked at in each image, spread over all of it
MOST_KNOWN = 16_384  # hashes kept; beyond it only every second, then every fourth value is kept, by its lowest bits
COME_AGAIN = 0.9  # of the training images were seen before: the second epoch is under way
FIRST_BATCHES = 64  # whose order is remembered
_PRIME = 0x9E3779B97F4A7C15 - (1 << 64)  # the golden ratio in 64 bits, as Knuth's multiplicative hash


def hashes_of(images: Tensor) -> Tensor | None:
    """One 64-bit number per image of the batch (the first MOST_IMAGES), or None for something that is no batch of floating point images."""
    if images.ndim < 2 or not images.is_floating_point() or images.shape[0] == 0:
        return None
    with torch.no_grad():
        rows = images.detach()[:MOST_IMAGES].flatten(1)
        places, factors = _plan(rows.shape[1], rows.device)
        if places.numel() == 0:
            return None
        return (rows.index_select(1, places).float().view(torch.int32).long() * factors).sum(1)


@lru_cache(maxsize=8)
def _plan(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of the sampled pixels and their odd factors; no random generator is touched."""
    with torch.inference_mode(mode=False):
        steps = torch.arange(PIXELS, device=device)
        places = (steps * 0x9E3779B1 % max(size, 1)).unique() if size else steps[:0]  # type: ignore[no-untyped-call]
        factors = (torch.arange(len(places), device=device) * 2 + 1) * _PRIME
    return places, factors


class Identity:
    """What the hashes of training images have told so far."""

    def __init__(self) -> None:
        self.train_images = 0
        self._known: set[int] = set()
        self._mask = 0
        self._twice = self._repeated = self._batches = 0
        self._before: tuple[int, ...] = ()
        self._order: list[int] = []
        self._matching = self._best_run = 0
        self._epoch: int | None = None
        self._again = 0.0  # share of training images that were seen before, averaged over the last five batches or so

    def trained(self, numbers: list[float]) -> None:
        """A training batch's hashes."""
        batch = [int(value) for value in numbers]
        self.train_images += len(batch)
        self._twice += len(batch) - len(set(batch))
        key = tuple(batch[:8])
        self._repeated += key == self._before
        self._before = key
        self._follow(batch[0])
        self._batches += 1
        kept = [value for value in batch if not value & self._mask]
        if kept:
            share = sum(value in self._known for value in kept) / len(kept)
            self._again = 0.8 * self._again + 0.2 * share
        self._known.update(value for value in batch if not value & self._mask)
        while len(self._known) > MOST_KNOWN:
            self._mask = self._mask << 1 | 1
            self._known = {value for value in self._known if not value & self._mask}

    @property
    def all_known(self) -> bool:
        """Whether training images come again: then all of them have been seen."""
        return self._again > COME_AGAIN

    def _follow(self, first: int) -> None:
        """Compare the order of first images with that of the first batches."""
        if len(self._order) < FIRST_BATCHES and self._epoch is None:
            if self._order and first == self._order[0]:
                self._epoch, self._matching = self._batches, 1
                return
            self._order.append(first)
        elif first == self._order[0]:
            self._epoch = self._epoch or self._batches
            self._matching = 1
        elif self._matching and self._matching < len(self._order) and first == self._order[self._matching]:
            self._matching += 1
            self._best_run = max(self._best_run, self._matching)
        else:
            self._matching = 0

    def known(self, numbers: list[float]) -> float:
        """How many of these images were trained on, estimated from the hashes that are kept."""
        kept = [int(value) for value in numbers if not int(value) & self._mask]
        return len(numbers) * sum(value in self._known for value in kept) / len(kept) if kept else 0.0

    def numbers(self) -> dict[str, float | int | str | bool | None]:
        """The numbers of an "identity" observation."""
        return {
            "train_images": self.train_images,
            "duplicates": self._twice / self.train_images if self.train_images else 0.0,
            "repeated_batches": self._repeated / max(1, self._batches - 1),
            "order_repeats": self._best_run,
            "epoch_batches": self._epoch,
        }
