"""The global random generators that dropout and the user's own layers draw from: seeded from (seed, place in the run) and put back afterwards."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import torch

from convscope.seeds import derive


def seed_global(device: torch.device, seed: int, *purpose: int | str) -> None:
    """Seed torch's generators on the CPU and on `device` for one purpose, and nothing else."""
    value = derive(seed, *purpose)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)


@contextlib.contextmanager
def restored_random_state(device: torch.device) -> Iterator[None]:
    """Put torch's and Python's generators back to where they were, also after an error."""
    python, cpu = random.getstate(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let PyTorch choose deterministic algorithms only, for the length of the context, when `wanted`."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # cuBLAS has no deterministic mode without it (PyTorch's notes on reproducibility)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
