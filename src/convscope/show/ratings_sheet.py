"""One rating as a live workbook: change a factor, and the rating and its error follow.

Receives a `RatingTrace`, writes one .xlsx file with the computed value beside every formula. Every factor is a cell and every product a formula
of two of them, so that "trace precedents" leads from the rating to each factor. Runs no network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xlsxwriter

from convscope.errors import RunError
from convscope.records import RatingTrace

FIRST = 3  # row of the first factor, counted from 0
Sheet = Any  # xlsxwriter has no types


def write_rating_workbook(trace: RatingTrace, path: str | Path) -> None:
    """Write one rating as a workbook with the names `user_factors`, `item_factors`, `products`, `rating`, `actual` and `error`.

    Args:
        trace: the rating; without the user's own rating there is no error.
        path: the .xlsx file; an older one is replaced.

    Raises:
        RunError: the file cannot be written.
    """
    book: Any = xlsxwriter.Workbook(str(path), {"strings_to_formulas": False, "strings_to_urls": False})
    bold, faint = book.add_format({"bold": True}), book.add_format({"font_color": "#888888"})
    given = book.add_format({"bg_color": "#FFF8E1", "num_format": "0.000000"})
    computed = book.add_format({"num_format": "0.000000"})
    answer = book.add_format({"bold": True, "bg_color": "#E8F5E9", "border": 1, "num_format": "0.000000"})
    sheet: Sheet = book.add_worksheet("rating")
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 3, 16)
    sheet.write(0, 0, f"{trace.item or 'an unknown item'} for {trace.user or 'an unknown user'}", bold)
    sheet.write(1, 0, "Yellow cells are learned numbers: change one, and what depends on it follows.", faint)
    sheet.write_row(2, 0, ["", trace.user or "unknown user", trace.item or "unknown item", "product"], bold)
    for place, (one, two, product) in enumerate(zip(trace.user_factors, trace.item_factors, trace.products, strict=True)):
        row = FIRST + place
        sheet.write(row, 0, f"factor {place + 1}")
        sheet.write_number(row, 1, one, given)
        sheet.write_number(row, 2, two, given)
        sheet.write_formula(row, 3, f"=B{row + 1}*C{row + 1}", computed, product)
    last = FIRST + len(trace.products)  # the row below the last factor; as a spreadsheet counts, the last factor's own
    added = (("bias of the user", trace.user_bias), ("bias of the item", trace.item_bias), ("offset", trace.offset))
    for row, (name, value) in enumerate(added, last):
        sheet.write(row, 0, name)
        sheet.write_number(row, 3, value, given)
    row = last + len(added)
    sheet.write(row, 0, "sum", bold)
    sheet.write_formula(row, 3, f"=SUM(D{FIRST + 1}:D{row})", computed, trace.sum)
    names = {
        "user_factors": f"$B${FIRST + 1}:$B${last}",
        "item_factors": f"$C${FIRST + 1}:$C${last}",
        "products": f"$D${FIRST + 1}:$D${last}",
    }
    _answer(sheet, row, trace, given, computed, answer, names)
    for name, cells in names.items():
        book.define_name(name, f"=rating!{cells}")
    try:
        book.close()
    except (OSError, xlsxwriter.exceptions.FileCreateError) as error:
        raise RunError(f"{path} cannot be written: {error}. Close it where it is open, free some space, or give another path.") from None


def _answer(sheet: Sheet, row: int, trace: RatingTrace, given: Any, computed: Any, answer: Any, names: dict[str, str]) -> None:
    """Below the sum: the range, the rating, and what the user gave."""
    total = f"D{row + 1}"
    formula = f"={total}"
    if trace.y_range:
        for place, (name, value) in enumerate(zip(("lowest answer", "highest answer"), trace.y_range, strict=True), 1):
            sheet.write(row + place, 0, name)
            sheet.write_number(row + place, 3, value, given)
        low, high = f"D{row + 2}", f"D{row + 3}"
        formula = f"={low}+({high}-{low})/(1+EXP(-{total}))"
        row += 2
    sheet.write(row + 1, 0, "rating")
    sheet.write_formula(row + 1, 3, formula, answer, trace.total)
    names["rating"] = f"$D${row + 2}"
    if trace.rating is None:
        return
    sheet.write(row + 2, 0, "what the user gave")
    sheet.write_number(row + 2, 3, trace.rating, given)
    sheet.write(row + 3, 0, "error")
    sheet.write_formula(row + 3, 3, f"=D{row + 2}-D{row + 3}", computed, trace.total - trace.rating)
    sheet.write(row + 4, 0, "squared error")
    sheet.write_formula(row + 4, 3, f"=D{row + 4}^2", computed, (trace.total - trace.rating) ** 2)
    names |= {"actual": f"$D${row + 3}", "error": f"$D${row + 4}"}
