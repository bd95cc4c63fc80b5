"""Small results that wait on the device until they are read together.

Receives small tensors with a function for each; hands each function its numbers at `flush`. Nothing is copied to the host before, so that an
ordinary step of a training loop on an accelerator never waits for us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_WAITING = 512  # results; beyond it they are read at the next chance, so that memory stays bounded

Numbers = list[float]
Codes = NDArray[numpy.int64]


class Deferred:
    """A queue of small tensors and what is to be done with their numbers, in order.

    Example:
        >>> queue = Deferred()
        >>> queue.add(torch.tensor([1.0, 2.0]), print)
        >>> queue.flush()
        [1.0, 2.0]
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor | Numbers | Callable[[], Tensor], Callable[[Any], None]]] = []

    def add(self, values: Tensor, receive: Callable[[Numbers], None]) -> None:
        """Queue figures; `receive` gets them flattened, as Python numbers."""
        self._waiting.append((values.detach().reshape(-1).float(), receive))

    def add_codes(self, values: Tensor | Callable[[], Tensor], receive: Callable[[Codes], None]) -> None:
        """Queue 64-bit whole numbers in one dimension, or what computes them later; `receive` gets them as an array, as there are many."""
        self._waiting.append((values, receive))

    def add_known(self, values: Numbers, receive: Callable[[Numbers], None]) -> None:
        """Queue numbers that are known already, so that they are received in their turn."""
        self._waiting.append((values, receive))

    @property
    def crowded(self) -> bool:
        """Whether so much waits that it should be read soon."""
        return len(self._waiting) > MOST_WAITING

    def flush(self) -> None:
        """Copy everything to the host, one copy for codes and one for figures, and hand it out in order."""
        waiting = [(values() if callable(values) else values, receive) for values, receive in self._waiting]
        self._waiting = []
        numbers: dict[int, Any] = {at: values for at, (values, _) in enumerate(waiting) if not isinstance(values, Tensor)}
        for kind in (torch.int64, torch.float32):
            chosen = [(at, values) for at, (values, _) in enumerate(waiting) if isinstance(values, Tensor) and values.dtype == kind]
            if not chosen:
                continue
            device = chosen[0][1].device
            joined = torch.cat([values.to(device) for _, values in chosen]).cpu().numpy()
            start = 0
            for at, values in chosen:
                part = joined[start : start + len(values)]
                numbers[at] = part if kind == torch.int64 else part.tolist()
                start += len(values)
        for at, (_, receive) in enumerate(waiting):
            receive(numbers[at])
