"""What tests of the lab share: a tiny trained run, the application without a server, and a real server in a process of its own."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_served import PORT, TOKEN, Application, Served, end_trainings, served
from PIL import Image
from rich.console import Console

from convscope.data.shipped import read_mnist
from convscope.lab.api import Lab
from convscope.lab.app import create_app
from convscope.lab.runs import RunsFolder
from convscope.train.runs import train_run
from convscope.train.settings import TrainSettings

TRAIN_IMAGES, VALID_IMAGES = 640, 60


@pytest.fixture(scope="session")
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for everything that the lab writes besides runs: the quiz's progress and the caches. It is this session's home for them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.setenv("CONVSCOPE_CACHE", str(home / "cache"))
        yield home


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the shipped digits as a folder of image files: train/7/12.png."""
    root = tmp_path_factory.mktemp("digits") / "digits"
    for split, stem, count in (("train", "train", TRAIN_IMAGES), ("valid", "t10k", VALID_IMAGES)):
        found = read_mnist(stem)
        for place in range(count):
            folder = root / split / str(found.labels_N[place])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(found.images_NCHW[place, 0]).save(folder / f"{place}.png")
    return root


@pytest.fixture(scope="session")
def lab_runs(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path, lab_home: Path) -> Path:
    """A folder of runs with one, `tiny`: net B on some digits, 40 steps. Not to be written to: copy it."""
    out = tmp_path_factory.mktemp("lab") / "runs"
    settings = TrainSettings(str(digits_folder), model="simple_cnn", epochs=2, batch_size=32, lr=0.02, augment=False, device="cpu")
    train_run(settings, out, "tiny", Console(file=io.StringIO()))
    return out


@pytest.fixture(scope="module")
def application(lab_runs: Path, lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """The application on a copy of the runs."""
    folder = tmp_path_factory.mktemp("application") / "runs"
    shutil.copytree(lab_runs, folder)
    return Application(create_app(Lab(RunsFolder(folder), "tiny", PORT, TOKEN)), folder)


@pytest.fixture(scope="module")
def lab(lab_runs: Path, digits_folder: Path, lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server on a copy of the runs, with the run `tiny` opened."""
    folder = tmp_path_factory.mktemp("served") / "runs"
    shutil.copytree(lab_runs, folder)
    with served(folder, digits_folder) as server:
        yield server
    end_trainings(folder)
