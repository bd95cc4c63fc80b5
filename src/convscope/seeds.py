"""Seeds and the choice of a device.

Every random choice of convscope comes from one seed and a purpose ("order", epoch 3), so none depends on how many were made before
it: a resumed run, another number of processes or an extra plot in between draw the same numbers. The device is chosen together with the
reason, which the run records. This module seeds nothing global.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from convscope.errors import UsageError

SEED_BITS = 63  # what fits both torch's signed 64-bit seeds and SQLite's integers


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device and why it was chosen."""

    device: torch.device
    reason: str


def derive(seed: int, *purpose: int | str) -> int:
    """A seed for one purpose, independent of the seeds for all others.

    Args:
        seed: the run's seed, any integer.
        *purpose: what it is for: words and numbers, such as "order", 3. The number 1 and the word "1" are different purposes.

    Returns:
        An integer of 63 bits, 0 to 2^63 - 1: a BLAKE2b hash, the same on every machine and in every version of Python.

    Example:
        >>> derive(0, "order", 3) == derive(0, "order", 3) != derive(0, "order", 4)
        True
    """
    text = "\0".join(f"{type(part).__name__}:{part}" for part in (int(seed), *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - SEED_BITS)


def generator(seed: int, *purpose: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for one purpose; see `derive`.

    Example:
        >>> torch.randperm(4, generator=generator(0, "order", 0)).tolist() == torch.randperm(4, generator=generator(0, "order", 0)).tolist()
        True
    """
    made = torch.Generator(device=device)
    made.manual_seed(derive(seed, *purpose))
    return made


def choose_device(name: str | torch.device = "auto") -> DeviceChoice:
    """The device to compute on, and the reason for it.

    Args:
        name: "auto" (a CUDA GPU, else Apple's GPU, else the CPU), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        UsageError: the name is none of these, or this machine, or this build of PyTorch, has no such device.

    Example:
        >>> choose_device("cpu")
        DeviceChoice(device=device(type='cpu'), reason='asked for')
    """
    if str(name) == "auto":
        return _automatic()
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"There is no device {str(name)!r}. Use auto, cpu, cuda, cuda:1 (the second GPU) or mps.")
    if device.type == "cuda":
        _check_cuda(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("The device 'mps' was asked for, but this is not a Mac whose GPU PyTorch can use. Use auto or cpu.")
    return DeviceChoice(device, "asked for")


def _automatic() -> DeviceChoice:
    if torch.cuda.is_available():
        return DeviceChoice(torch.device("cuda"), f"automatic: found {torch.cuda.get_device_name()}")
    if torch.backends.mps.is_available():
        return DeviceChoice(torch.device("mps"), "automatic: found Apple's GPU")
    return DeviceChoice(torch.device("cpu"), "automatic: PyTorch finds no GPU here")


def _check_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = "PyTorch finds no GPU; its driver may be missing" if built else "this PyTorch was built for the CPU only"
        raise UsageError(f"The device {str(device)!r} was asked for, but {why}. Use auto or cpu.")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        allowed = f"Use cuda:{count - 1} or less, or auto."
        raise UsageError(f"The device {str(device)!r} was asked for, but there are {count} GPUs, counted from 0. {allowed}")
