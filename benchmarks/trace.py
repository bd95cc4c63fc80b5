"""What a trace costs: one activation to its terms, one to all pixels, and the workbook: `python benchmarks/trace.py [--repeats 20]`.

Claims: one activation of net B to its terms under 50 ms, one logit of net B to all pixels under 1 s. For a network of the size of ResNet-18 at
224 pixels, a unit's terms are reported with their time and memory, and the way to all pixels is refused with the number of products, before they are
made. Memory is what Python allocated at most while tracing (tracemalloc, measured in a run of its own, because it slows the tracing).
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import keep, spread

import convscope as cs
from convscope.errors import TraceError
from convscope.nn import small_resnet
from convscope.tracing import receptive_field, trace, trace_to_pixels, workbook

TO_TERMS_MS, TO_PIXELS_S = 50.0, 1.0


def timed(call: Callable[[], Any], repeats: int) -> tuple[Any, dict[str, Any]]:
    """The result of the last call, wall time in seconds, and the peak of Python's memory in MB."""
    result, seconds = call(), []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return result, {"seconds": spread(seconds), "peak_memory_mb": round(peak, 1)}


def refused(call: Callable[[], Any]) -> str:
    """The message with which a call is refused."""
    try:
        call()
    except TraceError as error:
        return str(error)
    return "not refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    net_b, image = cs.simple_cnn().eval(), torch.randn(1, 28, 28)
    resnet, large = small_resnet(3, 1000, channels=(64, 128, 256, 512), blocks=2, image_size=224).eval(), torch.randn(3, 224, 224)
    result: dict[str, Any] = {"parameters_of_the_large_network": sum(p.numel() for p in resnet.parameters())}

    found, result["net B, unit (0, 2, 2) of 2.0 to its terms"] = timed(lambda: trace(net_b, image, "2.0", (0, 2, 2)), repeats)
    print(f"{len(found.terms)} terms")
    traces, result["net B, logit 3 to all pixels"] = timed(lambda: trace_to_pixels(net_b, image, "5", (3,)), max(3, repeats // 4))
    result["net B, logit 3 to all pixels"] |= {"units": len(traces), "terms": sum(len(one.terms) for one in traces)}
    for layer, unit in (("1.0.body.0", (0, 20, 20)), ("4.1.add", (0, 3, 3)), ("7", (3,))):
        name = f"ResNet-18-sized, unit {unit} of {layer} to its terms"
        one, result[name] = timed(lambda layer=layer, unit=unit: trace(resnet, large, layer, unit), 3)
        result[name] |= {"terms": len(one.terms), "difference_over_magnitude": abs(one.difference) / one.magnitude}
    field, result["ResNet-18-sized, receptive field"] = timed(lambda: receptive_field(resnet, (3, 224, 224), "4.1.add", (0, 3, 3)), 3)
    result["ResNet-18-sized, receptive field"]["size"] = field.size
    start = time.perf_counter()
    message = refused(lambda: trace_to_pixels(resnet, large, "7", (3,)))
    result["ResNet-18-sized, to all pixels"] = {"seconds_until_refused": time.perf_counter() - start, "message": message}
    near, result["ResNet-18-sized, unit of 1.0.body.0 to all pixels"] = timed(
        lambda: trace_to_pixels(resnet, large, "1.0.body.0", (0, 20, 20)), 3
    )
    result["ResNet-18-sized, unit of 1.0.body.0 to all pixels"]["units"] = len(near)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.xlsx"
        _, result["net B, workbook"] = timed(lambda: workbook(net_b, image, path), 3)
        result["net B, workbook"]["megabytes"] = round(path.stat().st_size / 1e6, 2)

    for name, figures in result.items():
        if isinstance(figures, dict) and "seconds" in figures:
            own = figures["seconds"]
            rest = {key: value for key, value in figures.items() if key != "seconds"}
            print(f"{name}: median {own['median'] * 1e3:,.1f} ms ({own['min'] * 1e3:,.1f} to {own['max'] * 1e3:,.1f}, n {own['n']}) {rest}")
    print(message)
    terms_ms = result["net B, unit (0, 2, 2) of 2.0 to its terms"]["seconds"]["median"] * 1e3
    pixels_s = result["net B, logit 3 to all pixels"]["seconds"]["median"]
    result["claims"] = {
        f"to terms under {TO_TERMS_MS:g} ms": terms_ms < TO_TERMS_MS,
        f"to all pixels under {TO_PIXELS_S:g} s": pixels_s < TO_PIXELS_S,
    }
    print(result["claims"], f"kept in {keep('trace', result)}")


if __name__ == "__main__":
    main()
