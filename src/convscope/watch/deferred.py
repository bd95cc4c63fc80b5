"""Small results that wait on the device until they are read together.

Receives small tensors with a function for each; hands each function its numbers at `flush`. Nothing is copied to the host before, so that an
ordinary step of a training loop on an accelerator never waits for us.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOST_WAITING = 512  # results; beyond it they are read at the next chance, so that memory stays bounded

Numbers = list[float]


class Deferred:
    """A queue of small tensors and what is to be done with their numbers, in order.

    Example:
        >>> queue = Deferred()
        >>> queue.add(torch.tensor([1.0, 2.0]), print)
        >>> queue.flush()
        [1.0, 2.0]
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor | Numbers, Callable[[Numbers], None]]] = []

    def add(self, values: Tensor, receive: Callable[[Numbers], None]) -> None:
        """Queue a tensor; `receive` gets its elements, flattened, as Python numbers."""
        self._waiting.append((values.detach().reshape(-1), receive))

    def add_known(self, values: Numbers, receive: Callable[[Numbers], None]) -> None:
        """Queue numbers that are known already, so that they are received in their turn."""
        self._waiting.append((values, receive))

    @property
    def crowded(self) -> bool:
        """Whether so much waits that it should be read soon."""
        return len(self._waiting) > MOST_WAITING

    def flush(self) -> None:
        """Copy everything to the host, one copy for whole numbers and one for the others, and hand it out in order."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        numbers: dict[int, Numbers] = {at: values for at, (values, _) in enumerate(waiting) if not isinstance(values, Tensor)}
        tensors = [(at, values) for at, (values, _) in enumerate(waiting) if isinstance(values, Tensor)]
        for whole in (True, False):
            chosen = [(at, values) for at, values in tensors if _is_whole(values) is whole]
            if not chosen:
                continue
            kind, device = torch.int64 if whole else torch.float32, chosen[0][1].device
            joined = torch.cat([values.to(device=device, dtype=kind) for _, values in chosen]).tolist()
            start = 0
            for at, values in chosen:
                end = start + values.numel()
                numbers[at], start = joined[start:end], end
        for at, (_, receive) in enumerate(waiting):
            receive(numbers[at])


def _is_whole(values: Tensor) -> bool:
    return not values.is_floating_point() and not values.is_complex()
