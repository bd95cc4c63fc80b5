"""The workbook: an executed network as live formulas, from the pixels to the prediction.

Receives a `Network` (`convscope.arithmetic.execute`); writes one .xlsx file, with the value that PyTorch computed beside every formula, so that a
viewer that does not recalculate shows the right numbers too. Every unit is a cell, every weight is a cell, and a cell's precedents are the
units and weights that made it. Reads no images and runs no network.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xlsxwriter

from convscope.arithmetic.operators.base import Indices
from convscope.arithmetic.units import layer_of, unit_index, unit_places
from convscope.errors import RunError, UsageError
from convscope.records import Network, Node
from convscope.show.sheet_formulas import area, cell, formulas, output_references, parameter_cells
from convscope.show.sheet_layout import (
    FIRST_COLUMN,
    FIRST_ROW,
    Layout,
    SheetPlan,
    WeightBlock,
    linear_weights,
    map_shape,
    needed_units,
    parameter_names,
    plan,
)

NARROW = 5.0  # characters: room for -0.00 in the maps' cells
PIXEL_WIDTH, PIXEL_HEIGHT = 3.3, 20.0  # characters and points: square cells for the image
LINE_HEIGHT, TEXT_WIDTH = 15.5, 100  # points and characters of the first sheet's explanations
CHANNEL_COLOURS = {1: ("#FFFFFF",), 3: ("#E53935", "#43A047", "#1E88E5")}  # white, or red, green and blue, at their brightest
COLOUR_NAMES = ("red", "green", "blue")
Page = Any  # xlsxwriter has no types


def write_workbook(
    network: Network, path: str | Path, *, classes: Sequence[str] = (), layer: str | None = None, unit: Sequence[int] | None = None
) -> None:
    """Write an executed network as a live workbook.

    Args:
        network: the graph of one execution, with its values.
        path: the .xlsx file; an older one is replaced.
        classes: names of the outputs, in order; numbers when empty.
        layer: what to compute instead of the network's output.
        unit: one unit of that layer (or of the output), of which only what it depends on is written.

    Raises:
        UnknownNameError: there is no such layer.
        TraceError: the unit lies outside the layer, or the workbook would be too large; nothing has been written.
        UsageError: the names of classes are not as many as the outputs.
        RunError: the file cannot be written.

    Example:
        >>> write_workbook(execute(model.eval(), image), "net.xlsx", classes=data.classes)
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise RunError(f"{path} cannot be written: there is no folder {path.parent}. Make it, or give another path.")
    node = layer_of(network, layer if layer is not None else network.output)
    units = np.arange(node.values.size) if unit is None else np.array([unit_index(node, layer or network.output, unit)])
    whole = layer is None and unit is None
    if classes and whole and len(classes) != len(units):
        raise UsageError(f"There are {len(classes)} names of classes and {len(units)} outputs; give one name for each output, or none.")
    needed, products = needed_units(network, node, units)
    layout = plan(network, needed, {"read me", "prediction", "result"})
    writer = _Writer(network, layout, path)
    writer.readme(products, whole=whole and node.values.size > 1)
    for sheet in layout.sheets:
        writer.sheet(sheet)
    if whole and node.values.size > 1:
        writer.prediction(node, [str(name) for name in classes] or [str(number) for number in range(len(units))])
    else:
        writer.result(node, units, layer or network.output)
    writer.close()


