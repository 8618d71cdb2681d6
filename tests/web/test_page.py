"""The page in a real browser, headless, against a real server: what it does."""

from __future__ import annotations

import io
import zipfile
from base64 import b64decode

import numpy as np
import pytest
from browsing import EXAMPLES, drag, fill, hole, menu, on_canvas, open_photo, picture, pixels, saved, seed, view
from PIL import Image
from serving import until

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'manifill[serve]'")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'manifill[dev]'")
expect, pytest_plugins = api.expect, ["page_fixtures"]

SENT = """() => {
    const real = XMLHttpRequest.prototype.send;
    XMLHttpRequest.prototype.send = function (body) {
        window.sent = Object.fromEntries(body);
        return real.call(this, body);
    };
}"""  # keeps the newest form that was sent in window.sent


def test_one_click_gives_many_completions_structures_first(visit, face):
    page, posts = visit(), []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    open_photo(page)
    drag(page, (50, 50), (80, 52), (80, 80), (50, 80))
    mask = hole(page)
    assert posts == []  # the photo stays here until it is to be filled
    assert 0.02 < mask.mean() < 0.5
    assert mask[51, 60]
    page.evaluate("""() => {
        window.seen = [];
        const structures = () => seen.filter(([state]) => state === "structure").length;
        const real = window.fetch;
        const late = (url) => String(url).includes("/patch.png") && structures() < 4;
        window.fetch = async (...request) => {  // a completion may overtake a structure on a busy machine; not here
            while (late(request[0])) await new Promise((go) => setTimeout(go, 5));
            return real(...request);
        };
        const look = ({ target }) => [target.dataset.state, target.querySelector("canvas").toDataURL()];
        new MutationObserver((all) => seen.push(...all.map(look))).observe(
            document.getElementById("rounds"), { subtree: true, attributeFilter: ["data-state"] });
    }""")
    fill(page, 4)
    seen = page.evaluate("window.seen")
    states = [state for state, _ in seen]
    assert states.count("structure") == states.count("done") == 4
    assert states.index("structure") < states.index("done")
    structure, done = (
        picture(b64decode(dict(reversed(seen))[state].partition(",")[2])) for state in ("structure", "done")
    )
    assert np.array_equal(structure[:60, :60], done[:60, :60])  # around the hole both show the photo
    assert np.abs(structure[200:360, 200:360].astype(int) - done[200:360, 200:360]).mean() > 1
    results = [picture(saved(page, f".tile:nth-child({k}) .save")) for k in range(1, 5)]
    for result in results:
        assert np.array_equal(result[~mask], face[~mask])
    assert len({result.tobytes() for result in results}) == 4
    view(page, 2)
    second = seed(page)
    page.keyboard.press("ArrowRight")
    assert seed(page) == second + 1


def test_a_seed_is_used_again(visit):
    page = open_photo(visit())
    menu(page, "#centre")
    fill(page, 2)
    second = picture(saved(page, ".tile:nth-child(2) .save"))
    view(page, 2)
    page.click("#caption")
    page.click("#details button")
    page.keyboard.press("Escape")
    page.click("#leave")
    fill(page, 1)
    assert np.array_equal(second, picture(saved(page, ".round:first-child .save")))


def test_tools_undo_and_redo(visit):
    page = open_photo(visit())
    empty = hole(page)
    assert not empty.any()
    page.keyboard.press("r")
    drag(page, (20, 30), (60, 70))
    rectangle = hole(page)
    assert rectangle[30:70, 20:60].all()
    assert rectangle.sum() == 40 * 40
    page.keyboard.press("e")
    drag(page, (40, 50), (40, 50))
    erased = hole(page)
    assert (erased < rectangle).any()
    assert not (erased > rectangle).any()
    page.keyboard.press("l")
    drag(page, (80, 80), (110, 80), (110, 110), (80, 110))
    assert hole(page)[95, 95]
    menu(page, "#invert")
    inverted = hole(page)
    assert not inverted[95, 95]
    for _ in range(2):
        page.keyboard.press("Control+z")
    assert np.array_equal(hole(page), erased)
    page.click("#undo")
    assert np.array_equal(hole(page), rectangle)
    page.keyboard.press("Control+z")
    assert np.array_equal(hole(page), empty)
    expect(page.locator("#undo")).to_be_disabled()
    for _ in range(4):
        page.keyboard.press("Shift+Control+z")
    assert np.array_equal(hole(page), inverted)
    expect(page.locator("#redo")).to_be_disabled()
    menu(page, "#clear")
    assert not hole(page).any()


