"""Which samples come when: 64-bit hashes of sampled numbers, and what they tell about order, repetition and overlap.

Receives batches (images, rows of a table, sequences) and gives hashes (on the device); receives the hashes as numbers later and keeps bounded memory of
them. Equal hashes mean equal sampled numbers: images that differ only by augmentation are different samples here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_IMAGES = 4096  # of a batch; fewer would make an evaluation of training images look like a leak
RUNS, RUN = 8, 16  # how many runs of how many neighbouring pixels of an image are looked at: on MNIST no two of 60,000 images share them
GOLDEN = 0.6180339887  # the golden ratio less 1: of a sample, from the beginning of one run to that of the next
MOST_KNOWN = 16_384  # hashes kept; beyond it only every second, then every fourth value is kept, by its lowest bits
COME_AGAIN = 0.9  # of the training images were seen before: the second epoch is under way
FIRST_BATCHES = 64  # whose order is remembered
DOWN = 27  # bits by which a pair is shifted: all that small whole numbers hold lies in a float's top bits, which a product would push out
SETTLED_EPOCHS, THEN_EVERY = 3.0, 8  # epochs after which only one training batch in so many is looked at, as long as nothing new comes
_RANGE = 1 << 64
_GOLDEN_64 = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits, from which splitmix64 begins

Codes = NDArray[numpy.int64]


def hashes_of_inputs(inputs: object) -> Tensor | None:
    """One 64-bit number per sample: of all that a network is given for it (tensors as long as the first one), or None for something that is no batch."""
    parts = list(inputs.values()) if isinstance(inputs, dict) else list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    tensors = [part for part in parts if isinstance(part, Tensor) and part.ndim]
    batch = [part for part in tensors if len(part) == len(tensors[0])]
    if len(batch) == 1:
        return hashes_of(batch[0])
    hashes = [found for place, part in enumerate(batch) if (found := _part_hashes(part, place)) is not None]
    return torch.stack(hashes).sum(0) if hashes else None


def _part_hashes(part: Tensor, place: int) -> Tensor | None:
    """The hashes of one of several inputs, which tell at which place it was given."""
    found = hashes_of(part.reshape(len(part), -1)) if part.numel() else None
    return None if found is None else found * _odd(-1 - place)


def hashes_of(images: Tensor) -> Tensor | None:
    """One 64-bit number per sample of the batch (the first MOST_IMAGES), or None for something that is no batch of several numbers each."""
    count = images.numel()
    if images.ndim < 2 or images.is_complex() or count == 0:
        return None
    number, size = min(len(images), MOST_IMAGES), count // len(images)
    rows = images.detach().contiguous()
    if size > RUNS * RUN:
        rows = rows.view(len(rows), size)[:number]
        rows = torch.cat([rows[:, start : start + RUN] for start in _starts(size)], 1)
    elif size % 2:
        rows = torch.nn.functional.pad(rows[:number].flatten(1), (0, 1))
    pairs = rows[:number].reshape(number, -1).contiguous().float().view(torch.int64)
    pairs = pairs ^ pairs >> DOWN
    return (pairs * _factors(pairs.shape[1], pairs.device)).sum(1)


@lru_cache(maxsize=8)
def _starts(size: int) -> tuple[int, ...]:
    """Where the runs begin: multiples of the golden ratio fall evenly on rows, columns and patches of any width, as no fixed stride does."""
    return tuple(int((GOLDEN * (run + 0.5)) % 1.0 * (size - RUN)) for run in range(RUNS))


@lru_cache(maxsize=8)
def _factors(count: int, device: torch.device) -> Tensor:
    """Odd factors, one for each pair of pixels."""
    with torch.inference_mode(mode=False):
        return torch.tensor([_odd(place) for place in range(count)], device=device)


def _odd(place: int) -> int:
    """An odd number of 64 bits for a place, by splitmix64 (Steele et al. 2014); no random generator is touched.

    Neighbouring places must have factors without a pattern: with multiples of one number, a + 3b is the same for many pairs of small whole numbers.
    """
    mixed = (place * _GOLDEN_64) % _RANGE
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % _RANGE
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % _RANGE
    mixed = (mixed ^ mixed >> 31) | 1
    return mixed - _RANGE if mixed >= _RANGE // 2 else mixed


class Identity:
    """What the hashes of training images have told so far."""

    def __init__(self) -> None:
        self.train_images = 0
        self._known: set[int] = set()
        self._mask = 0
        self._twice = self._repeated = self._batches = 0
        self._before = b""
        self._step: int | None = None
        self._step_keys: set[bytes] = set()  # of the batches of this step
        self._order: list[int] = []
        self._matching = self._best_run = 0
        self._epoch: int | None = None
        self._again = 0.0  # share of training images that were seen before, averaged over the last five batches or so
        self.bits: float | None = None  # that tell one sample from another, at most; None when unknown
        self.axes: int | None = None  # of a batch

    def trained(self, batch: Codes, every: int = 1, step: int | None = None) -> None:
        """A training batch's hashes; it stands for `every` batches. The same batch in another pass of one step is told once."""
        key = batch[:8].tobytes()
        if step is None or step != self._step:
            self._step, self._step_keys = step, set()
        elif key in self._step_keys:
            return
        self._step_keys.add(key)
        self.train_images += every * len(batch)
        self._twice += every * int((numpy.diff(numpy.sort(batch)) == 0).sum())
        if every == 1:
            self._compare(key, int(batch[0]))
        else:
            self._matching = 0  # what came before is not known
        kept = self._kept(batch)
        if kept:
            share = sum(map(self._known.__contains__, kept)) / len(kept)
            self._again = 0.8 * self._again + 0.2 * share
        self._known.update(kept)
        while len(self._known) > MOST_KNOWN:
            self._mask = self._mask << 1 | 1
            self._known = {value for value in self._known if not value & self._mask}

    def _compare(self, key: bytes, first: int) -> None:
        """Compare a batch with the one before it, and the order with that of the first batches."""
        self._repeated += key == self._before
        self._before = key
        self._follow(first)
        self._batches += 1

    def _kept(self, batch: Codes) -> list[int]:
        """Those hashes that are remembered; the upper bits are mixed into the lower ones, by which they are chosen."""
        mixed = batch ^ batch >> 32
        kept: list[int] = mixed[mixed & self._mask == 0].tolist()
        return kept

    @property
    def all_known(self) -> bool:
        """Whether training images come again: then all of them have been seen."""
        return self._again > COME_AGAIN

    @property
    def settled(self) -> bool:
        """Whether the training images and their order are known, so that few looks are enough."""
        return self.all_known and self.epochs >= SETTLED_EPOCHS

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

    def known(self, batch: Codes) -> float:
        """How many of these images were trained on, estimated from the hashes that are kept."""
        kept = self._kept(batch)
        return len(batch) * sum(map(self._known.__contains__, kept)) / len(kept) if kept else 0.0

    def trained_on(self, batch: Codes) -> set[int]:
        """Those of these samples' hashes that are kept and were trained on."""
        return self._known.intersection(self._kept(batch))

    @property
    def distinct(self) -> int:
        """How many different hashes are kept."""
        return len(self._known)

    @property
    def epochs(self) -> float:
        """How often each different training sample was seen, on average."""
        return self.train_images / max(1, self.distinct * (self._mask + 1))

    def numbers(self) -> dict[str, float | int | str | bool | None]:
        """The numbers of an "identity" observation."""
        return {
            "train_images": self.train_images,
            "duplicates": self._twice / self.train_images if self.train_images else 0.0,
            "repeated_batches": self._repeated / max(1, self._batches - 1),
            "order_repeats": self._best_run,
            "epoch_batches": self._epoch,
            "epochs": self.epochs,
            "bits": self.bits,
            "axes": self.axes,
        }
