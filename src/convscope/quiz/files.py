"""Where the quiz keeps what it computed and what a learner did, and writing small files whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder of computed answers: in $CONVSCOPE_CACHE, or in the platform's cache folder."""
    chosen = os.environ.get("CONVSCOPE_CACHE")
    return (Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("convscope", appauthor=False)) / "quiz"


def progress_file() -> Path:
    """The file of this user's progress, in the platform's folder for user data."""
    return platformdirs.user_data_path("convscope", appauthor=False) / "quiz.json"


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place, flush it to the disk and rename it, so that a reader sees the old or the new one.

    Raises:
        OSError: it cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
