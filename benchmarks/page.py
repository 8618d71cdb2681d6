"""From the click on Fill to the first structure and the eighth variation on the page, and where that time goes.

    python benchmarks/page.py [--photo PHOTO] [--megapixels 12]

The page in Chromium, the server with its own models, both on this machine: an upload takes next to nothing, so that
what is said is what a user waits besides it. The photo is enlarged; its hole is a box in it. Seconds are the page's,
from the click; the server's are of processor time of all its threads. Then the same steps without browser and server.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sampling import table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import browsing  # noqa: E402

from manifill import Inpainter  # noqa: E402

LISTEN = """() => {
    window.mark = (name) => (marks[name] ??= (performance.now() - began) / 1000);
    const send = XMLHttpRequest.prototype.send;
    XMLHttpRequest.prototype.send = function (body) {
        mark("sending");
        this.upload.addEventListener("load", () => mark("sent"));
        this.addEventListener("load", () => mark("accepted"));
        return send.call(this, body);
    };
    new MutationObserver((changes) => {
        for (const { target } of changes) {
            mark({ structure: "first structure", done: "first" }[target.dataset.state]);
            const round = target.closest(".round"); // removed ones stay for a while, to be brought back
            if (round?.querySelectorAll(".tile[data-state=done]").length === 8) mark("eighth");
        }
    }).observe(document.getElementById("rounds"), { subtree: true, attributeFilter: ["data-state"] });
}"""
CLICK = """() => {
    window.marks = {};
    window.began = performance.now();
    document.getElementById("start").click();
}"""


def enlarged(photo: Path, megapixels: float, folder: Path) -> Path:
    """Write a JPEG of so many megapixels and return its path."""
    with Image.open(photo) as found:
        scale = (megapixels * 1e6 / found.width / found.height) ** 0.5
        size = round(found.width * scale), round(found.height * scale)
        found.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / "photo.jpg", quality=92)
    return folder / "photo.jpg"


def hole_of(size: tuple[int, int], box: list[float]) -> np.ndarray:
    """Return the hole, uint8 (H, W), of a box in parts of a photo's width and height."""
    left, top, right, bottom = (round(v * size[k % 2]) for k, v in enumerate(box))
    hole = np.zeros(size[::-1], np.uint8)
    hole[top:bottom, left:right] = 255
    return hole


def clicked(page: Page, process: psutil.Process) -> list[list[str]]:
    """Click on Fill and return a row of the table for what then happens."""
    before = sum(process.cpu_times()[:2])
    page.evaluate(CLICK)
    page.locator(".tile[data-state=structure], .tile[data-state=done]").first.wait_for()
    first = sum(process.cpu_times()[:2])
    page.wait_for_selector("#start:visible")
    last = sum(process.cpu_times()[:2])
    used = {"first structure": f"{first - before:.2f}", "eighth": f"{last - before:.2f}"}
    marks = sorted(page.evaluate("marks").items(), key=lambda item: item[1])
    return [[name, f"{seconds:.2f}", used.get(name, "")] for name, seconds in marks if name != "undefined"]


def by_browser(photo: Path, mask: Path, rounds: int) -> None:
    """Print what a user waits for."""
    with closing_server() as (address, process), sync_playwright() as playwright:
        browser = browsing.chromium(playwright)
        assert browser, "no Chromium on the PATH"
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(address)
        page.wait_for_selector("#samples button")
        browsing.open_photo(page, photo)
        page.set_input_files("#mask-file", mask)
        page.wait_for_selector("#undo:not(:disabled)")
        page.evaluate(LISTEN)
        for _ in range(rounds):
            page.locator("#seed").evaluate("(field) => { field.value = 0; }")
            table(["on the page", "s from the click", "s of the server's processor"], clicked(page, process))
            page.click(".round .remove")
        browser.close()


@contextmanager
def closing_server() -> Iterator[tuple[str, psutil.Process]]:
    """A server as it starts without options: its address and process."""
    with closing(browsing.serve()) as served:
        address = next(served)
        (process,) = psutil.Process().children()
        yield address, process


def by_itself(photo: Path, mask: Path, rounds: int) -> None:
    """Print the same steps in this process."""
    from manifill.photos.photo import load_photo
    from manifill.web.limits import Limits
    from manifill.web.requests import open_upload

    model, rows = Inpainter.from_pretrained("auto"), []
    limits, data, marked = Limits(), photo.read_bytes(), mask.read_bytes()
    for _ in range(rounds + 1):
        clock = [(time.perf_counter(), time.process_time())]

        def lap(clock: list[tuple[float, float]] = clock) -> None:
            clock.append((time.perf_counter(), time.process_time()))

        found = load_photo(open_upload(data, "photo", limits))
        lap()
        hole = open_upload(marked, "mask", limits)
        with warnings.catch_warnings(action="ignore"):
            events = model(found, hole, num_samples=8, seed=0).events()
        lap()
        next(events)
        lap()
        for _ in events:
            pass
        lap()
        rows = np.diff(np.array(clock), axis=0)  # of the last round: before it models are loaded
    names = "photo decoded", "mask read and hole planned", "first structure", "all painted"
    table(
        ["without page and server", "s", "s of the processor"],
        [[n, *(f"{v:.2f}" for v in row)] for n, row in zip(names, rows, strict=True)],
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=browsing.EXAMPLES / "astronaut.png")
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--box", type=float, nargs=4, default=[0.42, 0.38, 0.58, 0.53], help="left, top, right, bottom")
    parser.add_argument("--rounds", type=int, default=2)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo, mask = enlarged(a.photo, a.megapixels, Path(folder)), Path(folder, "mask.png")
        with Image.open(photo) as found:
            size = found.size
        Image.fromarray(hole_of(size, a.box)).save(mask, compress_level=1)
        print(f"{size[0]}x{size[1]} pixels, {photo.stat().st_size >> 10} KiB, hole {a.box}\n")
        by_itself(photo, mask, a.rounds)
        by_browser(photo, mask, a.rounds)


if __name__ == "__main__":
    main()