class _Writer:
    """An open workbook and the formats that its sheets share."""

    def __init__(self, network: Network, layout: Layout, path: Path) -> None:
        self.network, self.layout, self.path = network, layout, path
        self.content = io.BytesIO()
        self.book: Any = xlsxwriter.Workbook(self.content, {"strings_to_formulas": False, "nan_inf_to_errors": True})
        self.not_live: list[str] = []
        styles: dict[str, dict[str, Any]] = {
            "title": {"bold": True, "font_size": 14},
            "text": {"text_wrap": True, "valign": "top"},
            "head": {"bold": True, "bottom": 1, "valign": "top"},
            "faint": {"font_color": "#888888", "align": "center", "num_format": "0"},
            "channel": {"font_color": "#888888"},
            "number": {"num_format": "0.00", "align": "center", "font_size": 9},
            "pixel": {"num_format": "General", "align": "center", "valign": "vcenter", "font_color": "#808080", "font_size": 8},
            "weight": {"num_format": "0.00", "align": "center", "bg_color": "#FFF8E1"},
            "fixed": {"num_format": "0.00", "align": "center", "bg_color": "#EEEEEE", "italic": True},
            "percent": {"num_format": "0.0%"},
            "answer": {"bold": True, "font_size": 20, "bg_color": "#E8F5E9", "border": 1, "align": "center"},
            "long": {"num_format": "0.000000"},
        }
        self.formats = {name: self.book.add_format(style) for name, style in styles.items()}
        self.readme_page: Page = self.book.add_worksheet("Read me")
        self.last_page: Page | None = None

    def close(self) -> None:
        """Write the file beside its place and rename it, so that an older one stays until the new one is complete."""
        self.book.close()
        beside = self.path.with_name(f".{self.path.name}.part")
        try:
            beside.write_bytes(self.content.getbuffer())
            beside.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise RunError(
                f"{self.path} cannot be written: {error.strerror}. Close it where it is open, free some space, or give another path."
            ) from error

    def readme(self, products: int, *, whole: bool) -> None:
        """The first sheet: how to read the others; their list below it grows as they are written."""
        page = self.readme_page
        page.hide_gridlines(2)
        page.set_column(0, 0, 26)
        page.set_column(1, 1, TEXT_WIDTH)
        page.set_landscape()
        page.fit_to_pages(1, 0)
        page.write(0, 0, f"{self.network.model}, as formulas", self.formats["title"])
        cells = sum(len(units) for units in self.layout.needed.values())
        rows = _explanations(cells, products, whole=whole)
        for row, (head, text) in enumerate(rows, start=2):
            page.write(row, 0, head, self.formats["head"])
            page.write(row, 1, text, self.formats["text"])
            page.set_row(row, LINE_HEIGHT * math.ceil(len(text) / TEXT_WIDTH))
        page.write(len(rows) + 3, 0, "Sheet", self.formats["head"])
        page.write(len(rows) + 3, 1, "What it computes", self.formats["head"])
        self.contents_row = len(rows) + 4

    def sheet(self, plan: SheetPlan) -> None:
        """One sheet with its operations' maps, parameters and weights."""
        page = self.book.add_worksheet(plan.name)
        self.last_page = page
        page.hide_gridlines(2)
        page.freeze_panes(FIRST_ROW, FIRST_COLUMN)
        title = f"{plan.name}: " + ", then ".join(_describe(node) for node in plan.nodes)
        page.write(0, 0, title, self.formats["title"])
        page.write_url(1, 0, "internal:'Read me'!A1", string="how to read this")
        self.readme_page.write_url(self.contents_row, 0, f"internal:'{plan.name}'!A1", string=plan.name)
        self.readme_page.write(self.contents_row, 1, title.partition(": ")[2])
        self.contents_row += 1
        page.set_column(0, 0, 11)
        page.set_column(1, 1, 4)
        is_image = plan.nodes[0] is self.network.nodes[0]
        page.set_column(FIRST_COLUMN, 16_000, PIXEL_WIDTH if is_image else NARROW)
        if is_image:
            page.set_default_row(PIXEL_HEIGHT)
        page.set_landscape()
        page.set_paper(8)  # A3
        page.fit_to_pages(1, 0)
        block = self.layout.blocks[plan.nodes[0].name]
        page.print_area(0, 0, block.row + block.shape[0] * block.pitch, plan.partials)
        for node in plan.nodes:
            self._maps(page, plan, node)
            self._parameters(page, plan, node)
        if plan.nodes[0].name in self.layout.weights:
            self._weights(page, plan.nodes[0], self.layout.weights[plan.nodes[0].name])

    def _maps(self, page: Page, plan: SheetPlan, node: Node) -> None:
        """An operation's units, their formulas and colours."""
        block, units = self.layout.blocks[node.name], self.layout.needed[node.name]
        channels, height, width = block.shape
        page.write(
            FIRST_ROW - 2,
            block.column,
            node.kind if node.name == node.kind or not node.inputs else f"{node.name} {node.kind}",
            self.formats["head"],
        )
        if width > 1:
            page.write_row(FIRST_ROW - 1, block.column, list(range(width)), self.formats["faint"])
        if node is plan.nodes[0]:
            for channel in np.unique(units // (height * width)).tolist():
                page.write(block.row + channel * block.pitch, 0, _channel_label(node, channel, channels), self.formats["channel"])
                for row in range(height):
                    page.write(block.row + channel * block.pitch + row, 1, row if height > 1 else "", self.formats["faint"])
        texts = formulas(self.network, self.layout, node, units) if node.inputs else None
        values = node.values.reshape(-1)[units].astype(np.float64).tolist()
        places = list(zip(*(axis.tolist() for axis in block.cells(units)), strict=True))
        style = self.formats["number" if texts is not None else "fixed" if node.inputs else "pixel"]
        if texts is None and node.inputs:
            self.not_live.append(node.name)
            page.write(
                2, 0, f"{node.name} ({node.kind}) has no formula here; its cells hold PyTorch's values and do not follow the pixels."
            )
        extra = 0
        for number, ((row, column), value) in enumerate(zip(places, values, strict=True)):
            text = texts[number] if texts is not None else None
            if text is None:
                page.write_number(row, column, value, style)
            elif isinstance(text, str):
                page.write_formula(row, column, text, style, value)
            else:  # parts on the right, each within the longest formula allowed
                for part, piece in enumerate(text):
                    page.write_formula(FIRST_ROW + extra, plan.partials + part, piece, style)
                page.write_formula(
                    row,
                    column,
                    f"=SUM({area(FIRST_ROW + extra, plan.partials, FIRST_ROW + extra, plan.partials + len(text) - 1)})",
                    style,
                    value,
                )
                extra += 1
        last = block.row + (channels - 1) * block.pitch + height - 1
        self._name(_identifier("layer", node.name), plan.name, (block.row, block.column, last, block.column + width - 1))
        self._colour(page, node, block.row, block.column, last, block.column + width - 1)
        if node is self.network.nodes[0]:
            self._name("image", plan.name, (block.row, block.column, last, block.column + width - 1))

    def _colour(self, page: Page, node: Node, top: int, left: int, bottom: int, right: int) -> None:
        if not node.inputs:
            channels, height, _ = map_shape(node)
            low, high = float(node.values.min()), float(node.values.max())
            low, high = (0.0, 255.0) if low >= 0 and high > 1 else (low, high)
            for channel, colour in enumerate(CHANNEL_COLOURS.get(channels, ("#FFFFFF",) * channels)):
                scale = {"type": "2_color_scale", "min_color": "#000000", "max_color": colour, "min_type": "num", "max_type": "num"}
                first = top + channel * height
                page.conditional_format(
                    first, left, first + height - 1, right, {**scale, "min_value": low, "max_value": max(high, low + 1e-6)}
                )
            return
        values = node.values[np.isfinite(node.values)]
        most = max(float(np.abs(values).max()) if values.size else 1.0, 1e-6)
        scale = {"type": "3_color_scale", "min_color": "#5C8DD6", "mid_color": "#FFFFFF", "max_color": "#E57373"}
        points = {"min_type": "num", "mid_type": "num", "max_type": "num", "min_value": -most, "mid_value": 0, "max_value": most}
        page.conditional_format(top, left, bottom, right, {**scale, **points})

    def _parameters(self, page: Page, plan: SheetPlan, node: Node) -> None:
        """The bias and the norm's numbers, one row a channel."""
        units = self.layout.needed[node.name]
        _, height, width = map_shape(node)
        firsts = np.unique(units // (height * width)) * height * width
        for name in parameter_names(node):
            key = {"mean": "running_mean", "variance": "running_var", "bias": "bias" if "bias" in node.weights else "self"}.get(name, name)
            numbers = node.weights[key].reshape(-1)[firsts // (height * width)].astype(np.float64).tolist()
            references = parameter_cells(self.layout, node, name, firsts)
            for reference, number in zip(references, numbers, strict=True):
                page.write_number(reference.replace("$", ""), number, self.formats["weight"])
            column = re.sub(r"[$\d]", "", references[0])
            page.write(f"{column}{FIRST_ROW}", name, self.formats["head"])
            page.write(f"{column}{FIRST_ROW - 1}", node.name if name in ("mean", "bias") else "", self.formats["channel"])
            page.set_column(f"{column}:{column}", 8)

    def _weights(self, page: Page, node: Node, block: WeightBlock) -> None:
        """The weights of the filters that are needed."""
        array = linear_weights(node) if len(block.shape) == 2 else node.weights["weight"]
        ties = self._used(node, block)
        rows, columns = block.cells(ties)
        page.write(FIRST_ROW - 2, block.column, f"{node.name} weights", self.formats["head"])
        if len(block.shape) == 4:
            for channel in range(block.shape[1]):
                page.write(FIRST_ROW - 1, block.column + channel * (block.shape[3] + 1), f"from {channel}", self.formats["channel"])
        for row, column, weight in zip(rows.tolist(), columns.tolist(), array.reshape(-1)[ties].astype(np.float64).tolist(), strict=True):
            page.write_number(row, column, weight, self.formats["weight"])
        corner = (int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max()))
        self._name(_identifier("weights", node.name), self.layout.blocks[node.name].sheet, corner)

    def _used(self, node: Node, block: WeightBlock) -> Indices:
        """The weights of the outputs that have cells."""
        _, height, width = map_shape(node)
        every = np.arange(math.prod(block.shape))
        if len(block.shape) == 2:
            outputs = np.unique(self.layout.needed[node.name] % block.shape[1])
            return every[np.isin(every % block.shape[1], outputs)]
        filters = np.unique(self.layout.needed[node.name] // (height * width))
        return every[np.isin(every // math.prod(block.shape[1:]), filters)]

    def prediction(self, node: Node, classes: list[str]) -> None:
        """The last sheet: logits, their softmax, and the class with the greatest."""
        page = self.book.add_worksheet("Prediction")
        page.hide_gridlines(2)
        page.set_column(0, 3, 16)
        page.write(0, 0, "Prediction", self.formats["title"])
        count, first = len(classes), 5
        values = node.values.reshape(-1).astype(np.float64)
        chances = values if node.operation.strip("_") == "softmax" else np.exp(values - values.max()) / np.exp(values - values.max()).sum()
        page.write_row(first - 1, 0, ["class", "logit", "probability"], self.formats["head"])
        logits, probabilities = (area(first, column, first + count - 1, column) for column in (1, 2))
        references = output_references(self.network, self.layout, node, np.arange(count), "Prediction")
        for row, (name, reference, value, chance) in enumerate(
            zip(classes, references, values.tolist(), chances.tolist(), strict=True), start=first
        ):
            page.write(row, 0, name)
            page.write_formula(row, 1, f"={reference}", self.formats["long"], value)
            softmax = f"=EXP({cell(row, 1)}-MAX({logits}))/SUMPRODUCT(EXP({logits}-MAX({logits})))"
            text = f"={cell(row, 1)}" if chances is values else softmax
            page.write_formula(row, 2, text, self.formats["percent"], chance)
        answer = classes[int(values.argmax())]
        names = area(first, 0, first + count - 1, 0)
        page.write(2, 0, "The answer", self.formats["head"])
        page.write_formula(2, 1, f"=INDEX({names},MATCH(MAX({probabilities}),{probabilities},0))", self.formats["answer"], answer)
        page.set_row(2, 28)
        bars = {
            "type": "data_bar",
            "bar_color": "#81C784",
            "bar_solid": True,
            "min_type": "num",
            "max_type": "num",
            "min_value": 0,
            "max_value": 1,
        }
        page.conditional_format(first, 2, first + count - 1, 2, bars)
        self._name("logits", "Prediction", (first, 1, first + count - 1, 1))
        self._name("probabilities", "Prediction", (first, 2, first + count - 1, 2))
        self._name("prediction", "Prediction", (2, 1, 2, 1))
        self.readme_page.write_url(self.contents_row, 0, "internal:'Prediction'!A1", string="Prediction")
        self.readme_page.write(self.contents_row, 1, "logits, their softmax, and the class with the greatest")

    def result(self, node: Node, units: Indices, layer: str) -> None:
        """The last sheet when a layer or unit was asked for: its values."""
        page = self.book.add_worksheet("Result")
        page.hide_gridlines(2)
        page.set_column(0, 1, 22)
        page.write(0, 0, f"Layer {layer}", self.formats["title"])
        page.write_row(2, 0, ["unit", "value"], self.formats["head"])
        references = output_references(self.network, self.layout, node, units, "Result")
        values = node.values.reshape(-1)[units].astype(np.float64).tolist()
        for row, (place, reference, value) in enumerate(zip(unit_places(node, units), references, values, strict=True), start=3):
            page.write(row, 0, ", ".join(map(str, place)))
            page.write_formula(row, 1, f"={reference}", self.formats["long"], value)
        self._name("result", "Result", (3, 1, 2 + len(units), 1))
        self.readme_page.write_url(self.contents_row, 0, "internal:'Result'!A1", string="Result")
        self.readme_page.write(self.contents_row, 1, f"what was asked for: layer {layer}")

    def _name(self, name: str, sheet: str, corners: tuple[int, int, int, int]) -> None:
        top, left, bottom, right = corners
        first, last = cell(top, left, fixed=True), cell(bottom, right, fixed=True)
        self.book.define_name(name, f"='{sheet}'!{first}" if first == last else f"='{sheet}'!{first}:{last}")


def _explanations(cells: int, products: int, *, whole: bool) -> list[tuple[str, str]]:
    """How to read the workbook: heads and what they say."""
    follow, names = (
        ("Every map, the logits and the answer follow", "image, logits, probabilities and prediction")
        if whole
        else (
            "Every map and the result follow",
            "image and result",
        )
    )
    return [
        ("What it is", f"The network with its weights, computing from the pixels: {cells:,} units, {products:,} products."),
        ("Try it", f"Change a pixel on the sheet of the image (any number from black to white). {follow}."),
        (
            "Trace it",
            "Select a cell and choose Formulas, Trace Precedents (LibreOffice: Tools, Detective). Again and again, it leads to the pixels.",
        ),
        (
            "Sheets",
            "One for each layer, from the image to the result. On the left are its maps, channel under channel: what the layer's sum gives, "
            "then each further step (batch norm, activation) with maps of its own. To the right stand the biases and the norm's numbers, one "
            "row a channel, and the weights: a filter in the rows of its channel, its kernels side by side, one for each input channel. "
            "Units that nothing here depends on are left empty.",
        ),
        (
            "Colours",
            "Maps run from blue (negative) over white (zero) to red (positive); the image from black to its own colour. Weights are yellow, "
            "and cells that cannot be recalculated are grey.",
        ),
        ("Padding", "Where a kernel reaches over the edge of a map, its formula leaves those weights out: padding is zero."),
        ("Names", f"{names}; layer_… and weights_… for each layer. Choose them in the name box."),
        ("Stored values", "Beside every formula stands the value that PyTorch computed, until the sheet is recalculated."),
    ]


def _channel_label(node: Node, channel: int, channels: int) -> str:
    if not node.inputs and channels == len(COLOUR_NAMES):
        return COLOUR_NAMES[channel]
    return f"channel {channel}" if channels > 1 else ""


def _identifier(kind: str, name: str) -> str:
    """A layer's name as spreadsheets want names: letters, digits and underscores."""
    return f"{kind}_{re.sub(r'[^A-Za-z0-9]', '_', name)}"


def _describe(node: Node) -> str:
    """What an operation is, in a few words: "Conv2d 16 → 32, kernel 3×3, stride 2, padding 1"."""
    if not node.inputs:
        return "the image, pixels that can be changed"
    if "weight" in node.weights and node.operation == "convolution":
        weight, settings = node.weights["weight"], node.settings
        outputs, inputs = node.values.shape[1], weight.shape[1] * (1 if settings["transposed"] else settings["groups"])
        words = [f"{node.kind} {inputs} → {outputs} channels", f"kernel {'×'.join(map(str, weight.shape[2:]))}"]
        words += [
            f"{name} {settings[name][0]}" for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1)) if settings[name][0] != usual
        ]
        return ", ".join(words)
    return node.kind
