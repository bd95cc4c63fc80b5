"""The layers that `counters.py` compares, and what other counters say of them; needs torch, torchinfo, fvcore, ptflops and torchlens only.

Run by `counters.py` in an environment of its own; prints one JSON object: for each layer and counter, the number and what the counter calls it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable

import torch
from torch import nn

BATCH = 3  # shows which counters multiply by the batch; not 2, which they also use for a multiplication with its addition


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Name: layer and the shape of one input."""
    net_a = [(1, 4, 28), (4, 8, 14), (8, 16, 7), (16, 32, 4), (32, 2, 2)]
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        f"net A, {before}-{after}": (nn.Conv2d(before, after, 3, stride=2, padding=1), (before, size, size))
        for before, after, size in net_a
    }
    return found | {
        "no bias": (nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), (4, 14, 14)),
        "dilated": (nn.Conv2d(4, 8, 3, padding=2, dilation=2), (4, 14, 14)),
        "grouped": (nn.Conv2d(4, 8, 3, padding=1, groups=4), (4, 14, 14)),
        "transposed": (nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1), (4, 14, 14)),
        "linear": (nn.Linear(64, 10), (64,)),
        "batch norm": (nn.BatchNorm2d(8), (8, 14, 14)),
        "ReLU": (nn.ReLU(), (8, 14, 14)),
        "max-pool": (nn.MaxPool2d(2), (8, 14, 14)),
        "average-pool": (nn.AvgPool2d(2), (8, 14, 14)),
    }


def by_torchinfo(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    import torchinfo

    return {"total_mult_adds": torchinfo.summary(model, (BATCH, *shape), verbose=0).total_mult_adds}


def by_fvcore(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, torch.zeros(BATCH, *shape)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return {"flops": analysis.total()}


def by_ptflops(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    from ptflops import get_model_complexity_info

    found = {}
    for backend in ("pytorch", "aten"):
        macs, _ = get_model_complexity_info(model, shape, as_strings=False, print_per_layer_stat=False, verbose=False, backend=backend)
        found[f"macs ({backend} backend)"] = macs
    return found


def by_torchlens(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    import torchlens

    log = torchlens.trace(model, torch.zeros(BATCH, *shape))
    return {name: getattr(log, name) for name in ("total_macs_forward", "total_flops_forward")}


COUNTERS: dict[str, Callable[[nn.Module, tuple[int, ...]], dict[str, float]]] = {
    "torchinfo": by_torchinfo,
    "fvcore": by_fvcore,
    "ptflops": by_ptflops,
    "torchlens": by_torchlens,
}


def main() -> None:
    from importlib.metadata import version

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found: dict[str, dict[str, dict[str, float | str]]] = {}
    for counter, count in COUNTERS.items():  # torchlens last: once it has run, ptflops no longer works in the same process
        for name, (layer, shape) in layers().items():
            found.setdefault(name, {})
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    found[name][counter] = {key: float(value) for key, value in count(nn.Sequential(layer).eval(), shape).items()}
                except Exception as error:
                    found[name][counter] = {"failed": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps({"versions": {counter: version(counter) for counter in COUNTERS}, "batch": BATCH, "counts": found}))


if __name__ == "__main__":
    main()
