"""What DATA means: "mnist", a folder, or a CSV; and a helpful refusal of everything else."""

from __future__ import annotations

from pathlib import Path

from convscope.data.folder import list_folder
from convscope.data.listing import Listing
from convscope.data.table import list_csv
from convscope.errors import DataError, suggestion

ALLOWED = "Give mnist (shipped with convscope), a folder of images, or a CSV of path,label."
TABLES = (".csv", ".tsv", ".txt")


def list_source(source: str | Path) -> Listing:
    """List the images of a folder or CSV.

    Raises:
        DataError: there is no such place, it is neither, or what it holds cannot be used.
    """
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        return list_folder(path.resolve())
    if path.suffix.lower() in TABLES and path.is_file():
        return list_csv(path)
    if path.exists():
        hint = " Unpack it first." if path.suffix.lower() in (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar") else ""
        raise DataError(f"{source} is neither a folder nor a CSV.{hint} {ALLOWED}")
    raise DataError(f"There is no {str(source)!r}. {_nearest(path)}{ALLOWED}")


def _nearest(path: Path) -> str:
    """A sentence about names like the last part of the path, in the nearest folder that exists."""
    parent = path.parent
    if not parent.is_dir():
        return f"There is no folder {str(parent)!r} either. "
    names = [item.name for item in parent.iterdir() if not item.name.startswith(".") and (item.is_dir() or item.suffix.lower() in TABLES)]
    sentence = suggestion(path.name, [*names, "mnist"])
    return sentence.split("? ")[0] + "? " if sentence.startswith("Did you mean") else ""
