"""The page and the network: slow uploads, answers that do not come, a proxy at a path of its own."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browsing import SMALL, fill, menu, open_photo, serve, view
from PIL import Image
from serving import until

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

    def throttle(bytes_a_second: int) -> None:
        speed = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
        client.send("Network.emulateNetworkConditions", speed)

    client.send("Network.enable")
    throttle(1 << 18)
    page.click("#start")
    until(lambda: len(shares_said(page)) > 1)
    throttle(-1)
    expect(page.locator(".tile[data-state=done]")).to_have_count(1)
    assert shares_said(page) == sorted(shares_said(page))


def shares_said(page) -> list[int]:
    """Return how much had gone, in percent, whenever it was said."""
    return [int(text.split()[-2]) for text in page.evaluate("said") if text.startswith("Sending the photo:")]


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
    for url in serve("--root-path", "/fill", *SMALL):
        page = visit(url + "fill/")
        page.click("#samples button")
        page.wait_for_selector("#work[data-mode=paint]")
        fill(page, 1)
        page.click("text=API")
        expect(page.locator("pre").first).to_contain_text(f"{url}fill/api/v1/inpaint")
        page.click("header a")
        page.wait_for_selector("#samples button")


def test_what_the_server_says_of_models_and_photos_is_shown(visit):
    notice = "this photo is far from what faces-128 knows"
    models = [{"name": name, "temperature": 0.9} for name in ("auto", "faces-128", "scenes-128")]
    page = visit()
    page.route(
        "**/api/v1/model", lambda route: route.fulfill(json=route.fetch().json() | {"name": "auto", "models": models})
    )

    def events(route):
        more = f'"models": [{{"model": "faces-128", "why": "a face was found"}}], "warnings": ["{notice}"]'
        body, count = re.subn(r'"models": \[[^]]*\]', more, route.fetch().text())
        assert count == 1
        route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/events", events)
    page.reload()
    open_photo(page)
    menu(page, "#centre")
    assert page.locator("#model-choice option").all_inner_texts() == ["Automatic", "faces-128", "scenes-128"]
    fill(page, 1)
    expect(page.locator(".round > .note")).to_have_text("This photo is far from what faces-128 knows.")
    page.locator(".pick").click()
    page.click("#caption")
    expect(page.locator("#details")).to_contain_text("faces-128: a face was found")


def test_what_the_server_forgot_is_drawn_again(visit):
    page = open_photo(visit())
    menu(page, "#centre")
    with page.expect_response("**/api/v1/jobs") as answer:
        fill(page, 2)
    page.evaluate("(id) => fetch(`/api/v1/jobs/${id}`, { method: 'DELETE' })", answer.value.json()["id"])
    page.click(".round:first-child .grid")
    expect(page.locator(".round > .error")).to_contain_text("has forgotten")
    view(page, 2)
    fill(page, 2)


@pytest.fixture
def own_models():
    """A server as it starts without options."""
    yield from serve()


@pytest.mark.slow
def test_with_the_bundled_models_the_page_says_which_fills_and_why(visit, own_models, tmp_path):
    page = open_photo(visit(own_models))
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
    page.select_option("#model-choice", "scenes-128")
    page.click("#leave")
    fill(page, 1)
    expect(page.locator(".round").first.locator(".note")).to_contain_text("the hole meets a face")
    Image.effect_noise((128, 128), 60).save(tmp_path / "noise.png")
    page.set_input_files("#photo-file", tmp_path / "noise.png")
    expect(page.locator("#canvas")).to_have_attribute("aria-label", "noise.png and its hole")
    menu(page, "#centre")
    page.select_option("#model-choice", "faces-128")
    fill(page, 1)
    expect(page.locator(".round").first.locator(".note")).to_contain_text("no face is near the hole")
