"""Answers about training: questions 24, 25, 27 to 37 and 40, from short trainings on the shipped digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.quiz.answers.materials import COLLAPSED, HIGH_LR, LOW_LR, STEPS, Training, collapsed, digits, fresh, part_of_digits, training
from convscope.quiz.records import Outcome
from convscope.records import LayerStats
from convscope.train.learner import Learner
from convscope.train.schedules import Schedule

LAYER = "3.2"  # the last ReLU of the chapter's second network
LAYER_BARE = "3.1"  # the same without batch norm
REACHED = 0.5  # training loss to which steps are counted
OWN_BATCHES = {16: 64, 64: 32, 256: 16}  # batch size: batches drawn, for the spread of gradients


def _layer(run: Training, layer: str = LAYER) -> list[LayerStats]:
    """The records of a layer, a step each."""
    return run.learner.activation_stats.watcher.layers()[layer]  # type: ignore[attr-defined,no-any-return]


def _ends(run: Training) -> dict[str, float]:
    return {"accuracy": run.accuracy, "validation loss": run.valid_loss, "training loss": run.train_loss}


def larger_kernel() -> Outcome:
    """Question 24."""
    five, three = training(), training(first_kernel=3)
    first: nn.Conv2d = five.learner.model[0][0]  # type: ignore[index]
    value = {
        "3×3: pixels in, numbers out": [9, first.out_channels],
        "5×5: pixels in, numbers out": [math.prod(first.kernel_size), first.out_channels],
        "trained with 5×5": _ends(five),
        "trained with 3×3": _ends(three),
    }
    holds = first.kernel_size == (5, 5) and first.out_channels == 8 and min(five.accuracy, three.accuracy) > COLLAPSED
    return Outcome(value, holds, [({"kernel of the network": list(first.kernel_size)}, first.kernel_size != (4, 4))])


def kept_statistics() -> Outcome:
    """Question 25."""
    records = _layer(training())
    last = records[-1]
    value = {
        "layers": len(training().learner.activation_stats.watcher.layers()),  # type: ignore[attr-defined]
        "records of one layer": len(records),
        "the last one": {
            "mean": last.mean,
            "standard deviation": last.std,
            "share near zero": last.share_near_zero,
            "values in its histogram": last.histogram.total,
        },
    }
    two_points = torch.tensor([-1.0, 1.0] * 5_000)
    bell = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    bell = (bell - bell.mean()) / bell.std(correction=0)
    near = [float((layer.abs() <= last.near_zero).float().mean()) for layer in (two_points, bell)]
    same = max(abs(float(two_points.mean() - bell.mean())), abs(float(two_points.std(correction=0) - bell.std(correction=0))))
    gave = {"mean and deviation of two layers differ by": same, "their shares near zero": near}
    holds = len(records) == STEPS and last.histogram.total + last.nan_count + last.inf_count == last.sample_count > 0
    return Outcome(value, holds, [(gave, same < 1e-5 and near[0] != near[1])])


def layer_plot() -> Outcome:
    """Question 27."""
    from matplotlib import pyplot

    records = _layer(training())
    axes = training().learner.activation_stats.plot_layer_stats(LAYER)  # type: ignore[attr-defined]
    titles, x_label = [ax.get_title() for ax in axes], axes[0].get_xlabel()
    curves = [list(map(float, ax.lines[0].get_ydata())) for ax in axes]
    x = [int(step) for step in axes[0].lines[0].get_xdata()]
    pyplot.close(axes[0].figure)
    expected = [
        [record.mean for record in records],
        [record.std for record in records],
        [100 * record.share_near_zero for record in records],
    ]
    counts = {record.count for record in records}
    value = {"curves": titles, "x axis": x_label, "x from and to": [x[0], x[-1]], "points": len(x)}
    gave = {"number of activations, at every step": sorted(counts), "curves that show it": sum(set(curve) == counts for curve in curves)}
    holds = len(axes) == 3 and x == list(range(STEPS)) and all(_equal(one, two) for one, two in zip(curves, expected, strict=True))
    return Outcome(value, holds, [(gave, len(counts) == 1 and gave["curves that show it"] == 0)])


def _equal(one: Sequence[float], two: Sequence[float]) -> bool:
    return len(one) == len(two) and all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(one, two, strict=True))


def near_zero() -> Outcome:
    """Question 28."""
    images_NCHW = next(digits().valid.batches(0))[0][:64]
    good, bad = (_zero_products(run.learner.model, images_NCHW) for run in (training(), collapsed()))
    value = {"products with a zero, by layer, healthy": good, "collapsed": bad}
    model = training().learner.model
    before = [parameter.clone() for parameter in model.parameters()]
    maps = [model[0](images_NCHW[index : index + 1]) for index in (0, 1)]  # type: ignore[index]
    activations = float((maps[0] != maps[1]).float().mean())
    parameters = sum(float((one != two).float().sum()) for one, two in zip(before, model.parameters(), strict=True))
    gave = {"share of activations that differ between two images": activations, "parameters that differ": parameters}
    return Outcome(value, max(bad) > max(good), [(gave, activations > 0 and parameters == 0)])


def _zero_products(model: nn.Module, images_NCHW: Tensor) -> list[float]:
    """Share of each convolution's products with real activations whose activation is exactly zero, after the first layer."""
    shares: list[float] = []

    def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        ones = torch.ones_like(given[0])
        kernel = torch.ones(1, given[0].shape[1], *module.kernel_size)
        seen, zeros = (float(F.conv2d(maps, kernel, stride=2, padding=1).sum()) for maps in (ones, (given[0] == 0).float()))
        shares.append(zeros / seen)

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)][1:]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            model(images_NCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return shares


def batch_size() -> Outcome:
    """Question 29."""
    network = fresh(0, norm=False)
    spread = {}
    for size, count in OWN_BATCHES.items():
        batches = part_of_digits(size * count, size, size).train.batches(0)
        gradients = torch.stack([_gradient(network, *batch) for batch in batches]).double()
        spread[size] = float(gradients.var(0).sum().sqrt() / gradients.mean(0).norm())
    steps = {size: 60_000 // size for size in OWN_BATCHES}
    value = {
        "spread of the gradient, by batch size": {str(k): v for k, v in spread.items()},
        "updates an epoch": {str(k): v for k, v in steps.items()},
    }
    sizes = sorted(spread)
    return Outcome(value, all(spread[small] > spread[large] for small, large in pairwise(sizes)))


def _gradient(network: nn.Module, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
    gradients = torch.autograd.grad(F.cross_entropy(network(images_NCHW), labels_N), list(network.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def high_at_the_start() -> Outcome:
    """Question 30."""
    bad = collapsed()
    good = training("one_cycle", HIGH_LR, bad.seed, norm=False)
    value = {"from the first step": _ends(bad), "after a warm-up": _ends(good), "seed": bad.seed, "highest learning rate of both": HIGH_LR}
    return Outcome(value, bad.accuracy < COLLAPSED < good.accuracy)


def _cycle(steps: int = 100) -> tuple[list[float], list[float]]:
    """Learning rate and momentum at each step of 1cycle."""
    hypers = [Schedule("one_cycle", HIGH_LR)(step, steps) for step in range(steps)]
    return [hyper.lr for hyper in hypers], [float(hyper.momentum or 0) for hyper in hypers]


def one_cycle() -> Outcome:
    """Question 31."""
    lrs, momentums = _cycle()
    top = lrs.index(max(lrs))
    value = {
        "learning rate: first, highest, last": [lrs[0], max(lrs), lrs[-1]],
        "highest at step": top,
        "momentum: first, at the highest rate, last": [momentums[0], momentums[top], momentums[-1]],
    }
    rises = all(a < b for a, b in pairwise(lrs[: top + 1]))
    falls = all(a > b for a, b in pairwise(lrs[top:]))
    moved = sum(a != b for a, b in pairwise(momentums))
    pictures = {"learning rate": [lrs], "momentum": [momentums]}
    gave = {"steps of 99 at which momentum moves too": moved}
    return Outcome(value, rises and falls and lrs[-1] < lrs[0] and momentums[top] == min(momentums), [(gave, moved > 0)], pictures=pictures)


def high_rate() -> Outcome:
    """Question 32."""
    high, low = training(), training("constant", LOW_LR)
    steps = {name: _steps_to(run, REACHED) for name, run in (("high", high), ("low", low))}
    value = {
        "learning rates": [HIGH_LR, LOW_LR],
        "steps until the loss is below 0.5": steps,
        "gap of validation and training loss": {"high": high.gap, "low": low.gap},
        "accuracy": {"high": high.accuracy, "low": low.accuracy},
        "trainings of each": 1,
    }
    faster = steps["high"] < steps["low"]
    gave = {"speed alone": steps, "generalising alone": {"high": high.gap, "low": low.gap}}
    return Outcome(value, faster, [(gave, steps["high"] != steps["low"] and high.gap != low.gap)])


def _steps_to(run: Training, loss: float) -> int:
    """The first step whose loss is below a limit; the number of steps when there is none."""
    return next((step for step, value in enumerate(run.learner.recorder.losses) if value < loss), STEPS)


def low_at_the_end() -> Outcome:
    """Question 33."""
    annealed, constant = training(), training("constant", HIGH_LR)
    value = {"annealed": _ends(annealed), "constant rate": _ends(constant), "highest learning rate of both": HIGH_LR}
    return Outcome(value, annealed.valid_loss < constant.valid_loss and annealed.train_loss < constant.train_loss)


def cyclical_momentum() -> Outcome:
    """Question 34."""
    lrs, momentums = _cycle()
    correlation = float(torch.corrcoef(torch.tensor([lrs, momentums]))[0, 1])
    value = {"first, lowest, last": [momentums[0], min(momentums), momentums[-1]], "correlation with the learning rate": correlation}
    plain = sorted(set(training("constant", HIGH_LR).learner.recorder.hyper("beta1")))
    holds = momentums[0] > min(momentums) < momentums[-1] and correlation < -0.9
    return Outcome(
        value, holds, [({"momentum at every step, with a constant rate": plain}, len(plain) == 1)], pictures={"momentum": [momentums]}
    )


def recorded() -> Outcome:
    """Question 35."""
    data = part_of_digits(256, 64, 64)
    learner = Learner(data, fresh(0), device="cpu")
    learner.fit_one_cycle(1, HIGH_LR)
    planned = [Schedule("one_cycle", HIGH_LR)(step, 4) for step in range(4)]
    lrs, momentums = learner.recorder.lrs, learner.recorder.hyper("beta1")
    value = {"learning rates": lrs, "momentum": momentums, "losses": learner.recorder.losses}
    agree = _equal(lrs, [hyper.lr for hyper in planned]) and _equal(momentums, [float(hyper.momentum or 0) for hyper in planned])
    return Outcome(value, agree and len(learner.recorder.losses) == 4)


def column() -> Outcome:
    """Question 36."""
    records = _layer(training())
    record = records[-1]
    filled = _bins(record)
    value = {
        "values in the column": record.histogram.total,
        "values looked at in the batch": record.sample_count,
        "of": record.count,
        "bins that hold some": len(filled),
        "colour of the fullest bin": math.log1p(max(count for _, count in filled)),
    }
    one_neuron = digits().train.batch_size  # a value for each image
    axis = {"columns": len(records), "scales": 1, "bins of the scale that this column fills": len(filled)}
    neuron = {"values that one neuron has in the batch": one_neuron, "values of its layer": record.count}
    holds = record.histogram.total + record.nan_count + record.inf_count == record.sample_count
    counts = [[count for _, count in filled]]
    return Outcome(
        value,
        holds,
        [(axis, len({tuple(_bins(one)) for one in records}) > 1), (neuron, record.count > one_neuron)],
        pictures={"one column": counts},
    )


def _bins(record: LayerStats) -> list[tuple[int, int]]:
    return [(index, count) for index, count in enumerate(record.histogram.counts, record.histogram.first) if count]


def bad_training() -> Outcome:
    """Question 37."""
    bad, good = collapsed(), training()
    layers = {"bad": _layer(bad, LAYER_BARE), "good": _layer(good)}
    spreads = {name: [record.std for record in records] for name, records in layers.items()}
    near = {name: [record.share_near_zero for record in records] for name, records in layers.items()}
    peak = spreads["bad"].index(max(spreads["bad"]))
    growth = max(spreads["bad"]) / min(spreads["bad"][: peak + 1])
    value = {
        "spread grew by a factor of": growth,
        "until step": peak,
        "and then fell by a factor of": max(spreads["bad"]) / max(min(spreads["bad"][peak:]), 1e-12),
        "share near zero at the end": {"bad": near["bad"][-1], "good": near["good"][-1]},
        "accuracy": {"bad": bad.accuracy, "good": good.accuracy},
    }
    rises = sum(later > earlier for earlier, later in pairwise(good.learner.recorder.losses))
    gave = {"steps at which the loss of the good training rises": rises, "its accuracy": good.accuracy}
    holds = growth > 2 and near["bad"][-1] > 0.9 > near["good"][-1]
    pictures = {"spread, bad": [spreads["bad"]], "share near zero, bad": [near["bad"]], "share near zero, good": [near["good"]]}
    return Outcome(value, holds, [(gave, rises > 0 and good.accuracy > COLLAPSED)], pictures=pictures)


def noise() -> Outcome:
    """Question 40."""
    with_norm, without = training(), training(norm=False)
    model = with_norm.learner.model
    first: nn.Sequential = model[0]  # type: ignore[index]
    means: list[Tensor] = []
    hook = first[0].register_forward_hook(lambda *call: means.append(call[2].mean((0, 2, 3))))
    try:
        with torch.no_grad():
            for images_NCHW, _ in part_of_digits(64 * 16, 64, 64).train.batches(0):
                model(images_NCHW)
    finally:
        hook.remove()
    means_BC, deviations_C = torch.stack(means), torch.sqrt(dict(first.named_buffers())["1.running_var"])
    value = {
        "spread of a channel's mean from batch to batch, in deviations of the channel": float((means_BC.std(0) / deviations_C).mean()),
        "gap of validation and training loss": {"with batch norm": with_norm.gap, "without": without.gap},
        "trainings of each": 1,
    }
    gave = {"training loss": {"with batch norm": with_norm.train_loss, "without": without.train_loss}}
    differ = abs(math.log(with_norm.train_loss / without.train_loss)) > 0.05
    return Outcome(value, bool((means_BC.std(0) > 0).all()), [(gave, differ)])
