"""A run directory: where it lies, its name, and reading and writing its small files. No torch.

    config.json           all that is needed to repeat the run: settings, data source, seed, versions, model
    weights.safetensors   the best weights (the last, for MNIST)
    checkpoint/           what a resume needs: state.safetensors and state.json
    log.sqlite            steps, layers, observations, findings (runlog.py)
    results.csv           one row an epoch
    data.json             DataSummary      }
    network.json          NetworkSummary   }  what the page draws, so that it needs neither torch nor the images
    evaluation.json       Evaluation       }
    ratings.json          RatingsEvaluation, of a run on ratings
    rated.safetensors     which items each user has rated, of a run on ratings
    skipped_files.csv     when files were skipped; skipped_rows.csv of a run on ratings
    report.html           the page

Files are written beside their place and renamed, so that a reader never sees half a file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from convscope.errors import RunError, UsageError
from convscope.records import DataSummary, Evaluation, NetworkSummary, RatingsEvaluation, dump, from_json

SAME_BEGIN = 2.0  # seconds that two readings of a process's beginning may differ, as some systems count from a clock that is set
R = TypeVar("R")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # safe on every file system, and never a hidden or parent folder


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory and the paths inside it."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings of the run."""
        return self.path / "config.json"

    @property
    def weights(self) -> Path:
        """The best weights."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Folder of what a resume needs."""
        return self.path / "checkpoint"

    @property
    def log(self) -> Path:
        """The run's log."""
        return self.path / "log.sqlite"

    @property
    def stop_request(self) -> Path:
        """A file that asks the process which trains this run to save and end, as Ctrl-C does; whoever makes it need not be in its terminal."""
        return self.path / "stop"

    @property
    def results(self) -> Path:
        """One row an epoch."""
        return self.path / "results.csv"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def skipped(self) -> Path:
        """Files that were left out."""
        return self.path / "skipped_files.csv"

    @property
    def skipped_rows(self) -> Path:
        """Rows of a file of ratings that were left out."""
        return self.path / "skipped_rows.csv"

    @property
    def rated(self) -> Path:
        """Which items each user has rated."""
        return self.path / "rated.safetensors"

    def read_config(self) -> dict[str, Any]:
        """The run's settings.

        Raises:
            RunError: the file is missing or damaged.
        """
        value = self._read_json("config.json", needed=True)
        assert isinstance(value, dict)
        return value

    def write_config(self, config: dict[str, Any]) -> None:
        """Keep the run's settings."""
        write_text(self.config, json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def data(self) -> DataSummary | None:
        """What the data was, or None when the run kept nothing about it."""
        return self._read_record("data.json", DataSummary)

    def network(self) -> NetworkSummary | None:
        """The network's table, or None."""
        return self._read_record("network.json", NetworkSummary)

    def evaluation(self) -> Evaluation | None:
        """What the trained network did on validation or test images, or None while it is not known."""
        return self._read_record("evaluation.json", Evaluation)

    def ratings(self) -> RatingsEvaluation | None:
        """What the trained network did on validation ratings, or None while it is not known, and for other runs."""
        return self._read_record("ratings.json", RatingsEvaluation)

    def keep(self, record: DataSummary | NetworkSummary | Evaluation | RatingsEvaluation) -> None:
        """Write a record for the page."""
        names = {
            DataSummary: "data.json",
            NetworkSummary: "network.json",
            Evaluation: "evaluation.json",
            RatingsEvaluation: "ratings.json",
        }
        write_text(self.path / names[type(record)], dump(record) + "\n")

    def _read_record(self, name: str, kind: type[R]) -> R | None:
        value = self._read_json(name, needed=False)
        if value is None:
            return None
        try:
            return from_json(kind, value)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self.path / name} is damaged: {error!r}. Train again, or restore the file from a copy.") from error

    def _read_json(self, name: str, *, needed: bool) -> object:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if needed:
                raise RunError(
                    f"{self.path} is not a run directory: it has no {name}. A run directory is what `convscope train` or `watch` writes."
                ) from None
            return None
        except (ValueError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is damaged and cannot be read ({error}). Restore the file from a copy, or train again.") from None
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}.") from None


def open_run(path: str | Path) -> RunDir:
    """An existing run directory.

    Raises:
        RunError: there is no such directory, or it holds no run.
    """
    run = RunDir(Path(path))
    if not run.path.exists():
        raise RunError(
            f"There is no run directory {run.path}. Give the folder that `convscope train` or `watch` printed, such as runs/mnist-001."
        )
    if not run.path.is_dir():
        raise RunError(
            f"{run.path} is a file, not a run directory. Give the folder that `convscope train` or `watch` printed, such as runs/mnist-001."
        )
    run.read_config()
    return run


def check_name(name: str | None) -> None:
    """Refuse a run's name that is no plain file name.

    Raises:
        UsageError: it is not.
    """
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r} cannot name a folder. Use letters, digits, '.', '_' and '-', beginning with a letter or digit.")


def check_out(out: Path) -> None:
    """Refuse a folder in which no run could be made, without making it.

    Raises:
        RunError: it, or a part of it, is a file or may not be written.
    """
    with reasons(out):
        there = next(place for place in (out, *out.parents) if place.exists())
        if not there.is_dir():
            raise NotADirectoryError
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def create_run(out: str | Path, name: str | None, stem: str) -> RunDir:
    """Make a new, empty run directory.

    Args:
        out: the folder that holds runs; made when missing.
        name: the run's name; None counts up: mnist-001, mnist-002. A given name that exists counts up too: demo, demo-002.
        stem: what an unnamed run is called, before its number.

    Raises:
        UsageError: the name is not a plain file name.
        RunError: the directory cannot be made, with the reason.

    Example:
        >>> create_run("runs", None, "mnist").path.name
        'mnist-001'
    """
    out = Path(out)
    check_name(name)
    stem = name if name is not None else re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "run"
    with reasons(out):
        out.mkdir(parents=True, exist_ok=True)
        taken = [int(m[1]) for p in out.iterdir() if (m := re.fullmatch(re.escape(stem) + r"-(\d{3,})", p.name))]
        number = max(taken, default=1 if name is not None and (out / stem).exists() else 0)
        path = out / stem if name is not None and number == 0 else out / f"{stem}-{number + 1:03d}"
        while True:
            try:
                path.mkdir()
                return RunDir(path.resolve())
            except FileExistsError:  # another process was faster
                number += 1
                path = out / f"{stem}-{number + 1:03d}"


def this_process() -> dict[str, Any]:
    """What config.json keeps of the process that trains: its number and when it began, as numbers are used again."""
    return {"pid": os.getpid(), "began": psutil.Process().create_time()}


def is_alive(process: object) -> bool:
    """Whether the process that `this_process` described still runs on this machine."""
    try:
        assert isinstance(process, dict)
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - process["began"]) < SAME_BEGIN
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)  # ended, though whoever started it has not asked yet
    except (psutil.Error, AssertionError, KeyError, TypeError, ValueError, OverflowError):
        return False


@contextlib.contextmanager
def reasons(path: Path) -> Iterator[None]:
    """Turn an operating system's error while writing below `path` into one clear RunError."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"{path} cannot hold runs: it, or a part of it, is a file. Give another folder with --out.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}. Free some space or give another folder with --out.") from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old or the new one, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to the disk and rename it.

    Raises:
        RunError: it cannot be written; the old file, if any, is untouched.
    """
    with reasons(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
