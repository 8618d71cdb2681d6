"""Helpers of the page's tests: a server of its own, the mouse on the photo, what was saved."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ("--model", str(Path(__file__).parent / "reference" / "model"))  # what the page does, it does with any model


NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium(playwright: Playwright) -> Browser | None:
    """Start headless Chromium; None where there is none on the PATH."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox, and only our page is opened
    return playwright.chromium.launch(executable_path=found, args=arguments) if found else None


def serve(*options: str) -> Iterator[str]:
    """Start a server on a free port; yield its address, stop it in the end."""
    command = [sys.executable, "-m", "manifill", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+?/", process.stdout.readline())
            assert found, "the server did not start"
            yield found.group()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def open_photo(page: Page, path: Path = EXAMPLES / "astronaut.png") -> Page:
    page.locator("#choose option").nth(1).wait_for(state="attached")  # the server's answer, which also sets sliders
    page.set_input_files("#photo-file", path)
    page.wait_for_selector("#work[data-mode=paint]")
    return page


def on_canvas(page: Page, x: float, y: float, size: int = 128) -> tuple[float, float]:
    """Return where on the screen a point of a square photo lies that is shown whole."""
    box = page.locator("#canvas").bounding_box()
    assert box
    scale = (min(box["width"], box["height"]) - 24) / size
    return (box["x"] + box["width"] / 2 + (x - size / 2) * scale, box["y"] + box["height"] / 2 + (y - size / 2) * scale)


def drag(page: Page, *points: tuple[float, float], size: int = 128) -> None:
    """Paint along points of the photo with the mouse."""
    page.mouse.move(*on_canvas(page, *points[0], size=size))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_canvas(page, *point, size=size), steps=3)
    page.mouse.up()


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.locator(button).first.click()
    return Path(download.value.path()).read_bytes()


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def menu(page: Page, item: str) -> None:
    """Open the menu of an item and choose it."""
    page.evaluate("(item) => document.querySelector(item).closest('[popover]').showPopover()", item)
    page.click(item)


def hole(page: Page) -> np.ndarray:
    """Return the hole as the page saves it, bool (H, W)."""
    with page.expect_download() as download:
        menu(page, "#save-mask")
    mask = Image.open(download.value.path())
    assert mask.mode == "1"
    return np.asarray(mask)


def fill(page: Page, count: int = 4) -> None:
    """Have `count` variations made and wait for them."""
    before = page.locator(".round").count()
    page.locator("#count").fill(str(count))
    page.locator("#start").click()
    page.locator(".round").nth(before).wait_for(state="attached")  # an earlier photo's may be folded
    page.wait_for_selector("#start:visible")
    assert page.locator(".round").first.locator(".tile[data-state=done]").count() == count


def view(page: Page, number: int) -> None:
    """Show a variation large."""
    page.get_by_role("button", name=f"Variation {number}. Show it large").click()
    page.wait_for_selector("#work[data-mode=view]")


def seed(page: Page) -> int:
    """Return the seed of the variation that is shown large."""
    page.click("#caption")
    found = int(page.locator("#details dd").first.inner_text())
    page.keyboard.press("Escape")
    return found


def pixels(page: Page) -> str:
    page.evaluate("() => new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))")
    return page.evaluate("() => document.getElementById('canvas').toDataURL()")