def test_brush_size_zoom_and_giving_up_a_stroke(visit):
    page = open_photo(visit())
    before = page.inner_text("#size-text")
    page.locator("#canvas").focus()
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert int(page.inner_text("#size-text").split()[0]) > int(before.split()[0])
    page.mouse.move(*on_canvas(page, 64, 64))
    page.mouse.down()
    page.mouse.move(*on_canvas(page, 90, 64))
    page.keyboard.press("Escape")
    page.mouse.up()
    assert not hole(page).any()
    whole = pixels(page)
    page.mouse.move(*on_canvas(page, 30, 64))
    for _ in range(4):
        page.mouse.wheel(0, -200)
    page.mouse.down()
    page.mouse.up()
    rows, columns = np.nonzero(hole(page))
    assert abs(columns.mean() - 30) < 2
    assert abs(rows.mean() - 64) < 2
    page.keyboard.press("Control+z")
    page.mouse.move(*on_canvas(page, 64, 64))
    page.keyboard.down("Space")
    drag(page, (64, 64), (20, 64))
    page.keyboard.up("Space")
    assert not hole(page).any()
    page.mouse.move(1, 1)
    page.keyboard.press("0")
    assert pixels(page) == whole


def test_a_mask_file_at_another_size_and_a_transparent_photo(visit, face, tmp_path):
    page = open_photo(visit())
    page.set_input_files("#mask-file", EXAMPLES / "centre.png")
    expected = np.asarray(Image.open(EXAMPLES / "centre.png")) > 127
    expect(page.locator("#live")).to_contain_text("25 %")
    assert np.array_equal(hole(page), expected)
    Image.fromarray((expected[::4, ::4] * 255).astype(np.uint8)).save(tmp_path / "small.png")
    menu(page, "#clear")
    page.set_input_files("#mask-file", tmp_path / "small.png")
    expect(page.locator("#live")).to_contain_text("25 %")
    assert np.array_equal(hole(page), expected)
    rgba = np.dstack([face, np.where(expected, 0, 255).astype(np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    page.set_input_files("#photo-file", tmp_path / "clear.png")
    expect(page.locator("#live")).to_contain_text("transparent")
    assert np.array_equal(hole(page), expected)


def test_a_photo_is_turned_as_the_server_turns_it(visit, face, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(face[:96]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    page = open_photo(visit(), tmp_path / "turned.jpg")
    menu(page, "#centre")
    assert hole(page).shape == (128, 96)
    fill(page, 1)
    assert picture(saved(page, ".tile .save")).shape == (128, 96, 3)


def test_pick_compare_redraw_more_like_this_and_use(visit, face):
    page = open_photo(visit())
    menu(page, "#centre")
    original = hole(page)
    page.mouse.move(1, 1)
    fill(page, 2)
    view(page, 2)
    picked = picture(saved(page, "#save"))

    shown = pixels(page)
    page.mouse.move(*on_canvas(page, 64, 64))
    page.mouse.down()
    expect(page.locator("#badge")).to_be_visible()
    held = pixels(page)
    page.mouse.up()
    expect(page.locator("#badge")).to_be_hidden()
    assert held != shown == pixels(page)
    page.keyboard.down("c")
    assert pixels(page) == held
    page.keyboard.up("c")
    assert pixels(page) == shown

    page.click("#part")
    page.keyboard.press("r")
    drag(page, (20, 70), (110, 110))
    fill(page, 2)
    for k in (1, 2):
        redrawn = picture(saved(page, f".round:first-child .tile:nth-child({k}) .save"))
        part = np.zeros_like(original)
        part[69:97, 32:96] = True
        assert np.array_equal(redrawn[~part], picked[~part])
        assert (redrawn[part] != picked[part]).any()
    page.keyboard.press("Escape")
    page.wait_for_selector("#work[data-mode=view]")

    page.locator("#amount").fill("0.05")
    fill(page, 2)
    close = picture(saved(page, ".round:first-child .save"))
    assert np.array_equal(close[~original], face[~original])
    assert "2 more like Variation 2" in page.inner_text(".round:first-child h4")

    page.click("#use")
    page.wait_for_selector("#work[data-mode=paint]")
    assert not hole(page).any()
    page.keyboard.press("Control+z")
    assert np.array_equal(hole(page), original)
    page.keyboard.press("Shift+Control+z")
    assert not hole(page).any()


def test_press_and_hold_a_tile_to_compare(visit):
    page = open_photo(visit())
    menu(page, "#centre")
    fill(page, 1)
    look = "() => document.querySelector('.tile canvas').toDataURL()"
    before = page.evaluate(look)
    page.locator(".pick").hover()
    page.mouse.down()
    expect(page.locator(".tile .mark")).to_have_text("original")
    assert page.evaluate(look) != before
    page.mouse.up()
    expect(page.locator(".tile .mark")).to_be_hidden()
    assert page.evaluate(look) == before
    expect(page.locator("#work")).to_have_attribute("data-mode", "paint")


def test_zip_and_grid(visit):
    page = open_photo(visit())
    menu(page, "#centre")
    fill(page, 3)
    with zipfile.ZipFile(io.BytesIO(saved(page, "#download"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"astronaut_0{k}.png" for k in (1, 2, 3)]
        made = picture(archive.read("astronaut_01.png"))
    assert np.array_equal(made, picture(saved(page, ".tile .save")))
    assert picture(saved(page, ".grid")).shape[0] > 128


def test_an_untouched_page_leaves_how_to_draw_to_the_model(visit):
    """Also where its temperature lies between two of the slider's steps, which would draw other codes."""
    page = visit()
    page.route("**/api/v1/model", lambda route: route.fulfill(json=route.fetch().json() | {"temperature": 1.0849}))
    page.reload()
    open_photo(page)
    menu(page, "#centre")
    page.click("#open-settings")
    page.fill("#seed", "7")
    page.evaluate(SENT)
    fill(page, 1)
    sent = page.evaluate("window.sent")
    assert {name: sent[name] for name in sent if name not in ("photo", "mask")} == {"num_samples": "1", "seed": "7"}
    page.locator("#temperature").fill("1.2")
    fill(page, 1)
    assert page.evaluate("window.sent.temperature") == "1.2"


def test_what_is_set_before_the_server_has_answered_stays(visit):
    page, held = visit(), []
    page.route("**/api/v1/model", lambda route: held.append(route))
    page.reload(wait_until="domcontentloaded")
    page.locator("#temperature").evaluate("(slider) => { slider.value = 1.2; }")
    held[0].continue_()
    expect(page.locator("#model")).to_contain_text("Many ways to fill a hole")
    page.wait_for_selector("#samples button")
    assert page.locator("#temperature").input_value() == "1.2"


def test_choosing_and_settings_reach_the_server(visit):
    page = open_photo(visit())
    menu(page, "#centre")
    page.click("#open-settings")
    page.select_option("#choose", "likely")
    page.fill("#of", "5")
    page.fill("#seed", "40")
    page.locator("#temperature").fill("0.5")
    page.fill("#feather", "3")
    page.evaluate(SENT)
    fill(page, 2)
    sent = {name: value for name, value in page.evaluate("window.sent").items() if name not in ("photo", "mask")}
    asked = {"num_samples": 2, "of": 5, "choose": "likely", "seed": 40, "temperature": 0.5, "feather": 3}
    assert sent == {name: str(value) for name, value in asked.items()}
    for number in (1, 2):
        view(page, number)
        assert seed(page) in range(40, 45)
    page.keyboard.press("Escape")
    page.click("#open-settings")
    page.fill("#of", "1")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#of-error")).to_contain_text("whole number from 2")
    page.fill("#seed", "seven")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#seed-error")).to_contain_text("whole number")


def test_cancelling_and_leaving_stop_the_work(visit, address):
    page = open_photo(visit())
    page.route("**/patch.png", lambda route: None)  # the page waits for its pictures for ever
    menu(page, "#centre")

    def begun() -> str:
        with page.expect_response("**/api/v1/jobs") as answer:
            page.click("#start")
        page.wait_for_selector(".round:first-child .tile[data-state=structure]")
        return answer.value.json()["id"]

    def forgotten(job: str) -> bool:
        answer = page.request.get(f"{address}api/v1/jobs/{job}/completions/0.png")
        return answer.status == 404 and "no such job" in answer.json()["error"]

    job = begun()
    assert not forgotten(job)
    with page.expect_event("requestfinished", lambda request: request.method == "DELETE"):
        page.locator("#canvas").focus()
        page.keyboard.press("Escape")
    expect(page.locator("#progress-text")).to_contain_text("Cancelled")
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator(".tile[data-state=none]").first).to_be_hidden()
    assert forgotten(job)
    job = begun()
    assert not forgotten(job)
    page.on("dialog", lambda question: question.accept())
    page.evaluate("""() => {
        const real = window.fetch;
        window.fetch = (url, options) => {
            sessionStorage.setItem("asked", `${options.method} ${url}`);
            return real(url, options);
        };
    }""")
    page.goto(page.url + "health")
    assert page.evaluate("sessionStorage.getItem('asked')") == f"DELETE {address}api/v1/jobs/{job}"
    until(lambda: forgotten(job))
