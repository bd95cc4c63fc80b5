"""The lab's promises, measured in a real browser: first paint, click to trace, live updates, and what an open lab costs a training.

    OMP_NUM_THREADS=1 python benchmarks/lab.py [--quick]       # writes results/lab.json; ten minutes on two quiet cores

1. First paint: from the first request of a page to its first contentful paint, the server being up; a fresh browser context each time.
2. A click to its trace: from a click on a unit in the Trace tab until its products stand on the page, on net B; and the server's share of it.
3. Sixty live updates a second for ten seconds, as events of a server of their own: the longest gap between two animation frames of the page.
4. Steps of net B with the lab open in the browser and following the run, over steps of the same training with no lab, interleaved.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import keep, spread
from playwright.sync_api import Browser, Page, sync_playwright

PAINTS, CLICKS, SECONDS, PER_SECOND, PAIRS, EPOCHS = 20, 30, 10, 60, 6, 2
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
TRAIN = ["train", "mnist", "--epochs", str(EPOCHS), "--lr", "0.06"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

FEED = """
([layers, perSecond, seconds]) => new Promise((done) => {
  // Events as the server sends them, at the rate wanted, through the page's own EventSource handlers.
  const source = window.labSource, gaps = [];
  let last = performance.now(), step = 100000, sent = 0;
  const end = last + seconds * 1000;
  const frame = (now) => { gaps.push(now - last); last = now; if (now < end) requestAnimationFrame(frame); else done({ gaps, sent }); };
  requestAnimationFrame(frame);
  const began = last;
  const timer = setInterval(() => {
    const now = performance.now();
    if (now >= end) return clearInterval(timer);
    for (const due = Math.floor((now - began) * perSecond / 1000); sent < due; sent += 1) { // all that are due, also after a pause
      step += 1;
      const say = (name, data) => source.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
      say("state", { state: "running", message: null, epoch: 1, epochs: 2, step, steps: 200000, lr: 0.06 });
      const loss = { loss: [Math.random()], loss_low: [0], loss_high: [1] };
      say("steps", { restart: false, first: [step], step: [step], ...loss, lr: [0.01], momentum: [0.9], gradient_norm: [1] });
      for (const layer of layers) say("layers", { ...layer, restart: false, first: [step], step: [step] });
    }
  }, 4);
})
"""
KEEP_SOURCE = """
const Plain = window.EventSource;
window.EventSource = class extends Plain { constructor(...given) { super(...given); window.labSource = this; } };
"""
STOPWATCH = """
window.clicked = [];
addEventListener("pointerdown", () => { window.began = performance.now(); }, true);
new MutationObserver(() => {
  const heading = document.querySelector(".activation h2")?.textContent;
  if (heading === window.shownHeading || !heading) return;
  window.shownHeading = heading;
  const began = window.began; // the products stand beside the heading; the frame after next shows both
  if (began) requestAnimationFrame(() => requestAnimationFrame(() => window.clicked.push(performance.now() - began)));
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[str]:
    """A lab on a folder of runs; its address."""
    command = [sys.executable, "-m", "convscope", "lab", str(folder), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        assert process.stderr
        found = re.search(r"http://[a-z0-9.]+:\d+", process.stderr.readline())
        assert found
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str) -> None:
    """Until torch is imported, as it is a moment after the first page."""
    urllib.request.urlopen(url).read()
    while not json.load(urllib.request.urlopen(f"{url}/api/state"))["ready"]:
        time.sleep(0.2)


def until(page: Page, expression: str) -> None:
    """Until an expression is true; the page's policy forbids the way in which playwright itself would wait."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def first_paints(browser: Browser, folder: Path, count: int) -> list[float]:
    """Milliseconds to the first contentful paint: each time a server just started, whose page nobody has seen."""
    found = []
    for _ in range(count):
        with lab(folder) as url:
            page = browser.new_context().new_page()
            page.goto(url)
            until(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
            found.append(float(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")))
            page.context.close()
    return found


def clicks(browser: Browser, url: str, run: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from a click on a unit to its products on the page, and the server's share."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    server: list[float] = []
    page.on("requestfinished", lambda request: server.append(request.timing["responseEnd"]) if request.url.endswith("/trace") else None)
    page.add_init_script(STOPWATCH)
    page.goto(f"{url}/#/trace/{run}?image=valid:3&layer=2.0&unit=0,1,1")
    page.wait_for_selector(".activation h2")
    canvas = page.locator("[data-operation='1.0'] canvas.drawn")
    server.clear()
    for place in range(count):
        page.evaluate("window.before = window.clicked.length")
        canvas.click(position={"x": 3 + 7 * (place % 6), "y": 18 + 7 * (place // 6 % 6)})  # another unit each time
        until(page, "window.clicked.length > window.before")
        page.wait_for_timeout(100)
    measured = page.evaluate("window.clicked")
    page.context.close()
    return measured, server


def frames(browser: Browser, url: str, run: str, seconds: int) -> dict[str, Any]:
    """Gaps between animation frames while sixty updates a second arrive, and with none."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.add_init_script(KEEP_SOURCE)
    layers = layer_events(url, run)
    page.goto(f"{url}/#/train/{run}")
    until(page, "window.labSource !== undefined")
    page.wait_for_timeout(2000)
    quiet = page.evaluate(FEED, [[], 0.001, 3])["gaps"][1:]
    busy = page.evaluate(FEED, [layers, PER_SECOND, seconds])
    page.context.close()
    gaps = busy["gaps"][1:]
    return {
        "updates_sent_per_second": busy["sent"] / seconds,
        "longest_gap_ms": max(gaps),
        "gap_95_ms": statistics.quantiles(gaps, n=20)[-1],
        "frames_per_second": len(gaps) / seconds,
        "without_updates": {"longest_gap_ms": max(quiet), "frames_per_second": len(quiet) / 3},
    }


def layer_events(url: str, run: str) -> list[dict[str, Any]]:
    """The last row of each layer, as an event of one row."""
    found, name = [], ""
    with urllib.request.urlopen(f"{url}/api/runs/{run}/live") as stream:
        for line in stream:
            text = line.decode().strip()
            name = text[7:] if text.startswith("event: ") else name
            if name == "layers" and text.startswith("data: "):
                value = json.loads(text[6:])
                bands = value.pop("color_dim")
                rows = {key: [part[-1]] if isinstance(part, list) else part for key, part in value.items()}
                found.append(
                    {**rows, "color_dim": {"counts": bands["counts"][-1:], "samples": bands["samples"][-1:], "edges": bands["edges"]}}
                )
    return found


def step_seconds(run: Path) -> float:
    """The median wall time of a step, as the run itself has measured it."""
    from convscope.runlog import RunLog

    with RunLog.read(run / "log.sqlite") as log:
        return statistics.median(record.seconds.mean for record in log.steps() if record.seconds)


def train(folder: Path, name: str, page: Page | None, url: str) -> dict[str, float]:
    """One training, followed by a page or not; its wall seconds and the median of a step."""
    command = [sys.executable, "-m", "convscope", *TRAIN, "--out", str(folder), "--name", name]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    if page is not None:
        while not (folder / name / "config.json").exists() and process.poll() is None:
            page.wait_for_timeout(100)
        page.goto(f"{url}/#/train/{name}")
    while process.poll() is None:
        if page is None:
            time.sleep(0.1)
        else:
            page.wait_for_timeout(100)
    assert process.returncode == 0
    return {"seconds": time.monotonic() - started, "step": step_seconds(folder / name)}


def with_and_without(browser: Browser, folder: Path, url: str, pairs: int) -> dict[str, Any]:
    """Trainings with the lab open and with none, one after the other; which comes first alternates."""
    ratios, totals = [], []
    for pair in range(pairs):
        measured: dict[bool, dict[str, float]] = {}
        for opened in ((True, False), (False, True))[pair % 2]:
            name = f"pair-{pair}-{'open' if opened else 'alone'}"
            if opened:
                page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
                page.goto(url)
                measured[True] = train(folder, name, page, url)
                page.context.close()
            else:
                measured[False] = train(folder, name, None, url)
        ratios.append(measured[True]["step"] / measured[False]["step"])
        totals.append(measured[True]["seconds"] / measured[False]["seconds"])
        print(f"pair {pair}: step {ratios[-1]:.3f}, whole {totals[-1]:.3f}", flush=True)
    return {"step_ratio": spread(ratios), "whole_ratio": spread(totals)}


def main() -> None:
    """Measure everything and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of each, not kept")
    quick = parser.parse_args().quick
    folder = Path(tempfile.mkdtemp(prefix="convscope-lab-"))
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        train(folder, "net-b", None, "")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
            paints = first_paints(browser, folder, 3 if quick else PAINTS)
            print("first paint:", spread(paints), flush=True)
            with lab(folder) as url:
                wait_until_ready(url)
                clicked, server = clicks(browser, url, "net-b", 5 if quick else CLICKS)
                print("click to trace:", spread(clicked), "server:", spread(server), flush=True)
                gaps = frames(browser, url, "net-b", 3 if quick else SECONDS)
                print("frames:", gaps, flush=True)
                cost = with_and_without(browser, folder, url, 1 if quick else PAIRS)
            browser.close()
        result = {
            "first_paint_ms": spread(paints),
            "click_to_trace_ms": spread(clicked),
            "trace_server_ms": spread(server),
            "sixty_updates": gaps,
            "training_with_lab_open": cost,
            "bounds": {"first_paint_ms": 1000, "click_to_trace_ms": 200, "training_with_lab_open": 1.05},
        }
        print(json.dumps(result, indent=2))
        if not quick:
            print(keep("lab", result))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
