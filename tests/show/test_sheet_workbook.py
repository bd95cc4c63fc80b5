"""The workbook: stored values against PyTorch's, formulas recalculated by LibreOffice from changed pixels, names, limits and messages."""

import csv
import math
import re
import subprocess
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from programs import program
from torch import nn

from convscope.errors import RunError, TraceError, UnknownNameError, UsageError
from convscope.nn import simple_cnn, small_resnet
from convscope.tracing import workbook

XML = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>"""
NORMALISE = {1: ([0.13], [0.31]), 3: ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])}


def trained(make, channels, size, classes):
    """A net after a few steps on images whose brightest quarter is their class, so that weights and statistics are not the initial ones."""
    torch.manual_seed(0)
    model, draw = make(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    pixels = torch.randint(0, 120, (64 + 20, channels, size, size), generator=draw, dtype=torch.uint8)
    labels = torch.arange(84) % classes
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[label % channels, label * size // classes : (label + 1) * size // classes] += 120
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALISE[channels])
    images = (pixels / 255 - mean) / std
    for _ in range(15):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images[:64]), labels[:64]).backward()
        optimiser.step()
    return model.eval(), pixels[64:], images[64:]


NETS = {
    "net a": (lambda: trained(lambda: simple_cnn(1, 2, channels=(4, 8, 16, 32), first_kernel=3, norm=False), 1, 28, 2)),
    "net b": (lambda: trained(simple_cnn, 1, 28, 10)),
    "colour": (lambda: trained(lambda: simple_cnn(3, 4, channels=(4, 6, 8), image_size=32), 3, 32, 4)),
}


class Sheets:
    """An .xlsx file read without a spreadsheet program: its cells' stored values and formulas, and its names."""

    def __init__(self, path):
        self.parts = {}
        with zipfile.ZipFile(path) as file:
            self.parts = {name: file.read(name) for name in file.namelist()}
        book = ElementTree.fromstring(self.parts["xl/workbook.xml"])
        self.names = {name.get("name"): name.text for name in book.iterfind(".//m:definedName", XML)}
        self.sheets = [sheet.get("name") for sheet in book.iterfind(".//m:sheet", XML)]
        strings = ElementTree.fromstring(self.parts["xl/sharedStrings.xml"])
        self.strings = ["".join(text.itertext()) for text in strings.iterfind("m:si", XML)]
        self.cells, self.formulas = {}, {}
        for number, sheet in enumerate(self.sheets, start=1):
            for cell in ElementTree.fromstring(self.parts[f"xl/worksheets/sheet{number}.xml"]).iterfind(".//m:c", XML):
                value = cell.find("m:v", XML)
                if value is not None:
                    text = self.strings[int(value.text)] if cell.get("t") == "s" else value.text
                    self.cells[sheet, cell.get("r")] = text if cell.get("t") in ("s", "str") else float(text)
                if cell.find("m:f", XML) is not None:
                    self.formulas[sheet, cell.get("r")] = cell.find("m:f", XML).text

    def range(self, name):
        """The cells of a defined name, row by row."""
        sheet, _, area = self.names[name].rpartition("!")
        first, _, last = area.replace("$", "").partition(":")
        (left, top), (right, bottom) = (re.fullmatch(r"([A-Z]+)(\d+)", corner).groups() for corner in (first, last or first))
        columns = range(column_number(left), column_number(right) + 1)
        return [[(sheet.strip("'"), f"{column_letters(c)}{r}") for c in columns] for r in range(int(top), int(bottom) + 1)]

    def values(self, name):
        return [[self.cells.get(cell) for cell in row] for row in self.range(name)]

    def with_pixels(self, pixels_CHW, path):
        """A copy with other pixels and everything else as stored, the values of the formulas included."""
        cells = [cell for row in self.range("image") for cell in row]
        new = dict(zip((place for _, place in cells), pixels_CHW.reshape(-1).tolist(), strict=True))
        name = f"xl/worksheets/sheet{self.sheets.index(cells[0][0]) + 1}.xml"
        replaced = re.sub(
            r'<c r="([A-Z]+\d+)"( s="\d+")><v>[^<]*</v></c>',
            lambda m: f'<c r="{m[1]}"{m[2]}><v>{new[m[1]]}</v></c>' if m[1] in new else m[0],
            self.parts[name].decode(),
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for part, content in self.parts.items():
                file.writestr(part, replaced if part == name else content)


def column_number(letters):
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def column_letters(number):
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def recalculated(paths, folder, sheet_number):
    """One sheet of each workbook as LibreOffice computes it anew, as rows of text."""
    soffice = program("soffice", package="libreoffice-calc")
    profile = folder / "profile"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(RECALCULATE)
    as_csv = f"csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,{sheet_number}"
    arguments = [f"-env:UserInstallation={profile.as_uri()}", "--headless", "--norestore", "--convert-to", as_csv, "--outdir", str(folder)]
    done = subprocess.run([soffice, *arguments, *map(str, paths)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [list(csv.reader(next(folder.glob(f"{Path(path).stem}-*.csv")).open(encoding="utf-8"))) for path in paths]


@pytest.mark.libreoffice
@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_libreoffice_computes_the_prediction_of_twenty_images_from_their_pixels(name, tmp_path):
    model, pixels, images = NETS[name]()
    classes = [f"class {number}" for number in range(model(images[:1]).shape[1])]
    workbook(model, pixels[0], tmp_path / "net.xlsx", classes=classes, normalise=NORMALISE[pixels.shape[1]])
    stored = Sheets(tmp_path / "net.xlsx")
    paths = [tmp_path / f"image{number:02d}.xlsx" for number in range(20)]
    for path, image in zip(paths, pixels, strict=True):
        stored.with_pixels(image, path)
    with torch.no_grad():
        expected = model(images)
    answers = set()
    for rows, logits in zip(recalculated(paths, tmp_path, stored.sheets.index("Prediction") + 1), expected, strict=True):
        assert [float(row[1]) for row in rows[5:]] == pytest.approx(logits.tolist(), abs=1e-5)
        assert rows[2][1] == classes[int(logits.argmax())]
        answers.add(rows[2][1])
    assert len(answers) > 1  # the stored answer alone would not do


@pytest.mark.parametrize("name", NETS)
def test_stored_values_are_pytorchs(name, tmp_path):
    model, pixels, images = NETS[name]()
    classes = [f"class {number}" for number in range(model(images[:1]).shape[1])]
    workbook(model, pixels[0], tmp_path / "net.xlsx", classes=classes, normalise=NORMALISE[pixels.shape[1]])
    sheets = Sheets(tmp_path / "net.xlsx")
    with torch.no_grad():
        logits = model(images[:1])[0]
    assert [np.float32(row[0]) for row in sheets.values("logits")] == logits.tolist()
    assert [row[0] for row in sheets.values("probabilities")] == pytest.approx(logits.softmax(0).tolist(), abs=1e-6)
    assert sheets.values("prediction") == [[classes[int(logits.argmax())]]]
    assert np.array_equal(np.array(sheets.values("image")), pixels[0].reshape(-1, pixels.shape[3]).numpy())
    x, checked = images[:1], 0
    with torch.no_grad():
        for block_name, block in model.named_children():
            for part_name, part in block.named_children():
                x = part(x)
                rows = [row for row in sheets.values(f"layer_{block_name}_{part_name}") if row[0] is not None]
                assert np.array_equal(np.array(rows, dtype=np.float32), x.reshape(-1, x.shape[-1]).numpy()), (block_name, part_name)
                checked += x.numel()
            x = x if list(block.children()) else block(x)
    assert checked > 1000
    weight = model[0][0].weight
    rows = sheets.values("weights_0_0")
    assert np.float32(rows[1][:2]).tolist() == weight[0, 0, 1, :2].tolist()


def test_every_precedent_leads_to_the_pixels(tmp_path):
    model, pixels, _ = NETS["net a"]()
    workbook(model, pixels[0], tmp_path / "net.xlsx", normalise=NORMALISE[1])
    sheets = Sheets(tmp_path / "net.xlsx")
    seen, waiting = set(), [cell for row in sheets.range("prediction") for cell in row]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        for sheet, first, last in re.findall(r"(?:'([^']+)'!)?(\$?[A-Z]+\$?\d+)(?::(\$?[A-Z]+\$?\d+))?", sheets.formulas.get(here, "")):
            sheets.names["walk"] = f"'{sheet or here[0]}'!{first}:{last or first}"
            waiting += [cell for row in sheets.range("walk") for cell in row]
    image = {cell for row in sheets.range("image") for cell in row}
    assert image <= seen
    assert all(cell in sheets.cells for cell in seen)


def test_one_unit_of_a_larger_network_writes_only_what_it_needs(tmp_path):
    torch.manual_seed(0)
    model, image = small_resnet().eval(), torch.randn(3, 32, 32)
    workbook(model, image, tmp_path / "unit.xlsx", layer="2.0.add", unit=(3, 5, 5))
    sheets = Sheets(tmp_path / "unit.xlsx")
    (value,) = sheets.values("result")[0]
    hooked = {}
    model[2][0].act.register_forward_pre_hook(lambda m, given: hooked.update(value=given[0][0, 3, 5, 5].item()))
    model(image[None])
    assert np.float32(value) == hooked["value"]
    assert len([cell for row in sheets.range("layer_2_0_body_0") for cell in row if cell in sheets.cells]) == 32 * 9
    assert "logits" not in sheets.names


class Various(nn.Module):
    """Pools, a gate, a concatenation, padding with a constant, interpolation and activations of several kinds."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, dilation=2, groups=2)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.gate = nn.Conv2d(2, 2, 1)
        self.head = nn.Sequential(nn.Linear(48, 6), nn.GELU(), nn.Linear(6, 3), nn.Softmax(1))

    def forward(self, x):
        x = torch.tanh(self.conv(nn.functional.pad(x, (1, 0, 0, 1), value=0.5)))
        x = torch.cat([nn.functional.max_pool2d(x, 2), nn.functional.avg_pool2d(x, 2, padding=1, ceil_mode=False)[:, :, 1:, 1:]], 1)[:, 2:6]
        y = nn.functional.silu(self.up(x)) * 0.5 + 1
        y = y * torch.sigmoid(self.gate(nn.functional.adaptive_avg_pool2d(y, 1))) - nn.functional.interpolate(x, scale_factor=2)[:, :2]
        return self.head(nn.functional.leaky_relu(y, 0.1).flatten(1))


@pytest.mark.libreoffice
def test_other_operators_recalculate_too(tmp_path):
    torch.manual_seed(3)
    model = Various().eval()
    image, other = torch.randn(2, 8, 9), torch.randn(2, 8, 9)
    with torch.no_grad():
        expected = model(other[None])[0]
    workbook(model, image, tmp_path / "net.xlsx", classes=["a", "b", "c"])
    stored = Sheets(tmp_path / "net.xlsx")
    stored.with_pixels(other, tmp_path / "other.xlsx")
    (rows,) = recalculated([tmp_path / "other.xlsx"], tmp_path, stored.sheets.index("Prediction") + 1)
    assert [float(row[1]) for row in rows[5:]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert not any("has no formula" in str(text) for text in stored.strings)
    assert math.isclose(sum(float(row[1]) for row in rows[5:]), 1, abs_tol=1e-6)


def test_an_operator_without_a_formula_keeps_its_values_and_says_so(tmp_path):
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.relu(x.sort(3).values).flatten(1)

    image = torch.randn(1, 2, 3)
    workbook(Sorted(), image, tmp_path / "net.xlsx")
    sheets = Sheets(tmp_path / "net.xlsx")
    assert "sort (sort) has no formula here; its cells hold PyTorch's values and do not follow the pixels." in sheets.strings
    assert [row[0] for row in sheets.values("logits")] == pytest.approx(image.sort(2).values.relu().flatten().tolist())


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"classes": ["a"]},
            UsageError,
            "There are 1 names of classes and 10 outputs; give one name for each output, or none.",
        ),
        (
            {"layer": "2.0", "unit": (0, 4, 0)},
            TraceError,
            "The unit (0, 4, 0) lies outside layer '2.0', whose output is 32×4×4 (channels × rows × columns). Units go from 0 to 31,3,3.",
        ),
        ({"layer": "9"}, UnknownNameError, None),
    ],
)
def test_messages(change, kind, message, tmp_path):
    with pytest.raises(kind) as caught:
        workbook(simple_cnn().eval(), torch.zeros(1, 28, 28), tmp_path / "net.xlsx", **change)
    assert message is None or str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_too_large_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TraceError) as caught:
        workbook(small_resnet().eval(), torch.zeros(3, 32, 32), tmp_path / "net.xlsx")
    assert re.fullmatch(
        r"A workbook of Sequential would be too large: down to '[\w.]+' alone it has [\d,]+ cells and [\d,]+ products; "
        r"the limits are 250,000 and 3,000,000\. Give a layer and unit, so that only what it depends on is written, "
        r"choose one nearer to the image, or use smaller images\.",
        str(caught.value),
    )
    assert not list(tmp_path.iterdir())


def test_training_mode_is_refused(tmp_path):
    with pytest.raises(TraceError) as caught:
        workbook(simple_cnn(), torch.zeros(1, 28, 28), tmp_path / "net.xlsx")
    assert str(caught.value) == (
        "The network is in training mode: '0.1' (BatchNorm2d) would use this one image's statistics, which is not what it does when it predicts. "
        "Call model.eval() before tracing."
    )


def test_a_folder_that_does_not_exist(tmp_path):
    path = tmp_path / "missing" / "net.xlsx"
    with pytest.raises(RunError) as caught:
        workbook(simple_cnn().eval(), torch.zeros(1, 28, 28), path)
    assert str(caught.value) == f"{path} cannot be written: there is no folder {path.parent}. Make it, or give another path."


def test_a_path_that_is_a_folder_keeps_it(tmp_path):
    (tmp_path / "net.xlsx").mkdir()
    with pytest.raises(RunError) as caught:
        workbook(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()).eval(), torch.zeros(1, 4, 4), tmp_path / "net.xlsx")
    assert str(caught.value).startswith(f"{tmp_path / 'net.xlsx'} cannot be written: ")
    assert str(caught.value).endswith(". Close it where it is open, free some space, or give another path.")
    assert [path.name for path in tmp_path.iterdir()] == ["net.xlsx"]
