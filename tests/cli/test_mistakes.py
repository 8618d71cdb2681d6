"""Help that a newcomer reads, and mistakes told in one sentence before anything slow begins."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manifill import Inpainter, __version__, cli
from manifill.cli import extras
from manifill.config import ManifillWarning

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTO, MASK = "astronaut.png", "centre.png"
# words of the command line, and of the one sentence that answers
MISTAKES = [
    ("inpant a.png", "inpant: no such verb; did you mean inpaint?"),
    ("photo.png mask.png", "photo.png: no such verb; expected inpaint, serve,"),
    (f"{PHOTO} {MASK}", f"no such verb; to fill a photo's hole: manifill inpaint {PHOTO} MASK -o FOLDER"),
    (f"inpaint nowhere.png {MASK} -o OUT", "nowhere.png: no such photo file"),
    (f"inpaint {PHOTO} nowhere.png -o OUT", "nowhere.png: no such mask file or folder"),
    (f"inpaint {PHOTO} {MASK} -o {MASK}", "centre.png: is a file; name a folder for the results"),
    (f"inpaint {PHOTO} {MASK} -o OUT/a.jpg", "a.jpg: named as a picture, but there are several results; name a folder"),
    (f"inpaint {MASK} {PHOTO} -o OUT", "centre.png looks like a mask and "),
    (f"inpaint {PHOTO} -o OUT", "astronaut.png"),
    (f"inpaint bad.tif {MASK} -o OUT", "bad.tif: "),  # of which a library logs something, too
    (
        f"inpaint {PHOTO} {MASK} -o OUT --model faces-129",
        "faces-129: no such model folder, nor a bundled model (",
    ),
    (f"inpaint {PHOTO} {MASK} -o OUT -n 0", "num_samples is 0; expected 1 or more"),
    (f"inpaint {PHOTO} {MASK} -o OUT --of 3", "of is 3; expected at least the 8 that are to be kept"),
    (f"inpaint {PHOTO} {MASK} -o OUT --seed -7", "seed is -7; expected 0 to "),
    (f"inpaint {PHOTO} {MASK} -o OUT --top-p 2", "top_p is 2.0; expected "),
    (f"inpaint {PHOTO} {MASK} -o OUT --quality 80", "quality is 80, but png is without loss; name another format"),
    (f"inpaint {PHOTO} {MASK} -o OUT --near {PHOTO}", "astronaut.png: no manifest.jsonl beside it or above says how"),
    ("evaluate --data nowhere --out OUT", "nowhere: no such file or folder"),
    ("ablate --data nowhere --lpips-alex absent.pth --out OUT", "absent.pth: no such file or folder"),
    ("evaluate --out OUT", "no pictures; name them with --data"),
    (f"evaluate --data {PHOTO} --shard 0/2 --report --out OUT", "they do not go with --shard and --merge"),
    (f"evaluate --data {PHOTO} --out {MASK}", "centre.png: is a file; name a folder for the results"),
    ("serve --model faces-129", "faces-129: no such model folder"),
    ("info faces-129", "faces-129: no such model folder"),
]
WITHOUT_PYTORCH = """
import sys


class Refused:  # an error that nothing here takes for a mistake
    def find_spec(self, name, *_):
        assert name != "torch"


