"""Makes the picture of the README: the pages of two real runs side by side, one whose activations collapse and one that is healthy.

    python tools/readme_picture.py                      trains both runs on the shipped MNIST (about a minute), then makes docs/images/report.png
    python tools/readme_picture.py BROKEN HEALTHY       takes these run directories instead

It needs Debian's chromium. Nothing in the picture is drawn by hand: it is what a browser shows of `report.html`, cut to its best part.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from convscope.rundir import RunDir, open_run
from convscope.show.page import write_report

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 900, 1745  # CSS pixels of each page
BROKEN_SEED = 1  # with a constant learning rate of 0.06 and no batch norm this one collapses within fifteen steps
# What is left out, so that the diagnosis, the loss and the layers are seen at once.
SHORTER = """
.bar-top, .tiles, .verdict details, #training ~ section:not(#layers), #training .small-charts, #training > p, #layers > p,
#layers > details, footer { display: none; }
#layer-moments, #layer-map, figcaption, .source, .follows, .findings .findings { display: none !important; }
header { padding-top: 1.5rem; } main > section { margin-top: 1.5rem; } h2 { margin-bottom: 0.5rem; }
"""


def train(folder: Path, *, healthy: bool) -> RunDir:
    """A run of one epoch with its page: batch norm and 1cycle, or neither."""
    import torch

    import convscope as cs
    from convscope.train.activation_stats import ActivationStats

    torch.manual_seed(BROKEN_SEED)
    learner = cs.Learner(cs.load_data("mnist"), cs.simple_cnn(norm=healthy), callbacks=[ActivationStats()], seed=BROKEN_SEED)
    if healthy:
        learner.fit_one_cycle(1, lr_max=0.06)
    else:
        learner.fit(1, lr=0.06)
    return RunDir(learner.save(folder / ("with-batch-norm" if healthy else "without-batch-norm")))


def photograph(browser: Browser, run: RunDir) -> Image.Image:
    """The top of a run's page, with the activation of its second block chosen."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.goto(write_report(run).absolute().as_uri())
    page.add_style_tag(content=SHORTER)
    page.wait_for_selector("#layer-histogram .main-svg")
    page.locator('button[aria-label^="Layer 1."][aria-label*="ReLU"]').click()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)  # milliseconds for the last chart to be drawn
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture.convert("RGB")


def main(arguments: list[str]) -> int:
    """Make the picture; returns the exit code."""
    if len(arguments) not in (0, 2):
        print(__doc__, file=sys.stderr)
        return 2
    program = shutil.which("chromium")
    if program is None:
        print("chromium is not installed; `apt-get install chromium` brings it.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = [open_run(path) for path in arguments] or [train(Path(folder), healthy=healthy) for healthy in (False, True)]
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        pictures = [photograph(browser, run) for run in runs]
        browser.close()
    both = Image.new("RGB", (2 * WIDTH, HEIGHT))
    for place, picture in enumerate(pictures):
        both.paste(picture, (place * WIDTH, 0))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    both.save(PICTURE, optimize=True)
    print(f"{PICTURE} ({PICTURE.stat().st_size // 1000} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
