"""Data, results and a network's table, as the page needs them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image as a PNG file's bytes (at most 64 pixels a side), with what it is and what the network said."""

    png: bytes
    label: str
    name: str = ""
    predicted: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was left out, relative to the data's folder, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What the data is: where it comes from, its classes, counts per class and split, and how it is prepared.

    Attributes:
        counts: images per class, in the order of `classes`, for "train", "valid" and, when there is one, "test".
        image_shape: (C, H, W) of what the network sees.
        mean, std: per channel, of the training images scaled to 0..1.
        augment: the augmentations with their strengths, empty when off.
        class_weights: weight of each class in the loss, empty when all are 1.
        notes: sentences worth telling, such as an imbalance of the classes.
    """

    source: str
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    samples: tuple[SampleImage, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    augment: dict[str, float] = field(default_factory=dict)
    class_weights: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a trained classifier did on one split.

    Attributes:
        split: "valid" or "test".
        confusion: confusion[i][j] counts images of class i answered as class j, in the order of DataSummary.classes.
        wrong: the most confidently wrong images, worst first.
    """

    split: str
    count: int
    loss: float
    accuracy: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    wrong: tuple[SampleImage, ...] = ()


def shares(counts: Sequence[int]) -> tuple[float, ...]:
    """Each count over their sum; all zero when the sum is."""
    total = sum(counts)
    return tuple(count / total if total else 0.0 for count in counts)


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One row of results.csv: an epoch (counted from 1), steps done by its end, losses, metrics on validation, seconds."""

    epoch: int
    steps: int
    train_loss: float
    valid_loss: float
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One row of a network's table, with every way of counting its work under its own name (per image).

    Attributes:
        name: qualified module name; kind: class name; depth: nesting, 0 for the outermost.
        output_shape: without the batch axis.
        parameters: of this layer alone; trainable: those that the optimiser may change.
        macs: multiply-accumulates, bias not counted; macs_with_bias: one more per output for the bias;
        flops: 2 * macs plus one per output for the bias, or one per elementwise operation;
        real_products: multiplications whose input is a pixel or activation, not padding;
        input_grid_products: the book's count, weights * input positions (of a convolution), 0 elsewhere.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    macs: int
    macs_with_bias: int
    flops: int
    real_products: int
    input_grid_products: int
    depth: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """A network's table: one row a layer in the order of execution, for one image of `input_shape`."""

    model: str
    input_shape: tuple[int, ...]
    rows: tuple[LayerRow, ...]

    def total(self, column: str) -> int:
        """The sum of a numeric column over all layers."""
        return sum(int(getattr(row, column)) for row in self.rows)

    def __str__(self) -> str:
        """The table as text, one line a layer, with every way of counting work under its own name."""
        counts = ("parameters", "macs", "macs_with_bias", "flops", "real_products", "input_grid_products")
        header = ("layer", "kind", "output", "parameters", "MACs", "MACs + bias", "FLOPs", "real products", "input grid", "")
        lines = [
            (row.name, row.kind, "×".join(map(str, row.output_shape)), *(f"{getattr(row, count):,}" for count in counts), row.note)
            for row in self.rows
        ]
        lines.append(("total", "", "", *(f"{self.total(count):,}" for count in counts), ""))
        title = f"{self.model} for one image of {'×'.join(map(str, self.input_shape))} (C×H×W)"
        return f"{title}\n{text_table(header, lines, right=range(3, 9))}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def text_table(header: Sequence[str], lines: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns set side by side, under a rule; the columns numbered in `right` end at the same place."""
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    aligned = set(right)

    def row(line: Sequence[str]) -> str:
        cells = enumerate(zip(line, widths, strict=True))
        return "  ".join(cell.rjust(width) if column in aligned else cell.ljust(width) for column, (cell, width) in cells).rstrip()

    return "\n".join([row(header), "─" * len(row(header)), *map(row, lines)])
