"""Odd files, masks and folders as people bring them: `python benchmarks/cases.py FOLDER` prints a line a case.

FOLDER holds the cases' files and `make_trees.py`. Each case says what should come of it: completed rightly, or refused
in one sentence with exit code 2. The page's case runs its tests, which need playwright and a browser.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import hostile
import numpy as np
from PIL import Image
from place import CASES, Place, case, changed, expect, fills, refused


@case(1)
def _(place: Place) -> str:
    return fills(place, "photo.png", "mask_alpha_white.png", opaque(place, "mask_alpha_white.png"))


@case(2)
def _(place: Place) -> str:
    return fills(place, "photo.png", "mask_alpha_black.png", opaque(place, "mask_alpha_black.png"), "opacity")


def opaque(place: Place, name: str) -> np.ndarray:
    """Return where a mask is opaque."""
    return np.asarray(Image.open(place.cases / name).convert("RGBA"))[..., 3] > 127


@case(3)
def _(place: Place) -> str:
    found = []
    for name in ("mask_red.png", "mask_voc_palette.png"):
        painted = np.asarray(Image.open(place.cases / name).convert("RGB")).max(2) > 0
        found.append(fills(place, "photo.png", name, painted, "values"))
    red = np.asarray(Image.open(place.cases / "mask_red.png").convert("RGB"))
    holes = []
    for turn in range(3):
        path = place.work / f"colour{turn}.png"
        Image.fromarray(np.roll(red, turn, 2)).save(path)
        holes.append(changed(place.run("photo.png", path), np.asarray(Image.open(place.cases / "photo.png"))))
    expect(all(np.array_equal(holes[0], other) for other in holes), "red, green and blue differ")
    return "; ".join(found) + "; red, green and blue the same"


@case(4)
def _(place: Place) -> str:
    import tifffile

    hole = place.hole("mask.png")
    for name in ("t_planar16.tif", "t_planar16_deflate.tif"):
        done = place.run(name, "mask.png", "--format", "tiff")
        expect(done.code == 0, done.said)
        own, found = (tifffile.imread(p) for p in (place.cases / name, next(done.out.glob("*_000.tif"))))
        own = np.moveaxis(own, 0, 2)
        expect(found.dtype == np.uint16 and np.array_equal(found[~hole], own[~hole]), f"{name}: other known pixels")
    return "16 bits, known pixels are the file's by tifffile"


@case(5)
def _(place: Place) -> str:
    files = []
    for mask in ("mask_o6_stored.png", "mask_o6_upright.png"):
        done = place.run("photo_o6.jpg", mask)
        if done.code == 2:
            return "refused: " + refused(done)[-60:]
        files.append(next(done.out.glob("*_000.png")).read_bytes())
    expect(files[0] == files[1], "the two masks lead to different holes")
    return "both masks fill the same hole"


@case(6)
def _(place: Place) -> str:
    return "the page's " + hostile.tested("web/test_page_photos.py")


@case(7)
def _(place: Place) -> str:
    large, small = place.hole("mask_thin_large.png"), place.hole("mask.png")
    h, w = small.shape
    expect(large.shape == (4 * h, 4 * w), "another size")
    return fills(place, "photo.png", "mask_thin_large.png", large.reshape(h, 4, w, 4).any((1, 3)))


@case(8)
def _(place: Place) -> str:
    name = "photo_pal_trns_long.png"
    done = place.run(name, "mask.png")
    alone = "completed" if done.code == 0 else refused(done)
    folder = place.work / "three"
    folder.mkdir()
    for other, source in (("a.png", "photo.png"), ("m.png", name), ("z.png", "photo.png")):
        (folder / other).write_bytes((place.cases / source).read_bytes())
    done = place.run(folder, "mask.png")
    expect(done.code in (0, 1), f"code {done.code}")
    expect({"a_000.png", "z_000.png"} <= {p.name for p in done.out.iterdir()}, "the others are not done")
    status = asked_of_the_api(place, name, "mask.png")
    expect(status in (200, 400), f"the API answers {status}")
    return f"alone {alone}, in a folder {done.code}, by the API {status}"


def asked_of_the_api(place: Place, photo: str, mask: str) -> int:
    """Return the status with which the API answers."""
    from fastapi.testclient import TestClient

    from manifill import Inpainter
    from manifill.web.app import create_app
    from manifill.web.limits import Limits
    from manifill.web.security import Access

    app = create_app([Inpainter.from_pretrained(place.model, "cpu")], Limits(), Access())
    files = {"photo": (place.cases / photo).read_bytes(), "mask": (place.cases / mask).read_bytes()}
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        return client.post("/api/v1/inpaint", files={k: (k, v) for k, v in files.items()}).status_code


def all_done(place: Place, tree: str, wanted: int, code: int, *words: str, **environment: str) -> str:
    """Check how many photos of a folder are done, and what is said of the others."""
    done = place.run(place.work / "trees" / tree, "mask.png", "-n", "2", **environment)
    files = {p.name for p in done.out.iterdir() if "_00" in p.name}
    expect(done.code == code, f"code {done.code}: {done.said[-300:]}")
    expect(len(files) == 2 * wanted, f"{len(files)} files in place of {2 * wanted}")
    said = done.printed + done.said
    expect(all(word in said for word in words), f"nothing is said of {words}: {said[-300:]}")
    lines = (done.out / "manifest.jsonl").read_bytes().splitlines()
    expect(len(lines) == 2 * wanted and all(json.loads(line) for line in lines), f"{len(lines)} lines in the manifest")
    return f"{wanted} photos done, exit code {code}"


@case(9)
def _(place: Place) -> str:
    return "; ".join(all_done(place, tree, 2, 1, "1 failed", "failed: ") for tree in ("long", "long_wide"))


@case(10)
def _(place: Place) -> str:
    strict = all_done(place, "bytes", 3, 0, "\\udce9", PYTHONIOENCODING="utf-8:strict")
    return strict + "; " + all_done(place, "emoji", 3, 0, "\\U0001f600", PYTHONIOENCODING="ascii")


@case(11)
def _(place: Place) -> str:
    hole = place.hole("scratches_mask.png")
    done = place.run("scratches.jpg", "scratches_mask.png")
    expect(done.code == 0, done.said)
    photo, original = (cv2.imread(str(place.cases / name)) for name in ("scratches.jpg", "scratches_original.jpg"))
    telea = cv2.inpaint(photo, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    ours = cv2.imread(str(next(done.out.glob("*_000.*"))))
    found, wanted = (
        10 * np.log10(255**2 / np.square(picture[hole].astype(float) - original[hole]).mean())
        for picture in (ours, telea)
    )
    expect(found > wanted - 0.5, f"{found:.1f} dB, Telea {wanted:.1f}")
    return f"{found:.1f} dB, Telea {wanted:.1f}"


@case(12)
def _(place: Place) -> str:
    return fills(place, "photo_ztxt_1m5.png", "mask.png", place.hole("mask.png"))


@case(13)
def _(place: Place) -> str:
    done = place.run("list/with_mark.txt", None)
    expect(done.code == 0 and len(list(done.out.glob("*_000.png"))) == 1, done.said)
    return "completed"


@case(14)
def _(place: Place) -> str:
    done = place.run("list/two_folders.txt", None)
    found = sorted(p.relative_to(done.out).as_posix() for p in done.out.rglob("*_000.png"))
    expect(done.code == 0 and found == ["a/1_000.png", "b/1_000.png"], f"{found} {done.said}")
    return ", ".join(found)


@case(15)
def _(place: Place) -> str:
    done = place.run("photo_alpha_soft.png", None)
    expect(done.code == 0, done.said)
    alpha = np.asarray(Image.open(next(done.out.glob("*_000.png"))))[..., 3]
    partly = int(((alpha > 0) & (alpha < 250)).sum())
    expect(partly == 0, f"{partly} pixels are half transparent")
    expect("partly transparent pixels" in done.said, "nothing is said of the ring")
    return "no half-transparent ring; " + done.said.split(": ")[-1].strip()[:60]


@case(16)
def _(place: Place) -> str:
    name = "photo_gama.png"
    text = fills(place, name, "mask.png", place.hole("mask.png"))
    with (
        Image.open(place.cases / name) as own,
        Image.open(next((place.work / f"out{place.count}").glob("*_000.*"))) as new,
    ):
        expect(own.info["gamma"] == new.info.get("gamma"), f"gamma {new.info.get('gamma')}")
        return f"{text}, gamma {new.info['gamma']}"


@case(17)
def _(place: Place) -> str:
    done = place.run(place.work / "trees" / "suffixes", "mask.png")
    expect(done.code == 0, done.said)
    found = {p.name.partition("_")[0] for p in done.out.glob("*_000.png")}
    expect(all(n in found or f"{n}." in done.printed or f"/{n}" in done.printed for n in "abcdef"), f"{found}")
    return f"{len(found)} done, {6 - len(found)} named as left out"


@case(18)
def _(place: Place) -> str:
    folder, out = place.work / "trees" / "many", place.work / "both"
    runs = [place.start(folder, "mask.png", "--skip-existing", out=out)[0] for _ in range(2)]
    said = [run.communicate(timeout=600)[1].decode() for run in runs]
    codes = sorted(run.returncode for run in runs)
    expect(codes in ([0, 0], [0, 2]), f"exit codes {codes}: {said}")
    files = sorted(out.glob("*_000.png"))
    for path in files:
        Image.open(path).load()
    lines = [json.loads(line)["file"] for line in (out / "manifest.jsonl").read_text().splitlines()]
    expect(len(files) == 24 and sorted(lines) == [p.name for p in files], f"{len(files)} files, {len(lines)} lines")
    expect(not list(out.rglob("*.part")), "something is half written")
    return (
        "both end with 0"
        if codes == [0, 0]
        else "the second is refused: " + next(s for s in said if "another" in s)[-99:]
    )


@case(19)
def _(place: Place) -> str:
    from manifill import Inpainter

    inpainter = Inpainter.from_pretrained(place.model, "cpu")
    photo, mask = place.cases / "photo.png", place.cases / "mask.png"
    first = next(iter(inpainter(photo, mask, num_samples=1, seed=0))).samples
    for other in (pickle.loads(pickle.dumps(inpainter)), copy.deepcopy(inpainter)):
        again = next(iter(other(photo, mask, num_samples=1, seed=0))).samples
        expect(np.array_equal(first, again), "the copy draws another completion")
    return "copies draw the same"


@case(20)
def _(place: Place) -> str:
    import torch

    from manifill import ImageError, Inpainter

    inpainter = Inpainter.from_pretrained(place.model, "cpu")
    data, mask = (place.cases / "photo.png").read_bytes(), place.cases / "mask.png"
    array = np.asarray(Image.open(io.BytesIO(data)))
    given = {"BytesIO": io.BytesIO(data), "bytes": data, "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1)}
    results = []
    for kind, photo in given.items():
        try:
            results.append(next(iter(inpainter(photo, mask, num_samples=1, seed=0))).samples)
        except ImageError as error:
            expect("expected" in str(error), f"{kind}: {error}")
    expect(all(np.array_equal(results[0], other) for other in results), "they differ")
    return f"{len(results)} of {len(given)} completed, the same"


def main(arguments: Sequence[str]) -> int:
    """Run all cases, or those whose numbers are given."""
    cases, numbers = Path(arguments[0]).resolve(), [int(n) for n in arguments[1:]] or sorted(CASES)
    failed = 0
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(cases, Path(folder))
        subprocess.run([sys.executable, cases / "make_trees.py", place.work / "trees"], check=True)
        for number in numbers:
            try:
                print(f"{number:2d} ok    {CASES[number](place)}", flush=True)
            except Exception as error:
                failed += 1
                print(f"{number:2d} WRONG {type(error).__name__}: {error}", flush=True)
    print(f"{len(numbers) - failed} of {len(numbers)} cases as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
