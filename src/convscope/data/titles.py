"""Titles of items, for people to read: a CSV with a header in, titles by item out."""

from __future__ import annotations

import csv
from pathlib import Path

from convscope.errors import DataError


def read_titles(path: Path) -> dict[str, str]:
    """Titles by item: the first two columns of a CSV with a header, or those named item and title.

    Raises:
        DataError: the file cannot be read, or has fewer than two columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The titles in {path} cannot be read: {error}. Give a CSV in UTF-8 with the columns item and title.") from None
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if len(names) < 2:
        raise DataError(f"{path} holds no titles: its first line must name two columns or more, item and title.")
    item, title = (names.index(name) if name in names else place for place, name in enumerate(("item", "title")))
    return {row[item].strip(): row[title].strip() for row in rows[1:] if len(row) > max(item, title)}
