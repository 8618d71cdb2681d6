"""How docs/page.png is made: the page in Chromium, a hole drawn with the lasso, eight completions from seed 0.

    python docs/screenshot.py

Needs playwright, from manifill[dev], and a Chromium on the PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import cos, pi, sin
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
PHOTO, SIDE = HERE.parent / "examples" / "astronaut.png", 128
CENTRE, RADII = (64, 66), (26, 29)  # of the hole, in the photo's pixels
SIZE = {"width": 1280, "height": 660}
COLOURS = 256


def main() -> None:
    """Write docs/page.png."""
    with serving() as address, sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none, and only our page is opened
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.set_input_files("#photo-file", PHOTO)
        page.wait_for_selector("#work[data-mode=paint]")
        lasso(page)
        page.fill("#seed", "0")
        page.click("#start")
        page.wait_for_selector(".tile:nth-child(8)[data-state=done]")
        page.wait_for_function("document.getElementById('start').textContent.startsWith('Draw')")
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=HERE / "page.png")
        browser.close()
    image = Image.open(HERE / "page.png").convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(HERE / "page.png", optimize=True)


@contextmanager
def serving() -> Iterator[str]:
    """Serve the bundled model on a free port; yield the page's address."""
    command = [sys.executable, "-m", "manifill", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+?/", process.stdout.readline())
        assert found, "the server did not start"
        try:
            yield found.group()
        finally:
            process.send_signal(signal.SIGINT)


def lasso(page: Page) -> None:
    """Draw the hole with the mouse."""
    page.keyboard.press("l")
    box = page.locator("#canvas").bounding_box()
    assert box
    scale = (min(box["width"], box["height"]) - 24) / SIDE
    points = [
        (
            box["x"] + box["width"] / 2 + (CENTRE[0] + RADII[0] * cos(pi * k / 18) - SIDE / 2) * scale,
            box["y"] + box["height"] / 2 + (CENTRE[1] + RADII[1] * sin(pi * k / 18) - SIDE / 2) * scale,
        )
        for k in range(37)
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


if __name__ == "__main__":
    main()