sys.meta_path.insert(0, Refused())
from manifill import cli
for line in sys.stdin.read().splitlines():
    code = cli.main(line.split())
    print(f"{code}", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with a photo and a mask."""
    monkeypatch.chdir(tmp_path)
    for name in (PHOTO, MASK):
        shutil.copyfile(EXAMPLES / name, tmp_path / name)
    Path("bad.tif").write_bytes(b"II*\0" + struct.pack("<I", 6894) + bytes(100))


def test_mistakes_are_told_in_one_sentence_before_pytorch_is_loaded(tmp_path: Path) -> None:
    lines = "\n".join(words for words, _ in MISTAKES)
    command = [sys.executable, "-c", WITHOUT_PYTORCH]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()
    assert len(said) == 2 * len(MISTAKES), done.stderr
    for (words, expected), sentence, code in zip(MISTAKES, said[::2], said[1::2], strict=True):
        assert code == "2", words
        assert sentence.startswith("manifill: "), words
        assert expected in sentence, words
    assert {path.name for path in tmp_path.iterdir()} == {PHOTO, MASK, "bad.tif"}


def shown(capsys: pytest.CaptureFixture, *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_opens_with_what_it_does_and_three_examples(capsys: pytest.CaptureFixture) -> None:
    text = shown(capsys, "--help")
    opening = text.splitlines()[:8]
    assert opening[2] == "Fill the holes of photos, in many different ways."
    assert len([line for line in opening if line.startswith("  manifill ")]) == 3
    assert shown(capsys) == text  # without a word, too
    for flag in ("--version", "-V"):
        assert cli.main([flag]) == 0
        assert capsys.readouterr().out == f"manifill {__version__}\n"


@pytest.mark.parametrize("verb", [*cli.VERBS, "train all", "train report"])
def test_help_of_verbs_says_nothing_that_means_nothing(capsys: pytest.CaptureFixture, verb: str) -> None:
    text = " ".join(shown(capsys, *verb.split(), "--help").replace("│", " ").split())
    assert "None" not in text
    assert "(default: )" not in text
    assert text.count("(default: False)") == (verb == "evaluate")  # which leaves thin parts to the model


def test_options_of_inpaint_are_in_groups_and_those_beyond_the_paper_last(capsys: pytest.CaptureFixture) -> None:
    text = shown(capsys, "inpaint", "--help")
    assert "PHOTO [MASK]" in text.splitlines()[0]
    groups = ("sampling", "file", "folder", "machine", "fit", "beyond-the-paper")
    places = [text.index(f" {name} options ") for name in groups]
    assert places == sorted(places)


def test_a_folder_with_masks_beside_its_photos(
    tmp_path: Path, reference_model: Path, capsys: pytest.CaptureFixture
) -> None:
    """The mask is its photo's and not completed; a format by its other name; one of each in the singular."""
    Path("p").mkdir()
    shutil.copyfile(PHOTO, "p/a.png")
    shutil.copyfile(MASK, "p/a_mask.png")
    words = "inpaint p -n 1 --seed 7 --format jpg -o out --model"
    assert cli.main([*words.split(), str(reference_model)]) == 0
    assert "1 completion of 1 photo, 0 skipped, 0 failed, seed 7, in" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a_000.jpg", "a_grid.png", "manifest.jsonl"}
    (line,) = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    assert line["mask"].endswith("a_mask.png")


def test_a_photo_in_greys_and_its_mask_swapped(inpainter: Inpainter, face: np.ndarray) -> None:
    mask = Image.open(MASK)
    with pytest.raises(ValueError, match="photo looks like a mask and mask like a photo; expected the photo first"):
        inpainter(mask, Image.fromarray(face).convert("L"))
    drawing = Image.new("1", (64, 64), 1)
    drawing.paste(0, (8, 8, 20, 20))
    inpainter(drawing, mask, num_samples=1)  # a drawing in black and white is a photo as any


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA says so")
@pytest.mark.parametrize("name", ["cuda", "cuda:7", "gpu", "meta", "mps:9"])
def test_a_device_that_is_not_there(name: str, reference_model: Path, capsys: pytest.CaptureFixture) -> None:
    for model in (str(reference_model), "auto"):
        with pytest.raises(ValueError, match=f"device is '{name}'; expected auto, (mps, )?cpu"):
            Inpainter.from_pretrained(model, name)
    assert cli.main(["inpaint", PHOTO, MASK, "-o", "never", "--device", name]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert ("finds no CUDA GPU" in sentence) == name.startswith("cuda")


def test_warnings_of_libraries_do_not_leak(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def verb() -> int:
        warnings.warn("do not use this function", FutureWarning, stacklevel=1)
        warnings.warn("not writable, which PyTorch does not support", UserWarning, stacklevel=2)
        warnings.warn("the mask is\ngrey", ManifillWarning, stacklevel=1)
        return 0

    monkeypatch.setattr("manifill.cli.inpaint.info", verb)
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["info"]) == 0
    assert capsys.readouterr().err == "manifill: warning: the mask is\\ngrey\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            f"evaluate --data {PHOTO} --out never",
            "needs skimage, sklearn, matplotlib: pip install 'manifill[evaluate]'",
        ),
        (f"ablate --data {PHOTO} --out never", "needs skimage, sklearn, matplotlib: pip install 'manifill[evaluate]'"),
        ("serve", "serve needs fastapi, python_multipart, uvicorn: pip install 'manifill[serve]'"),
        ("push model user/repo", "push needs huggingface_hub: pip install 'manifill[hub]'"),
    ],
)
def test_an_extra_that_a_verb_will_need_is_looked_for_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: str, sentence: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert cli.main(words.split()) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("never").exists()
