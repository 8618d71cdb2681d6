"""The page with many variations: looking at them, choosing, comparing, and losing nothing."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from browsing import EXAMPLES, drag, fill, hole, menu, on_canvas, open_photo, picture, pixels, saved, seed, view
from PIL import Image

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'manifill[serve]'")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'manifill[dev]'")
expect, pytest_plugins = api.expect, ["page_fixtures"]


def filled(page, count: int = 3):
    """Fill the middle of the example."""
    open_photo(page)
    menu(page, "#centre")
    page.mouse.move(1, 1)
    fill(page, count)
    return page


def shown(page) -> str:
    return page.inner_text("#caption")


def test_from_one_to_the_next(visit):
    page = filled(visit())
    view(page, 2)
    assert shown(page) == "Variation 2, 2 of 3"
    for key, expected in (("ArrowRight", "3 of 3"), ("ArrowRight", "3 of 3"), ("ArrowLeft", "2 of 3")):
        page.keyboard.press(key)
        assert expected in shown(page)
    page.click("#previous")
    assert "1 of 3" in shown(page)
    expect(page.locator("#previous")).to_be_disabled()
    page.keyboard.press("f")
    expect(page.locator("#full")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.fullscreenElement.id") == "work"
    page.keyboard.press("ArrowRight")
    assert "2 of 3" in shown(page)
    page.keyboard.press("f")
    expect(page.locator("#full")).to_have_attribute("aria-pressed", "false")


def test_choosing_discarding_and_undoing(visit):
    page = filled(visit())
    view(page, 2)
    page.keyboard.press("s")
    expect(page.locator("#star")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#download")).to_have_text("Download 1 chosen")
    page.click("#only-chosen")
    expect(page.locator(".tile:visible")).to_have_count(1)
    page.click("#only-chosen")
    page.keyboard.press("Delete")
    assert shown(page) == "Variation 3, 2 of 2"
    expect(page.locator("#toast")).to_contain_text("Variation 2 discarded")
    expect(page.locator(".tile:visible")).to_have_count(2)
    page.keyboard.press("Control+z")
    expect(page.locator(".tile:visible")).to_have_count(3)
    page.keyboard.press("Escape")
    page.click(".round .remove")
    expect(page.locator("#gallery")).to_be_hidden()
    page.click("#restore")
    expect(page.locator(".tile:visible")).to_have_count(3)
    view(page, 2)
    chosen = picture(saved(page, "#save"))
    assert np.array_equal(chosen, picture(saved(page, "#download")))


def test_comparing_by_slider_and_side_by_side(visit):
    page = filled(visit())
    view(page, 1)
    alone = pixels(page)
    page.keyboard.press("d")
    expect(page.locator("#slider")).to_have_attribute("aria-pressed", "true")
    half = pixels(page)
    page.locator("#divider").fill("0")
    left = pixels(page)
    assert len({alone, half, left}) == 3
    page.mouse.move(*on_canvas(page, 1, 30))
    page.mouse.down()
    page.mouse.move(*on_canvas(page, 64, 30))
    page.mouse.up()
    page.mouse.move(1, 1)
    assert pixels(page) not in (alone, left)
    page.keyboard.press("a")
    expect(page.locator("#name-b")).to_have_text("Photo")
    with_photo = pixels(page)
    page.get_by_role("button", name="Variation 3. Show it large").click(modifiers=["Shift"])
    expect(page.locator("#name-b")).to_have_text("Variation 3")
    assert pixels(page) != with_photo
    page.select_option("#against", "Variation 2")
    expect(page.locator("#name-b")).to_have_text("Variation 2")
    page.keyboard.press("ArrowRight")  # the same one is not beside itself
    expect(page.locator("#name-a")).to_have_text("Variation 2")
    expect(page.locator("#name-b")).to_have_text("Photo")
    page.keyboard.press("+")
    data = page.evaluate(
        """() => {
        const canvas = document.getElementById("canvas");
        const half = canvas.width / 2, at = (x) => canvas.getContext("2d").getImageData(x, 20, half - 80, 40).data;
        return [Array.from(at(40)), Array.from(at(half + 43))];
    }"""
    )
    first, second = (np.array(side, float) for side in data)
    assert np.abs(first - second).mean() < 12  # outside the hole both panes show the same part of the photo
    page.keyboard.press("a")
    expect(page.locator("#against")).to_be_hidden()


def test_a_finger_swipes_to_the_next(visit):
    page = filled(visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True), 2)
    page.locator(".pick").first.tap()
    page.wait_for_selector("#work[data-mode=view]")  # the click follows the tap
    client = page.context.new_cdp_session(page)
    (x, y), far = on_canvas(page, 90, 64), on_canvas(page, 20, 64)[0]
    for kind, points in (("Start", [x]), ("Move", [(x + far) / 2]), ("Move", [far]), ("End", [])):
        touches = [{"x": at, "y": y} for at in points]
        client.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})
    expect(page.locator("#caption")).to_have_text("Variation 2, 2 of 2")
    expect(page.locator("#badge")).to_be_hidden()


def test_leaving_with_results_is_asked_about(visit):
    page, questions = filled(visit(), 1), []
    page.on("dialog", lambda question: (questions.append(question.type), question.dismiss()))
    page.click("#work")  # a page that was never touched may not ask
    with page.expect_event("dialog"):
        page.evaluate("location.reload()")
    assert questions == ["beforeunload"]
    expect(page.locator(".tile")).to_have_count(1)
    saved(page, ".tile .save")
    with page.expect_navigation():
        page.evaluate("location.reload()")
    assert questions == ["beforeunload"]


def test_a_session_is_saved_and_opened_again(visit, tmp_path):
    page = filled(visit(), 2)
    view(page, 2)
    page.keyboard.press("s")
    made = [picture(saved(page, f".tile:nth-child({k}) .save")) for k in (1, 2)]
    number = seed(page)
    page.locator("#count").fill("1")
    page.click("#start")
    page.wait_for_selector(".round:nth-child(2)")
    page.wait_for_selector("#start:visible")
    with page.expect_download() as download:
        menu(page, "#save-session")
    path = tmp_path / "session.zip"
    download.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        session = json.loads(archive.read("session.json"))
        assert archive.read(session["photos"][0]["file"]) == (EXAMPLES / "astronaut.png").read_bytes()
    assert [tile["seed"] for tile in session["rounds"][0]["tiles"]] == [number - 1, number]

    page = visit()
    page.set_input_files("#session-file", path)
    page.wait_for_selector("#work[data-mode=paint]")
    expect(page.locator(".tile[data-state=done]")).to_have_count(3)
    expect(page.locator("#download")).to_have_text("Download 1 chosen")
    assert hole(page).sum() == 64 * 64
    for k in (1, 2):  # the server that made them is asked to make them again
        assert np.array_equal(made[k - 1], picture(saved(page, f".round:last-child .tile:nth-child({k}) .save")))
    (tmp_path / "other.zip").write_bytes(b"PK, but no archive" * 9)
    page.set_input_files("#session-file", tmp_path / "other.zip")
    expect(page.locator("#photo-error")).to_contain_text("other.zip is not a session")


def test_downloads_have_the_photos_own_format(visit, face, tmp_path):
    Image.fromarray(face).save(tmp_path / "face.jpg", quality=92)
    page = open_photo(visit(), tmp_path / "face.jpg")
    menu(page, "#centre")
    fill(page, 2)
    with page.expect_download() as download:
        page.locator(".tile .save").first.click()
    assert download.value.suggested_filename == "face_01.jpg"
    with zipfile.ZipFile(io.BytesIO(saved(page, "#download"))) as archive:
        assert {Image.open(archive.open(name)).format for name in archive.namelist()} == {"JPEG"}
    page.click("#open-settings")
    page.select_option("#format", "png")
    page.keyboard.press("Escape")
    view(page, 1)
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    assert download.value.suggested_filename == "face_01.png"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("Control+c")
    expect(page.locator("#toast")).to_contain_text("Variation 1 copied")
    copied = page.evaluate("async () => (await navigator.clipboard.read())[0].types")
    assert copied == ["image/png"]


def test_the_picture_is_extended(visit, face):
    page = open_photo(visit())
    page.keyboard.press("x")
    page.locator("#canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.keyboard.press("b")
    assert hole(page).shape == (136, 144)
    expected = np.ones((136, 144), bool)
    expected[8:, :128] = False
    assert np.array_equal(hole(page), expected)
    fill(page, 1)
    result = picture(saved(page, ".tile .save"))
    assert np.array_equal(result[8:, :128], face)
    assert result[:8].std() > 1
    page.keyboard.press("Control+z")
    assert hole(page).shape == (128, 128)
    page.click("[data-tool=extend]")
    box = page.locator("#canvas").bounding_box()
    middle, scale = box["y"] + box["height"] / 2, (min(box["width"], box["height"]) - 24) / 128 / 1.5
    right = box["x"] + box["width"] / 2 + 64 * scale
    page.mouse.move(right, middle)
    page.mouse.down()
    page.mouse.move(right + 200 * scale, middle, steps=4)
    expect(page.locator("#hint")).to_have_text("192 x 128")  # half of it is the most
    page.mouse.up()
    page.keyboard.press("b")
    assert hole(page).shape == (128, 192)


def test_masks_are_united_and_odd_ones_are_named(visit, tmp_path):
    page = open_photo(visit())
    for name, box in (("a", (10, 10, 30, 30)), ("b", (90, 80, 120, 100))):
        mask = Image.new("L", (128, 128))
        mask.paste(255, box)
        mask.save(tmp_path / f"{name}.png")
    page.set_input_files("#mask-file", [tmp_path / "a.png", tmp_path / "b.png"])
    expect(page.locator("#live")).to_contain_text("%")
    assert hole(page).sum() == 20 * 20 + 30 * 20
    grey = Image.new("L", (128, 64), 100)
    grey.paste(200, (0, 0, 64, 32))
    grey.save(tmp_path / "grey.png")
    page.set_input_files("#mask-file", tmp_path / "grey.png")
    expect(page.locator("#mask-note")).to_contain_text("grey.png: the mask has grey values; lighter than half is taken")
    expect(page.locator("#mask-note")).to_contain_text("mask of 128x64 pixels, another shape than the photo's 128x128")
    drag(page, (100, 100), (110, 110))
    expect(page.locator("#mask-note")).to_be_hidden()
