"""What others' watchers cost on the steps of benchmarks/watch_overhead.py: `python benchmarks/watch_overhead_rivals.py [--pairs 24]`.

Makes an environment in a temporary folder, installs fastai, torchmortem, gradsnitch and trainpulse there (or takes the one of `--python`), and runs
the same interleaved pairs in it. The rows are put behind ours in results/watch_overhead.json, in place of those of an earlier run.

Each is used as its documentation shows. What they look at differs: fastai's ActivationStats(with_hist=True) the outputs of the layers with
parameters; torchmortem activations, gradients, weights and the loss; gradsnitch and trainpulse no activations at all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from step_pairs import DIGITS, PHOTOS, AfterStep, Case, measure, net_b, resnet18
from torch import nn
from torch.optim import Optimizer

RIVALS = ("fastai", "torchmortem", "gradsnitch", "trainpulse")
RESULTS = Path(__file__).with_name("results") / "watch_overhead.json"

# ---------------------------------------------------------------- in the rivals' environment


@contextlib.contextmanager
def fastai(model: nn.Module, _: Optimizer, __: int) -> Iterator[AfterStep]:
    """ActivationStats with a stand-in for fastai's Learner, so that only the callback is measured and not its loop."""
    from fastai.callback.hook import ActivationStats

    stats = ActivationStats(with_hist=True)
    stats.learn = SimpleNamespace(model=model, training=True)
    stats.before_fit()
    yield lambda _, __: stats.after_batch()
    stats.after_fit()


@contextlib.contextmanager
def torchmortem(model: nn.Module, optimizer: Optimizer, _: int) -> Iterator[AfterStep]:
    """Autopsy with its default sampling."""
    from torchmortem import Autopsy

    with Autopsy(model, optimizer=optimizer) as autopsy:
        yield lambda _, loss: autopsy.step(loss=loss)


@contextlib.contextmanager
def gradsnitch(model: nn.Module, optimizer: Optimizer, _: int) -> Iterator[AfterStep]:
    """Loss, gradient norm, learning rate and update ratio at each step."""
    import gradsnitch

    yield gradsnitch.watch(model, optimizer).log


@contextlib.contextmanager
def trainpulse(model: nn.Module, _: Optimizer, __: int) -> Iterator[AfterStep]:
    """The loss, and gradient norms by its backward hooks."""
    from trainpulse.callbacks import make_pytorch_hooks
    from trainpulse.monitor import Monitor

    monitor = Monitor()
    hooks = make_pytorch_hooks(model, monitor)
    try:
        yield lambda step, loss: monitor.log("loss", step, loss)
    finally:
        for hook in hooks:
            hook.remove()


def measure_all(pairs: int, only: str) -> dict[str, Any]:
    """Every rival on net B and on ResNet-18; one that raises is told with its error."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))
    rows = []
    for watch in (fastai, torchmortem, gradsnitch, trainpulse):
        label = "fastai ActivationStats(with_hist=True)" if watch is fastai else watch.__name__
        for net, make, shape in (("net B", net_b, DIGITS), ("ResNet-18 on 64x64", resnet18, PHOTOS)):
            case = Case(f"{net}, {label}", make, shape, watch)
            if only not in case.name:
                continue
            try:
                rows.append(measure(case, pairs))
            except RuntimeError as error:  # module backward hooks and in-place activations exclude each other
                rows.append({"what": case.name, "failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
                print(json.dumps(rows[-1]), flush=True)
    return {"rows": rows, "versions": {name: version(name) for name in ("torch", *RIVALS)}, "threads": torch.get_num_threads()}


# ---------------------------------------------------------------- in ours


def put_behind(rows: list[dict[str, Any]], others: dict[str, Any]) -> None:
    """Put rows behind ours in the results' file."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"results": []}
    names = {row["what"] for row in rows}
    kept["results"] = [row for row in kept["results"] if row["what"] not in names] + rows
    kept["rivals"] = others
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--only", default="", help="part of a row's name: measure those rows only")
    parser.add_argument("--python", type=Path, help="interpreter of an environment that has the rivals; made and deleted when left out")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        arguments.measure.write_text(json.dumps(measure_all(arguments.pairs, arguments.only)), encoding="utf-8")
        return
    from common import facts, make_environment

    with tempfile.TemporaryDirectory() as folder:
        python = arguments.python or make_environment(Path(folder, "environment"), [f"torch=={torch.__version__.split('+')[0]}", *RIVALS])
        found = Path(folder, "rows.json")
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # others on the machine make any number here doubtful
        subprocess.run(
            [str(python), __file__, "--measure", str(found), "--pairs", str(arguments.pairs), "--only", arguments.only], check=True
        )
        result = json.loads(found.read_text(encoding="utf-8"))
    put_behind(
        result["rows"], {"facts": facts(), "versions": result["versions"], "threads": result["threads"], "load_average_before": busy}
    )


if __name__ == "__main__":
    main()
