"""Every format and pixel type in and out: the same samples, depth, palette, opacity and metadata, turned upright."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from photo_files import MODE, MODES, channels, read, samples_by_others
from PIL import ExifTags, Image, ImageCms, ImageOps

from manifill.photos.decode import ImageError
from manifill.photos.encode import HOLDS, check_format, encode, format_for
from manifill.photos.photo import Photo, load_photo, stored, to_pillow

KINDS = [pytest.param(kind, marks=photos.needs(kind)) for kind in photos.KINDS]


def photo_of(mode: str) -> Photo:
    """Return a photo of a pixel type."""
    with tempfile.TemporaryDirectory() as folder:
        return load_photo(photos.make(MODES[mode][0], Path(folder), 40, 56))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_as_other_programs_read_it(tmp_path: Path, kind: str) -> None:
    path = photos.make(kind, tmp_path, 40, 56)
    photo = load_photo(path)
    assert photo.mode == MODE[kind]
    assert photo.rgb.shape == (40, 56, 3)
    assert photo.rgb.dtype == np.uint8
    if ";16" in photo.mode:
        assert np.array_equal(photo.samples, photos.deep(40, 56, channels(photo.mode)))
        seen = photo.samples if photo.samples.ndim == 3 else photo.samples[..., None]
        assert np.array_equal(photo.rgb[..., 0], seen[..., 0] >> 8)
        return
    with Image.open(path) as picture:
        wanted = picture.convert("RGBA" if photo.alpha is not None else "RGB")
    if "profile" not in kind:  # inks with a profile: see below
        assert np.array_equal(photo.rgb, np.asarray(wanted)[..., :3])
    if photo.alpha is not None:
        assert np.array_equal(photo.alpha, np.asarray(wanted)[..., 3])
        assert (photo.alpha < 255).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lossless_file_has_the_same_samples_and_metadata(tmp_path: Path, kind: str) -> None:
    path = photos.make(kind, tmp_path, 41, 57)
    photo = load_photo(path)
    data = encode(photo, photo.samples, format_for(photo, None), None, {"seed": "7"})
    assert np.array_equal(samples_by_others(data, photo.mode), photo.samples)
    with Image.open(path) as source:
        source.load()
        result = read(data)
        assert result.info.get("icc_profile") == source.info.get("icc_profile")
        assert result.getexif().get(0x013B) == source.getexif().get(0x013B)
        assert dict(result.getexif().get_ifd(0x8825)) == dict(source.getexif().get_ifd(0x8825))
        assert dict(result.getexif().get_ifd(0x8769)) == dict(source.getexif().get_ifd(0x8769))
        if "dpi" in source.info:
            assert np.allclose([float(d) for d in result.info["dpi"]], [float(d) for d in source.info["dpi"]], atol=0.1)
        if photo.mode not in ("LA;16", "LA", "RGBA"):  # a key colour has become opacity
            assert result.mode == source.mode
        if photo.mode == "P":
            assert result.getpalette("RGBA") == source.getpalette("RGBA")
    if photo.mode != "CMYK":
        assert result.text == {"seed": "7"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "CMYK"])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_strips_that_were_kept_do_not_change_the_file(mode: str, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifill.photos.lossless.STRIP", 700)  # many strips
    photo = photo_of(mode)
    other, kept = photo.samples.copy(), {}
    other[10:14, 20:30] = other[20:24, 5:15]
    for samples in (photo.samples, other, photo.samples):
        again = encode(photo, samples, format, None, {}, kept)  # type: ignore[arg-type]
        assert again == encode(photo, samples, format, None, {})  # type: ignore[arg-type]
        assert np.array_equal(samples_by_others(again, mode), samples)
    assert len(kept) > 3


def test_a_large_file_is_written_fast_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifill.photos.lossless.LARGE", 100)
    for mode in MODES:
        photo = photo_of(mode)
        for format in {"png", "tiff"} if mode != "CMYK" else {"tiff"}:
            data = encode(photo, photo.samples, format, None, {})  # type: ignore[arg-type]
            assert np.array_equal(samples_by_others(data, mode), photo.samples)


def test_files_are_about_as_small_as_other_programs_make_them() -> None:
    photo, buffer = load_photo(photos.face(400, 300)), io.BytesIO()
    Image.fromarray(photo.rgb).save(buffer, "PNG")
    assert len(encode(photo, photo.samples, "png", None, {})) < 1.05 * len(buffer.getvalue())


TURNED = ["rgb.jpg", "rgb.png", "rgb16.png", "rgb.webp", "rgb.tif", "rgb16.tif", "rgb.avif", "rgb.heic"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [pytest.param(k, marks=photos.needs(k)) for k in TURNED])
def test_orientation_is_applied_and_gone(tmp_path: Path, kind: str, orientation: int) -> None:
    path = photos.turned(kind, tmp_path, orientation, 24, 40)
    photo = load_photo(path)
    with Image.open(path) as picture:
        wanted = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert np.array_equal(photo.rgb, wanted)
    if orientation > 4 and not kind.endswith("heic"):  # which says it in a way of its own
        assert photo.samples.shape[:2] == (40, 24)
    result = read(encode(photo, photo.samples, format_for(photo, None), None, {}))
    assert 0x0112 not in result.getexif()
    assert result.getexif().get(0x013B) == "Someone"


def test_a_picture_of_the_caller_is_left_as_it_was() -> None:
    picture = read(photos.KINDS["rgb.png"](24, 40))
    picture.getexif()[0x0112] = 6
    first, second = load_photo(picture), load_photo(picture)
    assert first.samples.shape == (40, 24, 3)
    assert np.array_equal(first.samples, second.samples)
    assert picture.getexif()[0x0112] == 6


def test_a_thumbnail_of_what_was_there_is_not_kept(tmp_path: Path) -> None:
    data, thumbnail = photos.exif().tobytes()[6:], b"a small picture of what is to be removed"
    assert data.startswith(b"MM")
    place = 10 + 12 * int.from_bytes(data[8:10])  # of the link to the next folder
    folder = struct.pack(">HHHIIHHIII", 2, 0x0201, 4, 1, len(data) + 30, 0x0202, 4, 1, len(thumbnail), 0)
    data = data[:place] + struct.pack(">I", len(data)) + data[place + 4 :] + folder + thumbnail
    photos.rgb(40, 40).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + data)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.getexif().get_ifd(ExifTags.IFD.IFD1)[0x0202] == len(thumbnail)
    photo = load_photo(tmp_path / "a.jpg")
    assert thumbnail not in photo.info["exif"]
    assert read(encode(photo, photo.samples, "png", None, {})).getexif().get(0x013B) == "Someone"


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", [b"MM\0\x2a\0\0\0\x08\xff\xff" + bytes(range(100)), b"no TIFF" + bytes(20)])
def test_damaged_exif_is_left_out_with_a_warning(tmp_path: Path, kind: str, exif: bytes) -> None:
    photos.rgb(40, 40).save(tmp_path / f"a.{kind}", exif=b"Exif\0\0" + exif)
    with pytest.warns(UserWarning, match=rf"a\.{kind}: damaged EXIF data is left out"):
        photo = load_photo(tmp_path / f"a.{kind}")
    assert photo.rgb.shape == (40, 40, 3)
    encode(photo, photo.samples, "png", None, {})


@pytest.mark.parametrize("dpi", [(float("nan"), 300), (0, 0), (-5, 5), (1e9, 1e9), (float("inf"), 1)])
def test_a_resolution_that_makes_no_sense_is_left_out(dpi: tuple[float, float]) -> None:
    picture = photos.rgb(24, 24)
    picture.info["dpi"] = dpi
    photo = load_photo(picture)
    assert "dpi" not in photo.info
    for format in ("png", "tiff", "jpeg", "webp"):
        assert "dpi" not in read(encode(photo, photo.samples, format, None, {})).info or format == "tiff"


LOSSY = [
    pytest.param(f, marks=photos.needs(f"x.{s}"))
    for f, s in [("jpeg", "jpg"), ("webp", "webp"), ("avif", "avif"), ("heif", "heic")]
]


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("mode", MODES)
def test_formats_with_loss(format: str, mode: str) -> None:
    photo = photo_of(mode)
    if mode not in HOLDS[format] or (photo.alpha is not None and format == "jpeg"):
        with pytest.raises(ImageError, match=f"{format} cannot hold .* pixels; use (png|tiff)"):
            format_for(photo, format)  # type: ignore[arg-type]
        return
    result = read(encode(photo, photo.samples, format_for(photo, format, 90), 90, {}))  # type: ignore[arg-type]
    seen = result.convert("RGB" if photo.alpha is None else "RGBA")
    colours = np.asarray(seen)[..., :3][photo.alpha == 255 if photo.alpha is not None else ...]
    near = np.abs(colours.astype(int) - photo.rgb[photo.alpha == 255 if photo.alpha is not None else ...])
    assert near.mean() < (40 if mode == "1" else 8)
    if photo.alpha is not None:
        assert np.abs(np.asarray(seen)[..., 3].astype(int) - photo.alpha).max() <= 8
    if "exif" in photo.info:
        assert result.getexif()[0x013B] == "Someone"
        assert dict(result.getexif().get_ifd(0x8769)) == {0x9003: "2021:06:19 12:00:00"}
    again = load_photo(result)
    if "dpi" in photo.info:  # which but JPEG have in EXIF data alone
        assert np.allclose(again.info["dpi"], photos.DPI, atol=0.5)
    assert again.info.get("icc_profile") == photo.info.get("icc_profile")


def test_webp_is_lossless_unless_told_otherwise() -> None:
    for kind in ("rgb.png", "alpha.png"):
        photo = load_photo(read(photos.KINDS[kind](40, 40)))
        result = np.asarray(read(encode(photo, photo.samples, "webp", None, {})))
        assert np.array_equal(result, photo.samples)


def test_a_clear_palette_is_refused_by_tiff_which_would_lose_it() -> None:
    photo = load_photo(read(photos.KINDS["palette_clear.png"](40, 40)))
    with pytest.raises(ImageError, match="tiff cannot hold transparent pixels; use png"):
        format_for(photo, "tiff")


@pytest.mark.parametrize(
    ("format", "quality", "words"),
    [
        ("gif", None, "format is 'gif'; expected png, jpeg"),
        ("jpeg", 0, "quality is 0; expected 1 to 100"),
        ("png", 90, "quality is 90, but png is without loss"),
        (None, 90, "quality is 90, but png is without loss"),
    ],
)
def test_bad_formats(format: str, quality: int | None, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        check_format(format, quality)  # type: ignore[arg-type]


def test_heif_without_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setattr("manifill.photos.encode.plugins", lambda: None)
    monkeypatch.delitem(Image.SAVE, "HEIF", raising=False)
    with pytest.raises(ImageError, match=r"needs the extra \[heif\]"):
        check_format("heif")


def test_a_photo_too_large_for_a_format_is_named() -> None:
    wide = load_photo(np.zeros((8, 16500, 3), np.uint8))
    with pytest.raises(ImageError, match="photo: 16500x8 pixels cannot be written as webp"):
        encode(wide, wide.samples, "webp", None, {})


@pytest.mark.parametrize(("kind", "mode"), [("grey16.png", "LA;16"), ("rgb16.png", "RGBA;16")])
def test_a_transparent_colour_of_sixteen_bits_becomes_opacity(tmp_path: Path, kind: str, mode: str) -> None:
    own = photos.deep(40, 56, channels(MODE[kind])).reshape(40, 56, -1)
    key = tuple(int(c) for c in own[3, 4])
    (tmp_path / "a.png").write_bytes(photos.with_key(photos.KINDS[kind](40, 56), key))
    photo = load_photo(tmp_path / "a.png")
    assert photo.mode == mode
    assert np.array_equal(photo.samples[..., :-1], own)
    assert np.array_equal(photo.samples[..., -1] == 0, (own == key).all(2))


def painted_over(photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    """Return (samples with a hole of the upside-down photo in it, hole)."""
    hole = np.zeros(photo.rgb.shape[:2], np.bool_)
    hole[10:30, 15:40] = True
    new = stored(photo, photo.rgb[::-1].astype(np.float32) + 0.25)
    assert new.dtype == photo.samples.dtype
    assert new.shape == photo.samples.shape
    samples = photo.samples.copy()
    samples[hole] = new[hole]
    return samples, hole


@pytest.mark.parametrize("mode", MODES)
def test_painted_colours_become_samples_of_the_photos_kind(mode: str) -> None:
    photo = photo_of(mode)
    samples, hole = painted_over(photo)
    data = encode(photo, samples, format_for(photo, None), None, {})
    found = samples_by_others(data, mode)
    assert np.array_equal(found[~hole], photo.samples[~hole])
    assert (found[hole] != photo.samples[hole]).any()
    seen = load_photo(to_pillow(photo, samples))
    wanted = photo.rgb[::-1].astype(float)
    if mode in ("1", "L", "LA", "I;16", "LA;16"):
        wanted = wanted @ [0.299, 0.587, 0.114] if mode not in ("L", "LA") else wanted[..., 0]
        wanted = np.repeat(wanted[..., None], 3, axis=2)
    difference = np.abs(seen.rgb - wanted)[hole].mean()
    assert difference < {"1": 127, "P": 12, "CMYK": 4}.get(mode, 1.01)
    if seen.alpha is not None:
        assert (seen.alpha[hole] == 255).all()


@pytest.mark.parametrize("kind", ["palette_clear.png", "palette_half.png"])
def test_a_hole_in_a_palette_is_filled_with_opaque_colours(tmp_path: Path, kind: str) -> None:
    photo = load_photo(photos.make(kind, tmp_path, 40, 56))
    samples, hole = painted_over(photo)
    alpha = np.asarray(read(encode(photo, samples, "png", None, {})).convert("RGBA"))[..., 3]
    assert (alpha[hole] == 255).all()
    assert photo.alpha is not None
    assert np.array_equal(alpha[~hole], photo.alpha[~hole])


@pytest.mark.parametrize("kind", ["inks_profile.jpg", "inks_profile.tif"])
def test_inks_are_seen_and_mixed_by_their_profile(tmp_path: Path, kind: str) -> None:
    photo = load_photo(photos.make(kind, tmp_path, 40, 56))
    inks = ImageCms.ImageCmsProfile(io.BytesIO(photos.cmyk_profile()))
    screen = ImageCms.createProfile("sRGB")
    picture = Image.fromarray(photo.samples, "CMYK")
    seen = ImageCms.profileToProfile(picture, inks, screen, outputMode="RGB")
    assert seen is not None
    assert np.array_equal(photo.rgb, np.asarray(seen))
    assert (photo.rgb != np.asarray(picture.convert("RGB"))).any()
    mixed = ImageCms.profileToProfile(Image.fromarray(photo.rgb), screen, inks, outputMode="CMYK")
    assert mixed is not None
    assert np.array_equal(stored(photo, photo.rgb.astype(np.float32)), np.asarray(mixed))


def test_inks_with_a_profile_that_cannot_be_used(tmp_path: Path) -> None:
    photos.rgb(24, 24).convert("CMYK").save(tmp_path / "a.tif", icc_profile=b"no profile")
    photo = load_photo(tmp_path / "a.tif")
    assert photo.info["icc_profile"] == b"no profile"
    assert stored(photo, photo.rgb.astype(np.float32)).shape == (24, 24, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "I", "I;16", "I;16B"])
def test_pictures_in_memory(mode: str) -> None:
    if mode.startswith("I"):
        picture = Image.fromarray(photos.deep(24, 40, 1)).convert("I")
        photo = load_photo(picture if mode == "I" else picture.convert(mode))
        assert photo.samples.dtype == np.uint16
        assert np.array_equal(photo.samples, photos.deep(24, 40, 1))
        return
    picture = photos.rgb(24, 40).convert(mode)
    photo = load_photo(picture)
    assert photo.samples.dtype == np.uint8
    assert np.array_equal(
        np.asarray(to_pillow(photo, photo.samples).convert("RGB")), np.asarray(picture.convert("RGB"))
    )


def test_a_palette_with_opacity_in_memory() -> None:
    picture = photos.rgba(40, 40).quantize(32)
    assert picture.palette is not None
    assert picture.palette.mode == "RGBA"
    photo = load_photo(picture)
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, np.asarray(picture.convert("RGBA"))[..., 3])


BRIGHT = Image.fromarray(np.full((24, 24), 70000, np.int32))  # beyond 16 bits


@pytest.mark.parametrize("picture", [*(Image.new(m, (24, 24)) for m in ("F", "HSV", "LAB", "YCbCr")), BRIGHT])
def test_other_pixel_types_are_refused(picture: Image.Image) -> None:
    with pytest.raises(ImageError, match=f"photo: pixel format {picture.mode}; expected"):
        load_photo(picture)


@pytest.mark.parametrize("shape", [(24, 40), (24, 40, 3), (24, 40, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_arrays(shape: tuple[int, ...], kind: type) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)
    for given in (array, np.asfortranarray(array), array[::-1, ::-1]):
        photo = load_photo(given)
        assert np.array_equal(photo.samples, given)
        assert (photo.samples.dtype, photo.alpha is not None) == (np.dtype(kind), len(shape) == 3 and shape[2] == 4)
        again = samples_by_others(encode(photo, photo.samples, "png", None, {}), photo.mode)
        assert np.array_equal(again, given)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_photos_that_show_nothing_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"a photo of {size[0]}x{size[1]} pixels; expected at least 8x8"):
        load_photo(Image.new("RGB", size))
