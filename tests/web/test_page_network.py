"""The page and the network: slow uploads, answers that do not come, a proxy at a path of its own."""

from __future__ import annotations

import numpy as np
import pytest
from browsing import fill, menu, open_photo, serve, view
from PIL import Image

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'manifill[serve]'")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'manifill[dev]'")
expect, pytest_plugins = api.expect, ["page_fixtures"]


def test_a_slow_upload_says_how_much_has_gone(visit, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")  # about a megabyte
    page = open_photo(visit(), tmp_path / "large.png")
    menu(page, "#centre")
    page.locator("#count").fill("1")
    page.evaluate("""() => {
        window.said = [];
        new MutationObserver(() => said.push(document.getElementById("progress-text").textContent))
            .observe(document.getElementById("progress-text"), { childList: true });
    }""")
    client = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 5, "downloadThroughput": -1, "uploadThroughput": 1 << 20}
    client.send("Network.enable")
    client.send("Network.emulateNetworkConditions", slow)
    page.click("#start")
    expect(page.locator(".tile[data-state=done]")).to_have_count(1)
    shares = [int(text.split()[-2]) for text in page.evaluate("said") if text.startswith("Sending the photo:")]
    assert len(shares) >= 2
    assert shares == sorted(shares)


def test_what_got_no_answer_is_sent_again_and_errors_go_away(visit):
    page, tries = open_photo(visit()), []
    menu(page, "#centre")

    def answer(route):
        tries.append(1)
        route.abort() if len(tries) == 1 else route.continue_()

    page.route("**/api/v1/jobs", answer)
    page.locator("#count").fill("1")
    page.click("#start")
    expect(page.locator(".tile[data-state=done]")).to_have_count(1)
    assert len(tries) == 2
    expect(page.locator("#draw-error")).to_be_hidden()
    page.unroute("**/api/v1/jobs")
    page.route("**/api/v1/jobs", lambda route: route.fulfill(status=429, json={"error": "the queue is full"}))
    page.click("#start")
    expect(page.locator("#draw-error")).to_have_text("The queue is full.")
    page.unroute("**/api/v1/jobs")
    fill(page, 1)
    expect(page.locator("#draw-error")).to_be_hidden()


def test_below_a_path_of_a_proxy(visit):
    for url in serve("--root-path", "/fill"):
        page = visit(url + "fill/")
        page.click("#samples button")
        page.wait_for_selector("#work[data-mode=paint]")
        fill(page, 1)
        page.click("text=API")
        expect(page.locator("pre").first).to_contain_text(f"{url}fill/api/v1/inpaint")
        page.click("header a")
        page.wait_for_selector("#samples button")


def test_models_are_named_and_can_be_chosen(visit, bundled, tmp_path):
    page = open_photo(visit(bundled))
    names = page.locator("#model-choice option").all_inner_texts()
    assert names[0] == "Automatic"
    assert {name.partition(":")[0] for name in names[1:]} == {"faces-128", "scenes-128"}
    menu(page, "#centre")
    fill(page, 1)
    expect(page.locator(".round > .note")).to_be_hidden()
    view(page, 1)
    page.click("#caption")
    expect(page.locator("#details")).to_contain_text("faces-128: a face was found")
    page.keyboard.press("Escape")
    Image.effect_noise((128, 128), 60).save(tmp_path / "noise.png")
    open_photo(page, tmp_path / "noise.png")
    menu(page, "#centre")
    page.select_option("#model-choice", "faces-128")
    fill(page, 1)
    expect(page.locator(".round").first.locator(".note")).to_contain_text("no face is near the hole")
