"""What a layer costs, by five counters: ours beside torchinfo, fvcore, ptflops and torchlens, and which convention each number is.

`python benchmarks/counters.py [--python PATH]` makes an environment of its own for the others (or uses the given interpreter, which has them),
counts the same layers with a batch of 3, and says for each of their numbers which of our conventions gives it, times the batch where the counter
multiplies by it. A number that no convention gives is left unexplained, not fitted. Also checks the chapter's table of net A and net B.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import keep, make_environment
from counters_rivals import BATCH, layers
from torch import nn

import convscope as cs
from convscope.records import NetworkSummary, text_table

PACKAGES = ("torch==2.13.0", "torchinfo==1.8.0", "fvcore==0.1.5.post20221221", "ptflops==0.7.5", "torchlens==2.36.1")
CONVENTIONS = ("macs", "macs_with_bias", "flops", "real_products", "input_grid_products")
WORDS = {
    "macs": "MACs",
    "macs_with_bias": "MACs with bias",
    "flops": "FLOPs",
    "real_products": "products with real pixels",
    "input_grid_products": "the chapter's input-grid count",
}
CHAPTER = {  # parameters, MACs, with bias, real products; the book's style for net A only
    "net A": (6_722, 58_608, 60_170, 45_380, 217_152),
    "net B": (30_282, 248_864, 251_994, 192_072, None),
}


def rivals(python: str | None) -> dict[str, Any]:
    """What the others count, in their own environment."""
    script = Path(__file__).with_name("counters_rivals.py")
    if python is not None:
        return dict(json.loads(subprocess.run([python, str(script)], capture_output=True, text=True, check=True).stdout.splitlines()[-1]))
    with tempfile.TemporaryDirectory() as folder:
        return rivals(str(make_environment(Path(folder, "environment"), PACKAGES)))


def outputs_times_parameters(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Every parameter once for each output place: what a counter gives that takes no account of the kind of layer."""
    output = layer(torch.zeros(1, *shape))
    return sum(parameter.numel() for parameter in layer.parameters()) * (output[0, 0].numel() if output.ndim > 2 else 1)


def explanation(number: float, table: NetworkSummary, layer: nn.Module, shape: tuple[int, ...]) -> str:
    """Which convention gives a number, or that none does."""
    known = {WORDS[name]: table.total(name) for name in CONVENTIONS}
    outputs = layer(torch.zeros(1, *shape)).numel()
    known |= {
        "2 × MACs, bias left out": 2 * table.total("macs"),
        **{f"{each} for each unit of the output": each * outputs for each in range(1, 6)},
        **{f"{each} for each unit of the input": each * math.prod(shape) for each in range(1, 6)},
        "one for each parameter at each output place": outputs_times_parameters(layer, shape),
        "one for each parameter": sum(parameter.numel() for parameter in layer.parameters()),
    }
    if number == 0:
        return "not counted"
    for name, ours in known.items():
        for factor, words in ((1, ""), (BATCH, f", times the batch of {BATCH}")):
            if ours * factor == number:
                return name + words
    return "unexplained"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="an interpreter that has torchinfo, fvcore, ptflops and torchlens")
    others = rivals(parser.parse_args().python)
    result: dict[str, Any] = {"versions": others["versions"], "batch": others["batch"], "layers": {}}
    lines = []
    for name, (layer, shape) in layers().items():
        layer.eval()
        model = nn.Sequential(layer) if len(shape) == 3 else nn.Sequential(nn.Flatten(), layer)
        table = cs.summary(model, (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1))
        ours = {convention: table.total(convention) for convention in CONVENTIONS}
        theirs = {
            counter: {
                what: {"number": number, "is": explanation(number, table, layer, shape)}
                for what, number in counts.items()
                if what != "failed"
            }
            for counter, counts in others["counts"][name].items()
        }
        result["layers"][name] = {"ours": ours, "theirs": theirs}
        lines.append((name, "convscope", ", ".join(f"{WORDS[key]} {value:,}" for key, value in ours.items()), ""))
        for counter, counts in theirs.items():
            lines += [("", f"{counter}: {what}", f"{found['number']:,.0f}", str(found["is"])) for what, found in counts.items()]
    print(text_table(("layer", "counter", "count", "which is"), lines))
    nets = {
        "net A": cs.simple_cnn(1, 2, channels=(4, 8, 16, 32), first_kernel=3, norm=False),
        "net B": cs.simple_cnn(norm=False),
    }
    for name, net in nets.items():
        table = cs.summary(net, (1, 28, 28))
        counted = tuple(table.total(column) for column in ("parameters", "macs", "macs_with_bias", "real_products", "input_grid_products"))
        agrees = all(one == two for one, two in zip(counted, CHAPTER[name], strict=True) if two is not None)
        result[name] = {"counted": counted, "chapter": CHAPTER[name], "agrees": agrees}
        print(f"{name}: {counted}, the chapter's table: {CHAPTER[name]}, {'equal' if agrees else 'DIFFERENT'}")
    print(f"kept in {keep('counters', result)}")


if __name__ == "__main__":
    main()
