"""How docs/page.webp is made: the page in Chromium, filmed while a hole is drawn, filled, and its variations compared.

    python scripts/film.py

Needs playwright, from manifill[dev], and a Chromium on the PATH.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from math import cos, pi, sin
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import browsing  # noqa: E402

OUT = ROOT / "docs" / "page.webp"
CENTRE, RADII = (64, 66), (26, 29)  # of the hole, in the photo's pixels
SIZE = {"width": 1120, "height": 700}
LONGEST = 2 << 20  # bytes
POINTER = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]


class Film:
    """Pictures of a page, one after another, with the mouse in them, which screenshots lack."""

    def __init__(self, page: Page) -> None:
        self.page, self.frames, self.times, self.mouse = page, [], [], (560.0, 640.0)

    def shoot(self, milliseconds: int = 90) -> None:
        """Take a picture that is shown for so long."""
        path = OUT.with_suffix(".png")
        self.page.screenshot(path=path)
        frame = Image.open(path).convert("RGB")
        path.unlink()
        shape = [(x + self.mouse[0], y + self.mouse[1]) for x, y in POINTER]
        ImageDraw.Draw(frame).polygon(shape, "black", "white", 1)
        self.frames.append(frame)
        self.times.append(milliseconds)

    def move(self, x: float, y: float, steps: int = 5) -> None:
        """Move the mouse."""
        (left, top) = self.mouse
        for k in range(1, steps + 1):
            self.mouse = (left + (x - left) * k / steps, top + (y - top) * k / steps)
            self.page.mouse.move(*self.mouse)
            self.shoot(50)

    def click(self, selector: str, milliseconds: int = 500) -> None:
        """Go to an element and click it."""
        box = self.page.locator(selector).first.bounding_box()
        assert box, selector
        self.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self.page.mouse.down()
        self.page.mouse.up()
        self.page.wait_for_timeout(250)
        self.shoot(milliseconds)

    def press(self, key: str, milliseconds: int = 600) -> None:
        """Press a key."""
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(250)
        self.shoot(milliseconds)

    def save(self) -> None:
        """Write the film."""
        first, *rest = self.frames
        first.save(OUT, save_all=True, append_images=rest, duration=self.times, loop=0, quality=72, method=6)
        assert OUT.stat().st_size < LONGEST, OUT.stat().st_size


def play(film: Film) -> None:
    """Do what the film shows."""
    page = film.page
    browsing.open_photo(page)
    film.shoot(900)
    film.click("[data-tool=lasso]", 200)
    around = [
        browsing.on_canvas(page, CENTRE[0] + RADII[0] * cos(a), CENTRE[1] + RADII[1] * sin(a))
        for a in (pi * k / 12 for k in range(25))
    ]
    film.move(*around[0])
    page.mouse.down()
    for place in around[1:]:
        film.move(*place, steps=1)
    page.mouse.up()
    film.shoot(500)
    film.click("#start", 60)
    while page.locator("#start").is_hidden():
        film.shoot(120)
    page.wait_for_timeout(500)
    film.shoot(1500)
    film.click(".tile:nth-child(2) .pick", 900)
    film.press("ArrowRight", 900)
    film.press("ArrowRight", 900)
    film.press("s", 700)
    film.press("d", 300)
    y = browsing.on_canvas(page, 64, 40)[1]
    film.move(browsing.on_canvas(page, 64, 40)[0], y)
    page.mouse.down()
    for x in (30, 100, 64):
        film.move(browsing.on_canvas(page, x, 40)[0], y, steps=6)
    page.mouse.up()
    film.press("a", 900)
    page.keyboard.down("Shift")
    film.click(".tile:nth-child(3) .pick", 1200)
    page.keyboard.up("Shift")
    film.press("a", 300)
    film.press("Escape", 900)


def main() -> None:
    """Write docs/page.webp."""
    with contextmanager(browsing.serve)() as address, sync_playwright() as playwright:
        browser = browsing.chromium(playwright)
        assert browser, "no Chromium on the PATH"
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.wait_for_selector("#samples button")
        page.locator("#temperature").evaluate("(slider) => { slider.value = 0.9; }")
        page.locator("#seed").evaluate("(field) => { field.value = 0; }")
        film = Film(page)
        play(film)
        browser.close()
    film.save()


if __name__ == "__main__":
    main()
