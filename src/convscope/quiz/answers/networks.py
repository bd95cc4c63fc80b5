"""Answers about shapes, code, counts and fields of networks: questions 7 to 9, 11 to 18, 20, 22, 23 and 26. Nothing is trained for more than a step."""

from __future__ import annotations

import ast
import math
import re
import tempfile
import zipfile
from html import unescape
from itertools import permutations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.arithmetic import output_size, receptive_field, summary
from convscope.arithmetic.execution import execute
from convscope.data import Preprocess
from convscope.nn import simple_cnn
from convscope.quiz.answers.materials import fresh, part_of_digits
from convscope.quiz.evaluate import NotUnderstood, evaluate, parse
from convscope.quiz.records import Outcome
from convscope.show.sheet import write_workbook
from convscope.train.activation_stats import ActivationStats
from convscope.train.learner import Learner

BATCH = 64
NET_A = {"in_channels": 1, "classes": 2, "channels": (4, 8, 16, 32), "first_kernel": 3, "norm": False}  # the chapter's first network


def nested_comprehension() -> Outcome:
    """Question 7."""
    typed = "[[(i, j) for j in range(1, 5)] for i in range(1, 5)]"
    value = evaluate(typed)
    try:
        said = str(parse("[f(a,b) for a in [] for b in]"))
        parses = True
    except NotUnderstood as error:
        said, parses = str(error), False
    flat = evaluate("[(a, b) for a in range(2) for b in range(2)]")
    gave = {"as it stands": said, "with its gaps filled": flat, "lists inside": sum(isinstance(part, list) for part in flat)}
    rows = {"rows": len(value), "entries of each": len(value[0]), "first row": value[0]}
    return Outcome(
        {typed: rows}, all(isinstance(row, list) for row in value), [(gave, not parses and not any(isinstance(p, list) for p in flat))]
    )


def weight_shape() -> Outcome:
    """Question 8."""
    images = torch.zeros(2, 3, 28, 28)
    accepted, swapped = [], ""
    for shape in sorted(set(permutations((16, 3, 5, 5)))):
        try:
            maps = F.conv2d(images, torch.zeros(shape))
        except RuntimeError as error:
            swapped = str(error).split("\n")[0] if shape == (3, 16, 5, 5) else swapped
            continue
        if maps.shape[1] == 16:
            accepted.append(list(shape))
    grouped = F.conv2d(torch.zeros(2, 4, 28, 28), torch.zeros(16, 2, 5, 5), groups=2)
    value = {"orders that give 16 channels": accepted, "4 channels in 2 groups, weight (16, 2, 5, 5), give": list(grouped.shape)}
    return Outcome(value, accepted == [[16, 3, 5, 5]] and grouped.shape[1] == 16, [(swapped, bool(swapped))], accepted[0])


def channel() -> Outcome:
    """Question 9."""
    images = torch.zeros(BATCH, 3, 28, 28)
    maps = nn.Conv2d(3, 8, 3, padding=1)(images)
    value = {"shape before": list(images.shape), "shape after": list(maps.shape)}
    gave = {"colours": 3, "channels after one layer": maps.shape[1]}
    return Outcome(value, maps.shape[1] == 8, [(gave, maps.shape[1] != 3)], maps.shape[1])


def learned_kernels() -> Outcome:
    """Question 11."""
    network = fresh(0)
    kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
    kernels = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    before = [kernel.detach().clone() for kernel in kernels]
    images_NCHW, labels_N = next(part_of_digits(BATCH, BATCH, BATCH).train.batches(0))
    loss = F.cross_entropy(network(images_NCHW), labels_N)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    changed = [float((kernel.detach() != old).float().mean()) for kernel, old in zip(kernels, before, strict=True)]
    value = {
        "layers": kinds,
        "convolutions": kinds.count("Conv2d"),
        "linear layers": kinds.count("Linear"),
        "share of each kernel that learned": changed,
    }
    return Outcome(value, kinds.count("Conv2d") > 0 and min(changed) > 0)


def refactored() -> Outcome:
    """Question 12."""
    pairs = [(1, 8), (8, 16), (16, 32), (32, 64), (64, 10)]
    written_out = ", ".join(f"Conv2d({a}, {b}, kernel_size=3, stride=2, padding=1)" for a, b in pairs)
    with_function = "Conv2d(a, b, kernel_size=3, stride=2, padding=1), " + ", ".join(f"conv({a}, {b})" for a, b in pairs)
    numbers = [sum(isinstance(node, ast.Constant) for node in ast.walk(ast.parse(text))) for text in (written_out, with_function)]
    right = nn.Sequential(*(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs))
    slip = nn.Sequential(*(nn.Conv2d(a, b, 3, stride=1 if a == 32 else 2, padding=1) for a, b in pairs))
    shapes = [list(network(torch.zeros(1, 1, 28, 28)).shape) for network in (right, slip)]
    value = {
        "numbers written out": numbers[0],
        "numbers with a function": numbers[1],
        "output": shapes[0],
        "output after one slip": shapes[1],
    }
    return Outcome(value, numbers[1] < numbers[0] and shapes[0] != shapes[1])


