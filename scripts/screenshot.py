"""How docs/page.png is made: the page in Chromium, a hole drawn with the lasso, eight completions from seed 0.

    python scripts/screenshot.py

Needs playwright, from manifill[dev], and a Chromium on the PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from math import cos, pi, sin
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tests"))

import browsing  # noqa: E402

CENTRE, RADII = (64, 66), (26, 29)  # of the hole, in the photo's pixels
SIZE = {"width": 1280, "height": 660}
COLOURS = 256


def main() -> None:
    """Write docs/page.png."""
    with contextmanager(browsing.serve)() as address, sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none, and only our page is opened
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        browsing.open_photo(page)
        page.keyboard.press("l")
        around = (pi * k / 18 for k in range(37))
        browsing.drag(page, *((CENTRE[0] + RADII[0] * cos(a), CENTRE[1] + RADII[1] * sin(a)) for a in around))
        page.click("#open-settings")
        page.fill("#seed", "0")
        page.keyboard.press("Escape")
        browsing.fill(page, 8)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=DOCS / "page.png")
        browser.close()
    image = Image.open(DOCS / "page.png").convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(DOCS / "page.png", optimize=True)


if __name__ == "__main__":
    main()
