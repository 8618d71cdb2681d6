"""What Python hands over: files, bytes, arrays and tensors of every shape and type; copies; what is shown of them."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
import torch

from manifill import ImageError, Inpainter
from manifill.photos.mask import load_mask
from manifill.photos.photo import load_photo

FACE = photos.face(48, 64)
HOLE = np.zeros((48, 64), np.bool_)
HOLE[10:30, 20:40] = True
TENSOR = torch.from_numpy(FACE.copy())
PHOTOS = {
    "channels first": np.moveaxis(FACE, 2, 0),
    "a batch of one": FACE[None],
    "a tensor": TENSOR.permute(2, 0, 1),
    "a tensor, channels last": TENSOR,
    "a batch of one tensor": TENSOR.permute(2, 0, 1)[None],
    "a tensor of fractions": TENSOR.permute(2, 0, 1).float() / 255,
    "a tensor with gradients": (TENSOR.permute(2, 0, 1).float() / 255).requires_grad_(),
    "bfloat16": None,
    "float64": FACE / 255,
    "int64": FACE.astype(np.int64),
    "read-only": np.frombuffer(FACE.tobytes(), np.uint8).reshape(FACE.shape),
    "Fortran's order": np.asfortranarray(FACE),
    "big-endian integers": FACE.astype(">i4"),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_any_shape_and_type(name: str) -> None:
    if name == "bfloat16":  # 8 bits of a fraction, so that the last bit of a sample may go
        given = (TENSOR.permute(2, 0, 1).float() / 255).bfloat16()
        assert np.abs(load_photo(given).samples.astype(int) - FACE).max() <= 1
        return
    assert np.array_equal(load_photo(PHOTOS[name]).samples, FACE)


def test_sixteen_bits_of_either_order_and_grey_with_a_channel() -> None:
    deep = photos.deep(48, 64)
    assert np.array_equal(load_photo(deep.astype(">u2")).samples, deep)
    assert load_photo(deep.astype(">u2")).samples.dtype == np.uint16
    for grey in (FACE[..., :1], FACE[..., 0], np.moveaxis(FACE[..., :1], 2, 0), TENSOR[..., 0]):
        assert np.array_equal(load_photo(grey).samples, FACE[..., 0])


MASKS = {
    "(1, H, W)": HOLE[None],
    "(H, W, 1)": HOLE[..., None],
    "(1, 1, H, W)": HOLE[None, None],
    "int64": HOLE.astype(np.int64),
    "int64, 255": HOLE.astype(np.int64) * 255,
    "float32": HOLE.astype(np.float32),
    "a tensor of bool": torch.from_numpy(HOLE)[None],
    "a tensor of fractions": torch.from_numpy(HOLE)[None, None].float(),
    "a tensor of int64": torch.from_numpy(HOLE).long(),
    "uint16": HOLE.astype(np.uint16) * 65535,
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_any_shape_and_type(name: str) -> None:
    assert np.array_equal(load_mask(MASKS[name], load_photo(FACE)), HOLE)


def test_files_and_bytes(tmp_path: Path) -> None:
    data = photos.KINDS["rgb.png"](48, 64)
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "a.png").open("rb") as file:
        assert np.array_equal(load_photo(file).samples, FACE)
    for given in (data, io.BytesIO(data), bytearray(data), memoryview(data)):
        assert np.array_equal(load_photo(given).samples, FACE)  # type: ignore[arg-type]


CLOSED = io.BytesIO(b"")
CLOSED.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "photo: a NoneType; expected a path, an open file"),
        (7, "photo: a int; expected"),
        ([[1, 2], [3, 4]], "photo: a list; expected"),
        (io.StringIO("a"), "photo: a StringIO; expected"),
        (CLOSED, "photo: cannot be read .*closed file"),
        (b"", r"not an image that can be read \(photo, no bytes"),
        (np.full((9, 9, 3), 2.0), "photo: array float64 .* with values from 2 to 2; expected uint8"),
        (torch.full((3, 9, 9), -1.0), "with values from -1 to -1"),
        (torch.zeros(3, 3, 9, 9), "photo: array float32"),
        (np.full((9, 9), np.inf), "values from inf to inf"),
        ("a\0b", "cannot be read"),
    ],
)
def test_what_cannot_be_taken_is_said(given: object, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        load_photo(given)  # type: ignore[arg-type]


def sample(inpainter: Inpainter) -> np.ndarray:
    return next(iter(inpainter(FACE, HOLE, num_samples=1, seed=0))).samples


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_an_inpainter_that_has_been_used_is_as_good(inpainter: Inpainter, again) -> None:
    first = sample(inpainter)
    other = again(inpainter)
    assert np.array_equal(sample(other), first)
    assert np.array_equal(sample(again(other)), first)
    assert np.array_equal(sample(inpainter), first)


def test_what_is_shown_has_no_pixels_and_names_the_model(inpainter: Inpainter) -> None:
    completions = inpainter(FACE, HOLE, num_samples=1, seed=3)
    shown = [repr(thing) for thing in (inpainter, completions, completions.request, next(iter(completions)))]
    assert all("array(" not in text and "tensor(" not in text and len(text) < 1000 for text in shown)
    assert shown[0] == f"Inpainter({inpainter.name} {inpainter.weights}, 64 pixels, cpu)"
    assert shown[1] == "Completions(1 of photo, 64x48 pixels, 13.0% hole, seeds 3 to 3)"


def test_what_is_warned_of_is_in_the_completions(inpainter: Inpainter) -> None:
    with pytest.warns(UserWarning, match="the values 0 and 2"):
        completions = inpainter(FACE, HOLE.astype(np.uint8) * 2, num_samples=1)
    assert completions.notes == ("mask: the mask has the values 0 and 2; all but 0 are taken as the hole",)
