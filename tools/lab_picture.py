"""Makes the lab's picture in the documents: the Trace tab of a real run, as a browser shows it.

    python tools/lab_picture.py           trains one epoch on the shipped MNIST (half a minute), then makes docs/images/lab.png
    python tools/lab_picture.py RUN       takes this run directory instead

It needs Debian's chromium. Nothing in the picture is drawn by hand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "lab.png"
WIDTH, HEIGHT = 1280, 900  # CSS pixels
COLOURS = 128  # of the picture's palette, which makes it a third as large
PORT = 8799
PATIENCE_SECONDS = 60


def wait_for(address: str) -> None:
    """Return when a server answers."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)
        else:
            return


def photograph(program: str, place: str, name: str) -> None:
    """The Trace tab with an activation of the third block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{place}#/trace/{name}?image=valid:0&layer=2.0&unit=3,1,2")
        page.wait_for_selector("canvas", timeout=1000 * PATIENCE_SECONDS)
        page.wait_for_timeout(3000)  # milliseconds for the last map to be drawn
        page.screenshot(path=PICTURE)
        browser.close()


def main(arguments: list[str]) -> int:
    """Make the picture; returns the exit code."""
    program = shutil.which("chromium")
    if len(arguments) > 1 or program is None:
        print(__doc__ if program else "chromium is not installed; `apt-get install chromium` brings it.", file=sys.stderr)
        return 2 if program else 1
    convscope = [sys.executable, "-m", "convscope"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(arguments[0]) if arguments else Path(folder) / "mnist"
        if not arguments:
            subprocess.run([*convscope, "train", "mnist", "--epochs", "1", "--out", folder, "--name", run.name], check=True)
        lab = subprocess.Popen([*convscope, "lab", str(run), "--no-browser", "--port", str(PORT)])
        try:
            wait_for(place := f"http://127.0.0.1:{PORT}/")
            photograph(program, place, run.name)
        finally:
            lab.terminate()
            lab.wait()
    with Image.open(PICTURE) as picture:
        smaller = picture.convert("RGB").quantize(COLOURS)
    smaller.save(PICTURE, optimize=True)
    print(f"{PICTURE} ({PICTURE.stat().st_size // 1000} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
