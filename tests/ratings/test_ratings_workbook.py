"""One rating as a workbook: LibreOffice computes what PyTorch does, also after a factor was changed."""

import csv
import math
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from programs import program

from convscope.errors import RunError
from convscope.nn import dot_product
from convscope.show.ratings_sheet import write_rating_workbook
from convscope.train.ratings import trace_rating

RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>"""


def some_trace(y_range=(0.6, 5.4)):
    torch.manual_seed(0)
    model = dot_product(4, 5, factors=6, y_range=y_range, mean=3.5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model, trace_rating(model, ("", "ann", "bob", "=cy"), ("", "Alien", "Brazil", "C", "D"), 3, 2, 4.0)


def recalculated(paths, folder):
    """The first sheet of each workbook as LibreOffice computes it anew: the last column by the first."""
    soffice = program("soffice", package="libreoffice-calc")
    profile = folder / "profile"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(RECALCULATE)
    as_csv = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,1"
    arguments = [f"-env:UserInstallation={profile.as_uri()}", "--headless", "--norestore", "--convert-to", as_csv, "--outdir", str(folder)]
    done = subprocess.run([soffice, *arguments, *map(str, paths)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    read = (csv.reader(next(folder.glob(f"{Path(path).stem}-*.csv")).open(encoding="utf-8")) for path in paths)
    return [{row[0]: row[3] for row in rows if len(row) > 3} for rows in read]


def cells_of(path):
    """The text of a workbook's first sheet, and of each cell its value and formula (or None), read from the file itself."""
    with zipfile.ZipFile(path) as book:
        text = book.read("xl/worksheets/sheet1.xml").decode()
    found = re.findall(r'<c r="([A-Z]+[0-9]+)"[^>]*>(?:<f>(.*?)</f>)?<v>(.*?)</v></c>', text)
    return text, {cell: (value, formula or None) for cell, formula, value in found}


def patched(path, cell, value, target):
    """A copy of a workbook in which one cell holds another value, and everything else still what it was."""
    text, _ = cells_of(path)
    changed, count = re.subn(rf'(<c r="{cell}"[^>]*>)<v>.*?</v>', rf"\g<1><v>{value}</v>", text)
    assert count == 1
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, changed if name == "xl/worksheets/sheet1.xml" else source.read(name))
    return target


def precedents(cells, cell):
    """What a spreadsheet's "trace precedents" leads to from a cell, in the end: the cells without a formula."""
    formula = cells[cell][1]
    if formula is None:
        return {cell}
    found = set()
    for first, last in re.findall(r"([A-Z]+[0-9]+)(?::([A-Z]+[0-9]+))?", formula):
        rows = range(int(first[1:]), int((last or first)[1:]) + 1)
        found |= set().union(*(precedents(cells, f"{first[0]}{row}") for row in rows))
    return found


def test_precedents_lead_from_the_error_to_every_number_of_the_rating(tmp_path):
    _, trace = some_trace()
    write_rating_workbook(trace, tmp_path / "one.xlsx")
    _, cells = cells_of(tmp_path / "one.xlsx")
    with zipfile.ZipFile(tmp_path / "one.xlsx") as book:
        names = dict(re.findall(r'<definedName name="(\w+)">rating!(.*?)</definedName>', book.read("xl/workbook.xml").decode()))
    rating, error, actual = (names[name].replace("$", "") for name in ("rating", "error", "actual"))
    learned = [f"{column}{row}" for column in "BC" for row in range(4, 10)] + ["D10", "D11", "D12"]  # factors; biases and offset
    ends = ["D14", "D15"]  # of the range
    assert precedents(cells, rating) == {*learned, *ends}
    assert precedents(cells, error) == {*learned, *ends, actual}
    values = [*trace.user_factors, *trace.item_factors, trace.user_bias, trace.item_bias, trace.offset, *trace.y_range]
    assert [float(cells[cell][0]) for cell in (*learned, *ends)] == pytest.approx(values, abs=1e-12)
    assert float(cells[rating][0]) == trace.total


@pytest.mark.libreoffice
@pytest.mark.slow
def test_libreoffice_computes_the_rating_and_its_error_also_after_a_factor_was_changed(tmp_path):
    model, trace = some_trace()
    one = tmp_path / "one.xlsx"
    write_rating_workbook(trace, one)
    two = patched(
        one, "B4", 2.0, tmp_path / "two.xlsx"
    )  # its formulas keep the old values: only a program that recalculates gives the new one
    with torch.no_grad():
        model.user_factors.weight[3, 0] = 2.0
    expected = [trace.value, float(model(torch.tensor([[3, 2]])))]
    assert abs(expected[0] - expected[1]) > 0.01
    for cells, value in zip(recalculated([one, two], tmp_path), expected, strict=True):
        assert float(cells["rating"]) == pytest.approx(value, abs=1e-6)
        assert float(cells["error"]) == pytest.approx(value - 4, abs=1e-6)
        assert float(cells["squared error"]) == pytest.approx((value - 4) ** 2, abs=1e-5)


@pytest.mark.parametrize("y_range", [None, (0.6, 5.4)])
def test_the_trace_adds_up(y_range):
    _, trace = some_trace(y_range)
    total = sum(one * two for one, two in zip(trace.user_factors, trace.item_factors, strict=True))
    total += trace.user_bias + trace.item_bias + trace.offset
    expected = total if y_range is None else 0.6 + 4.8 / (1 + math.exp(-total))
    assert trace.total == pytest.approx(expected, abs=1e-12)
    assert abs(trace.difference) < 1e-6


def test_a_workbook_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(RunError) as error:
        write_rating_workbook(some_trace()[1], tmp_path / "no" / "one.xlsx")
    assert str(error.value).startswith(f"{tmp_path / 'no' / 'one.xlsx'} cannot be written: ")
    assert str(error.value).endswith("Close it where it is open, free some space, or give another path.")
