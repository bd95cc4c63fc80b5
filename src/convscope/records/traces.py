"""One activation taken apart into its terms."""

from __future__ import annotations

import html
from dataclasses import dataclass

from convscope.records.networks import Box
from convscope.records.results import text_table

MOST_TERMS_SHOWN = 24  # of a sum in text; the record has them all


@dataclass(frozen=True, slots=True)
class Term:
    """One product: the unit of the layer before, its value, the weight and value * weight. `source` names that layer ("input": the image).

    The factor of a product of two activations is their second; the winner of a maximum has the weight 1 and the others 0.
    """

    source: str
    unit: tuple[int, ...]
    value: float
    weight: float
    product: float


@dataclass(frozen=True, slots=True)
class TraceStep:
    """A further step after the sum: what was done (BatchNorm2d, ReLU), with which numbers, and the value after it."""

    layer: str
    operation: str
    numbers: dict[str, float]
    value: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One activation and the products that made it.

    Attributes:
        layer, unit: which activation; unit is (channel, row, column) or (i,).
        terms: the products, in the order of the layer's weights; padding gives none.
        bias: added to their sum (0 when there is none).
        steps: what was done after the sum, in order.
        total: our value after the last step; value: PyTorch's own; difference: total - value.
        magnitude: sum of |product| plus |bias|, carried through the further steps: what the difference is to be compared with.
        receptive_field: the pixels that can affect it.
        note: why the trace ends here, when it does not reach the pixels.
        summed_by, operation: the layer whose products the terms are ("2.0"), and what it is ("Conv2d").
    """

    layer: str
    unit: tuple[int, ...]
    terms: tuple[Term, ...]
    bias: float
    steps: tuple[TraceStep, ...]
    total: float
    value: float
    difference: float
    magnitude: float
    receptive_field: Box
    note: str = ""
    summed_by: str = ""
    operation: str = ""

    def __str__(self) -> str:
        """The sum as text: the terms with the largest products, the bias, the further steps, and both values."""
        by_size = sorted(range(len(self.terms)), key=lambda index: -abs(self.terms[index].product))
        shown = [self.terms[index] for index in sorted(by_size[:MOST_TERMS_SHOWN])]
        lines = [(f"{t.source} {list(t.unit)}", f"{t.value:.6g}", f"{t.weight:.6g}", f"{t.product:.6g}") for t in shown]
        if len(self.terms) > len(shown):
            rest = sum(term.product for term in self.terms) - sum(term.product for term in shown)
            lines.append((f"{len(self.terms) - len(shown):,} smaller products", "", "", f"{rest:.6g}"))
        lines += [("bias", "", "", f"{self.bias:.6g}")] if self.bias else []
        lines.append(("sum", "", "", f"{sum(term.product for term in self.terms) + self.bias:.6g}"))
        lines += [(f"then {step.operation} {step.layer}", "", "", f"{step.value:.6g}") for step in self.steps]
        used = [
            f"{step.operation} {step.layer} used {', '.join(f'{name} {number:.6g}' for name, number in step.numbers.items())}"
            for step in self.steps
            if step.numbers
        ]
        box = self.receptive_field
        by = f"{self.operation} of layer {self.summed_by}" if self.summed_by else "a constant"
        text = [
            f"Layer {self.layer}, unit {list(self.unit)}: {len(self.terms):,} products of {by}",
            text_table(("from", "value", "weight", "product"), lines, right=(1, 2, 3)),
            *used,
            f"our total {self.total:.9g}, PyTorch's value {self.value:.9g}, difference {self.difference:.1e}",
            f"it can see rows {box.top} to {box.bottom} and columns {box.left} to {box.right} of the image, {box.height}×{box.width} pixels"
            if box.height
            else "it sees no pixel, only padding",
        ]
        return "\n".join([*text, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
