"""The tutorial and the how-to pages say what is true: their commands are run and print what is shown, and their Python runs as it stands there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ratings_files import small, write_rows
from small_data import write_folder

import convscope

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
ANYTHING = "…"


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Each command of the console blocks, and the lines shown after it."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks(page, "console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def missing(shown: list[str], printed: str) -> str | None:
    """The first shown line that was not printed after those before it; gaps are allowed, "…" stands for anything."""
    lines = iter(printed.splitlines())
    for wanted in shown:
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split(ANYTHING)))
        if wanted.strip(ANYTHING) and not any(pattern.fullmatch(line.rstrip()) for line in lines):
            return wanted
    return None


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the pages speak of, in which programs of this environment are found first."""
    write_folder(tmp_path / "photos", per_class=40)
    small(tmp_path / "ratings.csv")
    write_rows(tmp_path / "titles.csv", *(f"i{item},Film {item}" for item in range(20)), header="item,title")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.ipynb"))
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name, value in {"PATH": programs, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "CONVSCOPE_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page, place):
    for command, shown in commands(page):
        done = subprocess.run(shlex.split(command), cwd=place, capture_output=True, text=True, timeout=500, check=False)
        printed = done.stderr + done.stdout
        assert done.returncode == 0, f"{command}\n{printed}"
        assert missing(shown, printed) is None, f"{command}\n{missing(shown, printed)!r} was not printed, but\n{printed}"
    if python := "\n".join(blocks(page, "python")):
        done = subprocess.run([sys.executable, "-c", python], cwd=place, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr


def test_lines_that_were_not_printed_are_noticed():
    printed = "one\nverdict: healthy, in 3 s\nlast"
    assert missing(["one", "…", "verdict: …, in … s"], printed) is None
    assert missing(["verdict: problem…"], printed) == "verdict: problem…"
    assert missing(["last", "one"], printed) == "one"


def test_every_public_name_is_in_the_reference():
    reference = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    shown = re.findall(r"auto(?:class|function):: convscope\.(\w+)$", reference, flags=re.MULTILINE)
    modules = {"kernels", "ConvscopeError"}  # shown with all that belongs to them
    assert "automodule:: convscope.arithmetic.kernels" in reference
    assert "automodule:: convscope.errors" in reference
    assert sorted({*shown, *modules, "__version__"}) == sorted(convscope.__all__)


def test_every_page_is_in_the_list():
    listed = re.findall(r"\]\(([\w-]+)\.md\)", (DOCS / "how-to" / "index.md").read_text(encoding="utf-8"))
    assert sorted([*listed, "index"]) == sorted(page.stem for page in PAGES[1:])