def flatten() -> Outcome:
    """Question 13."""
    network = fresh(0)
    images, labels = torch.zeros(BATCH, 1, 28, 28), torch.zeros(BATCH, dtype=torch.int64)
    grid, rows = network[:-1](images), network(images)
    try:
        F.cross_entropy(grid, labels)
        refused = ""
    except (RuntimeError, ValueError) as error:
        refused = str(error).split("\n")[0]
    value = {
        "with Flatten": list(rows.shape),
        "without": list(grid.shape),
        "the loss says to the grid": refused,
        "the loss of the rows": F.cross_entropy(rows, labels).item(),
    }
    linear = sum(isinstance(module, nn.Linear) for module in network.modules())
    return Outcome(value, bool(refused) and rows.ndim == 2, [({"linear layers in the network": linear}, linear == 0)], list(rows.shape))


def axes() -> Outcome:
    """Question 14."""
    images = torch.zeros(BATCH, 3, 28, 32)
    maps = nn.Conv2d(3, 5, (3, 1))(images)
    try:
        nn.Conv2d(3, 5, (3, 1))(images.permute(0, 2, 3, 1))
        refused = ""
    except RuntimeError as error:
        refused = str(error).split("\n")[0]
    value = {"in": list(images.shape), "out, with a kernel of 3 rows and 1 column": list(maps.shape), "channels last": refused}
    gave = {"dimensions": images.ndim, "N": images.shape[0]}
    holds = list(maps.shape) == [BATCH, 5, 26, 32] and bool(refused)
    return Outcome(value, holds, [(gave, images.ndim != images.shape[0])], list(images.shape))


def multiplications() -> Outcome:
    """Question 15."""
    table = summary(simple_cnn(**NET_A), (1, 28, 28))  # type: ignore[arg-type]
    rows = [row for row in table.rows if row.parameters]
    layer = rows[2]
    convolution = nn.Conv2d(8, 16, 3, stride=2, padding=1)
    windows = F.unfold(torch.ones(1, 8, 7, 7), 3, padding=1, stride=2)  # each column is what the kernel sees at one place
    weights = convolution.weight.numel()
    counted = windows.shape[-1] * weights
    real = int(windows.sum()) * convolution.out_channels
    value = {
        "weights without biases": weights,
        "places visited": windows.shape[-1],
        "multiplications": counted,
        "of them with a real pixel": real,
        "the library's table": layer.macs,
        "the book's": weights * 7 * 7,
        "whole network": {"multiplications": table.total("macs"), "the book's way": table.total("input_grid_products")},
    }
    holds = counted == layer.macs and real == layer.real_products and layer.input_grid_products == weights * 49 != counted
    return Outcome(value, holds, [({"counted by windows": counted, "counted by the library": layer.macs}, counted == layer.macs)], counted)


def _field_by_gradient(network: nn.Module, side: int, row: int) -> tuple[int, Tensor]:
    """Width of the pixels that have a gradient, and the pixels, of the first channel's unit (row, row)."""
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(image)[0, 0, row, row], image)
    seen = gradient[0, 0] != 0
    columns = seen.any(0).nonzero()
    return int(columns.max() - columns.min() + 1), seen


