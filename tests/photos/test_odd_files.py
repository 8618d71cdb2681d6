"""Files whose decoding others get wrong: TIFF's tags, PNG's chunks, palettes; compared with tifffile."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import photo_files as photos
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from manifill.photos.decode import ImageError
from manifill.photos.encode import encode, format_for
from manifill.photos.photo import load_photo

DEEP, FACE = photos.deep(40, 56), photos.face(40, 56)
GREY16, GREY8 = photos.deep(40, 56, 1), FACE[..., 0]


def tiff(samples: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def planes(samples: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(samples, 2, 0))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


PNG = photos.KINDS["rgb.png"](40, 56)
TIFFS = {  # files, and their samples with white as the most
    "planes apart": (tiff(planes(DEEP), photometric="rgb", planarconfig="separate"), DEEP),
    "planes apart, deflated": (
        tiff(planes(DEEP), photometric="rgb", planarconfig="separate", compression="zlib", predictor=True),
        DEEP,
    ),
    "planes apart, in strips": (
        tiff(planes(DEEP), photometric="rgb", planarconfig="separate", rowsperstrip=7, byteorder=">"),
        DEEP,
    ),
    "planes apart, opacity": (
        tiff(planes(photos.deep(40, 56, 4)), photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"]),
        photos.deep(40, 56, 4),
    ),
    "planes apart, 8 bits": (tiff(planes(FACE), photometric="rgb", planarconfig="separate"), FACE),
    "tiles": (tiff(DEEP, photometric="rgb", tile=(16, 32)), DEEP),
    "white is zero, 16 bits": (tiff(65535 - GREY16, photometric="miniswhite"), GREY16),
    "white is zero, big-endian": (tiff(65535 - GREY16, photometric="miniswhite", byteorder=">"), GREY16),
    "white is zero, deflated": (tiff(65535 - GREY16, photometric="miniswhite", compression="zlib"), GREY16),
    "white is zero, 8 bits": (tiff(255 - GREY8, photometric="miniswhite"), GREY8),
    "grey and opacity": (
        tiff(photos.deep(40, 56, 2), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        photos.deep(40, 56, 2),
    ),
    "big": (tiff(DEEP, photometric="rgb", bigtiff=True), DEEP),
}


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_is_read_as_tifffile_reads_it_and_written_so(name: str) -> None:
    data, wanted = TIFFS[name]
    photo = load_photo(data)
    assert photo.samples.dtype == wanted.dtype
    assert np.array_equal(photo.samples, wanted)
    again = load_photo(encode(photo, photo.samples, "tiff", None, {}))
    assert np.array_equal(again.samples, wanted)


def reduced_first(full: np.ndarray, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        tag = {"extratags": [(255, 3, 1, 2)]} if old else {"subfiletype": 1}
        file.write(full[::4, ::4], photometric="rgb", metadata=None, **tag)
        file.write(full, photometric="rgb", metadata=None)
    return buffer.getvalue()


@pytest.mark.parametrize("full", [FACE, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("old", [False, True])
def test_a_page_that_is_a_reduced_copy_is_passed_over(full: np.ndarray, old: bool) -> None:
    assert np.array_equal(load_photo(reduced_first(full, old)).samples, full)


def test_a_file_of_reduced_copies_alone_is_refused() -> None:
    with pytest.raises(ImageError, match="photo: this TIFF holds reduced copies of a picture alone"):
        load_photo(tiff(FACE, photometric="rgb", subfiletype=1))


@pytest.mark.parametrize("name", [*TIFFS, "reduced"])
def test_a_tiff_of_any_kind_that_claims_too_many_pixels_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that Pillow does not open, and a later page."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # of which it takes twice as many
    with pytest.raises(ImageError, match="more pixels than are safe to decode"):
        load_photo(TIFFS[name][0] if name in TIFFS else reduced_first(DEEP))


def test_colours_multiplied_by_their_opacity_are_refused() -> None:
    data = tiff(photos.deep(40, 56, 4), photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(ImageError, match="multiplied by their opacity"):
        load_photo(data)


def test_a_palette_of_eight_bits_where_sixteen_are_due() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    photo = load_photo(tiff(GREY8, photometric="palette", colormap=colours))
    assert np.array_equal(photo.rgb, colours.T[GREY8])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits(bits: int) -> None:
    levels = (np.arange(64)[:, None].repeat(64, 1) // 4) % (1 << bits)
    spread = (levels[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)
    rows = np.packbits(spread.reshape(64, -1), axis=1)
    data = zlib.compress(np.hstack([np.zeros((64, 1), np.uint8), rows]).tobytes())
    for key in range(1 << bits):
        parts = (b"IHDR", struct.pack(">IIBBBBB", 64, 64, bits, 0, 0, 0, 0)), (b"tRNS", struct.pack(">H", key))
        png = b"".join(chunk(*part) for part in (*parts, (b"IDAT", data), (b"IEND", b"")))
        photo = load_photo(b"\x89PNG\r\n\x1a\n" + png)
        assert photo.alpha is not None
        assert np.array_equal(photo.alpha == 0, levels == key)
        assert np.array_equal(photo.rgb[..., 0], levels * (255 // ((1 << bits) - 1)))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_large_texts_are_no_damage(kind: bytes) -> None:
    text = np.random.default_rng(0).integers(97, 122, 3_000_000).astype(np.uint8).tobytes()
    body = {
        b"zTXt": b"a\0\0" + zlib.compress(text),
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text),
        b"tEXt": b"a\0" + text,
    }[kind]
    assert np.array_equal(load_photo(with_chunks(PNG, chunk(kind, body))).samples, FACE)


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_large_profile_survives(size: int) -> None:
    profile = np.random.default_rng(0).bytes(size)
    bare = photos._saved(photos.rgb(40, 56), "PNG")
    photo = load_photo(with_chunks(bare, chunk(b"iCCP", b"large\0\0" + zlib.compress(profile))))
    assert photo.info["icc_profile"] == profile
    again = encode(photo, photo.samples, "png", None, {})
    (place,) = [k for k in range(len(again)) if again[k : k + 4] == b"iCCP"]
    length = int.from_bytes(again[place - 4 : place])
    assert zlib.decompress(again[place + 4 : place + 4 + length].split(b"\0", 2)[2]) == profile


COLOUR = {
    b"gAMA": struct.pack(">I", 100000),
    b"cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    b"cICP": bytes([9, 16, 0, 1]),
    b"sRGB": b"\1",
}


@pytest.mark.parametrize("kind", COLOUR)
def test_chunks_about_colour_survive(kind: bytes) -> None:
    bare = photos._saved(photos.rgb(40, 56), "PNG")
    one = chunk(kind, COLOUR[kind])
    photo = load_photo(with_chunks(bare, one))
    written = encode(photo, photo.samples, "png", None, {})
    assert one in written
    assert written.index(one) < written.index(b"IDAT")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        format_for(photo, "webp")
    assert [f"its {kind.decode()}, which webp has no place for" in str(w.message) for w in said] == [True] * (
        kind != b"sRGB"
    )


def test_what_pillow_has_read_keeps_its_gamma() -> None:
    with Image.open(io.BytesIO(with_chunks(PNG, chunk(b"gAMA", COLOUR[b"gAMA"])))) as picture:
        photo = load_photo(picture)
    assert chunk(b"gAMA", COLOUR[b"gAMA"]) in encode(photo, photo.samples, "png", None, {})


@pytest.mark.parametrize("clear", [b"\0" * 200, b"\xff" * 199 + b"\0", b"\x10" * 256])
def test_a_tRNS_that_is_longer_than_its_palette(clear: bytes) -> None:  # noqa: N802
    picture = photos.palette(40, 56, 16)
    data = photos._saved(picture, "PNG")
    photo = load_photo(data[: data.index(b"IDAT") - 4] + chunk(b"tRNS", clear) + data[data.index(b"IDAT") - 4 :])
    assert np.array_equal(photo.samples, np.asarray(picture))
    assert photo.alpha is None or (photo.alpha == clear[0]).all()
    again = load_photo(encode(photo, photo.samples, "png", None, {}))
    assert np.array_equal(again.rgb, photo.rgb)


@pytest.mark.parametrize(
    ("kind", "format"), [("rgb.jpg", "JPEG"), ("rgb.png", "PNG"), ("rgb.tif", "TIFF"), ("rgb.webp", "WEBP")]
)
def test_an_orientation_in_xmp_alone_is_none(kind: str, format: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    options: dict[str, object] = {"xmp": xmp}
    if format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": info}
    if format == "TIFF":
        options = {"tiffinfo": {700: xmp}}
    photo = load_photo(photos._saved(photos.rgb(40, 56), format, **options))
    assert (photo.orientation, photo.samples.shape) == (1, (40, 56, 3))


FILES = [make[0] for make in TIFFS.values()] + [reduced_first(FACE)]
VALUES = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 16, 32, 57, 65535])
CHANGES = st.lists(st.tuples(st.integers(0, 30), VALUES), min_size=1, max_size=3)


def changed_tags(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Return a small TIFF with the values of some tags of its first page replaced."""
    order, new = ("<" if data[:2] == b"II" else ">"), bytearray(data)
    if data[2:3] in (b"+", b"\0") and 43 in data[2:4]:
        return data
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for place, value in changes:
        struct.pack_into(order + "H", new, start + 2 + 12 * (place % count) + 8, value)
    return bytes(new)


def fuzz(count: int) -> None:
    """Read so many TIFFs of which tags are changed: a photo that can be written and read again, or one sentence."""

    @settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @given(st.sampled_from(FILES), CHANGES)
    def reading(data: bytes, changes: list[tuple[int, int]]) -> None:
        try:
            photo = load_photo(changed_tags(data, changes))
        except ImageError as error:
            words = str(error)
        else:
            again = load_photo(encode(photo, photo.samples, format_for(photo, None), None, {}))
            assert np.array_equal(again.samples, photo.samples)
            return
        assert "\n" not in words
        assert words.startswith("photo: ")

    reading()


def test_tiffs_with_other_tags(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    fuzz(200)


@pytest.mark.slow
def test_ten_thousand_tiffs_with_other_tags(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    fuzz(10_000)
