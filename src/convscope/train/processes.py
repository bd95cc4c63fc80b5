"""One process or several: which rank this is, and the few things that ranks do together, through accelerate over torch.distributed.

`torchrun --nproc_per_node 2 -m convscope train mnist` starts two processes; without it there is one, and nothing here costs anything.
Accelerate keeps its state per process, so that one is made at most once. Mixed precision and checkpoints are not its business here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from convscope.seeds import DeviceChoice, choose_device

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")


@cache
def _accelerator(cpu: bool) -> Accelerator:
    from accelerate import Accelerator

    return Accelerator(cpu=cpu)


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, as one of them sees it.

    Attributes:
        rank: 0 for the one that writes; world: how many there are; device: this one's; reason: why that device.
    """

    rank: int
    world: int
    device: torch.device
    reason: str

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the loop calls it: wrapped to average gradients when there are several processes."""
        if self.world == 1:
            return model
        wrapped: nn.Module = _accelerator(self.device.type == "cpu").prepare_model(model)
        return wrapped

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes, on each of them."""
        if self.world == 1:
            return values
        summed: Tensor = _accelerator(self.device.type == "cpu").reduce(values, reduction="sum")
        return summed

    def agree_on_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers (batch norm's running averages, which each took from its own share of the last batch)."""
        if self.world > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def share(self, value: T) -> T:
        """The main process's value, on each of them."""
        if self.world == 1:
            return value
        from accelerate.utils import broadcast_object_list

        received: list[T] = broadcast_object_list([value])
        return received[0]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.world > 1:
            _accelerator(self.device.type == "cpu").wait_for_everyone()


def join(device: str | torch.device = "auto") -> Processes:
    """Join the processes that a launcher started, or be the only one.

    Args:
        device: "auto", "cpu", "cuda", "mps"; with several processes and "auto" each takes the GPU of its local rank.

    Raises:
        UsageError: the device is not here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        choice = choose_device(device)
        return Processes(0, 1, choice.device, choice.reason)
    choice = choose_device(device)
    accelerator = _accelerator(choice.device.type == "cpu")
    many = DeviceChoice(accelerator.device, f"{choice.reason}; one of {accelerator.num_processes} processes")
    return Processes(accelerator.process_index, accelerator.num_processes, many.device, many.reason)
