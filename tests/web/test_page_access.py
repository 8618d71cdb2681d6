"""The page for everybody: errors in words, keyboard alone, telephones, screen readers, a token."""

from __future__ import annotations

import numpy as np
import pytest
from browsing import SMALL, fill, hole, menu, on_canvas, open_photo, pixels, serve
from PIL import Image

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'manifill[serve]'")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'manifill[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install 'manifill[dev]'")
Page, expect, pytest_plugins = api.Page, api.expect, ["page_fixtures"]
TOKEN = "a-token-for-this-test"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def test_errors_are_said_where_they_happen(visit, tmp_path):
    page = visit()
    page.evaluate("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["just words"], "notes.txt", { type: "text/plain" }));
        document.body.dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
    }""")
    expect(page.locator("#photo-error")).to_contain_text("notes.txt (text/plain) is not a picture")
    expect(page.locator("#drop")).to_be_hidden()
    open_photo(page)
    expect(page.locator("#photo-error")).to_be_hidden()
    page.click("#start")
    expect(page.locator("#draw-error")).to_contain_text("no hole yet")
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    page.set_input_files("#mask-file", tmp_path / "black.png")
    expect(page.locator("#mask-error")).to_contain_text("black.png: the mask has no hole")
    page.route("**/api/v1/jobs", lambda route: route.fulfill(status=429, json={"error": "the queue is full"}))
    menu(page, "#centre")
    expect(page.locator("#draw-error")).to_be_hidden()
    page.click("#start")
    expect(page.locator("#draw-error")).to_have_text("The queue is full.")
    page.unroute("**/api/v1/jobs")
    page.route("**/api/v1/jobs", lambda route: route.abort())
    page.click("#start")
    expect(page.locator("#draw-error")).to_contain_text("did not answer")


def test_a_photo_is_dropped_or_pasted(visit):
    page = visit()
    for event in ("drop", "paste"):
        page.evaluate(
            """async ([event, name]) => {
            const blob = await (await fetch("/static/samples/astronaut.png")).blob();
            const data = new DataTransfer();
            data.items.add(new File([blob], name, { type: "image/png" }));
            const make = { drop: () => new DragEvent("drop", { dataTransfer: data, bubbles: true }),
                paste: () => new ClipboardEvent("paste", { clipboardData: data, bubbles: true }) };
            document.body.dispatchEvent(make[event]());
        }""",
            [event, f"{event}.png"],
        )
        expect(page.locator("#canvas")).to_have_attribute("aria-label", f"{event}.png and its hole")


def faults(page: Page) -> list[str]:
    """Return what axe finds serious or critical."""
    page.evaluate("() => Promise.all(document.getAnimations().map((a) => a.finish()))")
    found = axe.Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until something that matches has the focus, and see that the focus is shown."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"the keyboard does not reach {selector}")


def test_the_keyboard_alone_is_enough(visit):
    page = visit()
    page.wait_for_selector("#samples button")
    tab_to(page, "#samples button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#work[data-mode=paint]")
    tab_to(page, "#open-hole")
    page.keyboard.press("Enter")
    tab_to(page, "#clear")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    for _ in range(30):
        if page.evaluate("() => document.activeElement.id") == "canvas":
            break
        page.keyboard.press("Shift+Tab")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.down("Space")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.keyboard.up("Space")
    page.keyboard.press("r")
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    tab_to(page, "#count")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    tab_to(page, "#start")
    page.keyboard.press("Enter")
    expect(page.locator(".tile[data-state=done]")).to_have_count(2)
    page.wait_for_selector("#start:visible")
    tab_to(page, ".pick")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#work[data-mode=view]")
    assert page.evaluate("() => document.activeElement.id") == "canvas"
    expect(page.locator("#caption")).to_contain_text("2 of 2")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#caption")).to_contain_text("1 of 2")
    page.keyboard.down("c")
    expect(page.locator("#badge")).to_be_visible()
    page.keyboard.up("c")
    expect(page.locator("#badge")).to_be_hidden()
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.classList.contains('pick')")
    rows, columns = np.nonzero(hole(page))
    assert np.ptp(columns) > 16
    assert np.ptp(rows) > 10


def test_a_phone(visit):
    page = visit(**PHONE)
    wide = "() => document.documentElement.scrollWidth"
    page.wait_for_selector("#samples button")
    assert page.evaluate(wide) <= 360
    open_photo(page)
    page.locator("#canvas").scroll_into_view_if_needed()
    page.touchscreen.tap(*on_canvas(page, 64, 64))
    assert hole(page).any()
    page.keyboard.press("Control+z")
    pinch(page)
    assert not hole(page).any()
    menu(page, "#centre")
    assert page.evaluate(wide) <= 360
    fill(page, 2)
    assert page.evaluate(wide) <= 360
    page.locator(".pick").first.tap()
    page.wait_for_selector("#work[data-mode=view]")
    assert page.evaluate(wide) <= 360
    page.click("#part")
    assert page.evaluate(wide) <= 360


def pinch(page: Page) -> None:
    """Move two fingers apart on the photo and see that it grows."""
    before, client = pixels(page), page.context.new_cdp_session(page)
    middle, top = on_canvas(page, 64, 64)

    def touch(kind: str, *xs: float) -> None:
        points = [{"x": x, "y": top, "id": k} for k, x in enumerate(xs)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", middle - 20)
    touch("touchStart", middle - 20, middle + 20)
    touch("touchMove", middle - 60, middle + 60)
    touch("touchEnd")
    assert pixels(page) != before


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_no_serious_fault(visit, scheme, width):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.wait_for_selector("#samples button")
    assert faults(page) == []
    page.click("#samples button")
    page.wait_for_selector("#work[data-mode=paint]")
    page.click("#open-settings")
    page.fill("#seed", "x")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#seed-error")).to_be_visible()
    assert faults(page) == []
    page.fill("#seed", "1")
    page.keyboard.press("Escape")
    fill(page, 2)
    page.locator(".pick").first.click()
    page.wait_for_selector("#work[data-mode=view]")
    assert faults(page) == []
    page.click("#part")
    assert faults(page) == []
    page.evaluate("() => document.getElementById('open-keys').click()")
    assert faults(page) == []
    page.click("#close-keys")
    expect(page.locator("#keys")).to_be_hidden()


def test_a_token_is_asked_for_and_kept_for_the_session(visit):
    for url in serve("--token", TOKEN, *SMALL):
        page = visit(url)
        page.wait_for_selector("#token[open]")
        assert faults(page) == []
        page.fill("#token-text", "not-the-token")
        page.keyboard.press("Enter")
        expect(page.locator("#token-error")).to_contain_text("not the server's")
        page.fill("#token-text", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#samples button")
        page.reload()
        page.click("#samples button")
        page.wait_for_selector("#work[data-mode=paint]")
        fill(page, 2)