def _two_layers(first_kernel: int = 3) -> nn.Sequential:
    """Two stride-2 convolutions without activations, so that no gradient is hidden by a ReLU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, first_kernel, stride=2, padding=first_kernel // 2), nn.Conv2d(4, 8, 3, stride=2, padding=1))


def field_of_activation() -> Outcome:
    """Question 16."""
    network, side, row = _two_layers().double(), 28, 3
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)).double()
    changed = image.repeat(side * side, 1, 1, 1)
    changed.view(side * side, -1).diagonal().add_(1)  # image i differs in pixel i only
    with torch.no_grad():
        moved = (network(changed)[:, 0, row, row] != network(image)[0, 0, row, row]).reshape(side, side)
    box = receptive_field(network.float(), (1, side, side), "1", (0, row, row)).box
    gradient = _field_by_gradient(network, side, row)[1]
    places = moved.nonzero()
    edges = [*places.min(0).values.tolist(), *places.max(0).values.tolist()]
    value = {
        "pixels that move the activation": int(moved.sum()),
        "of": side * side,
        "first row, column, last row, column": edges,
        "the library's": [box.top, box.left, box.bottom, box.right],
    }
    holds = edges == [box.top, box.left, box.bottom, box.right] and bool((moved == gradient).all())
    return Outcome(value, holds, pictures={"pixels that move it": moved.int().tolist()})


def field_size() -> Outcome:
    """Question 17."""
    widths = {
        side: _field_by_gradient(_two_layers(), side, output_size(output_size(side, 3, stride=2, padding=1), 3, stride=2, padding=1) // 2)[
            0
        ]
        for side in (28, 64)
    }
    five = _field_by_gradient(_two_layers(5), 28, 3)[0]
    field = receptive_field(_two_layers(), (1, 28, 28), "1").size
    value = {
        "wide, on 28 and on 64 pixels": list(widths.values()),
        "with a first kernel of 5": five,
        "the library's": field[0] if field else None,
    }
    shares = {f"{side}/16": side / 16 for side in widths}
    grid = output_size(output_size(16, 3, stride=2, padding=1), 3, stride=2, padding=1)
    wrong = [
        (shares, all(side / 16 != width for side, width in widths.items())),
        ({"output places of a 16-pixel image": [grid, grid]}, grid != widths[28]),
    ]
    holds = len(set(widths.values())) == 1 and field is not None and field[0] == widths[28] and five == 9
    return Outcome(value, holds, wrong, widths[28])


def precedents() -> Outcome:
    """Question 18."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten()).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.xlsx"
        write_workbook(execute(network, torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))), path)
        with zipfile.ZipFile(path) as book:
            parts = {name: book.read(name).decode("utf-8", "replace") for name in book.namelist() if name.endswith(".xml")}
    formulas = [unescape(found) for name, text in parts.items() if "worksheets" in name for found in re.findall(r"<f>([^<]*)</f>", text)]
    formula = next(one for one in formulas if one.startswith("SUMPRODUCT"))  # the convolution's first place
    read = re.findall(r"(?:'[^']+'!)?\$?[A-Z]{1,3}\$?\d+(?::\$?[A-Z]{1,3}\$?\d+)?", formula)
    hits = sum("trace precedents" in text.lower() for text in parts.values())
    value = {"formulas in the workbook": len(formulas), "one activation's formula": formula, "cells that it reads": read}
    return Outcome(
        value, len(read) >= 2, [({"parts of the file with that text": hits, "cells found from the formula all the same": read}, bool(read))]
    )


def colour_tensor() -> Outcome:
    """Question 20."""
    from PIL import Image

    pixels = Preprocess(3, 40, 60, (0.5,) * 3, (0.25,) * 3).from_image(Image.new("RGB", (60, 40)))
    batch = torch.from_numpy(pixels)[None].repeat(BATCH, 1, 1, 1)
    weight = nn.Conv2d(3, 8, 5).weight
    value = {"image": list(pixels.shape), "rank": pixels.ndim, "batch": list(batch.shape)}
    gave = {"shape of a weight": list(weight.shape), "its rank": weight.ndim, "rank of the image": pixels.ndim}
    return Outcome(value, pixels.shape == (3, 40, 60), [(gave, weight.ndim != pixels.ndim)], list(pixels.shape))


def shown_batch() -> Outcome:
    """Question 22."""
    data = part_of_digits(BATCH, BATCH, BATCH)
    figure = data.show_batch(max_n=9)
    pictures = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title() for ax in pictures]
    first = next(data.train.batches(0))
    gave = {"handed over": [f"{type(part).__name__} {list(part.shape)}" for part in first], "pictures": 0}
    return Outcome(
        {"images in the figure": len(pictures), "titles": titles},
        len(pictures) == 9,
        [(gave, not any(hasattr(part, "savefig") for part in first))],
    )


def doubled_filters() -> Outcome:
    """Question 23."""
    rows = [row for row in summary(simple_cnn(**NET_A), (1, 28, 28)).rows if row.parameters]  # type: ignore[arg-type]
    activations = [math.prod(row.output_shape) for row in rows]
    middle = rows[1:4]
    value = {
        "activations by layer": activations,
        "factor without more filters": math.prod(rows[1].output_shape) // 2 / activations[0],
        "products with real pixels, middle layers": [row.real_products for row in middle],
        "products with padding, middle layers": [row.macs for row in middle],
    }
    factor = activations[1] / activations[0]
    gave = {"numbers before": activations[0], "numbers after": activations[1]}
    holds = factor == 0.5 and len({row.real_products for row in middle}) == 1 and len({row.macs for row in middle}) > 1
    return Outcome(value, holds, [(gave, activations[1] < activations[0])], factor)


def callback_name() -> Outcome:
    """Question 26."""
    learner = Learner(part_of_digits(BATCH, BATCH, BATCH), fresh(0), callbacks=[ActivationStats()], device="cpu")
    found = isinstance(getattr(learner, "activation_stats", None), ActivationStats)
    try:
        gave = type(learner.ActivationStats).__name__  # type: ignore[attr-defined]
        missing = False
    except AttributeError as error:
        gave, missing = f"AttributeError: {error}", True
    return Outcome({"learner.activation_stats is an ActivationStats": found}, found, [(gave, missing)])
