"""A4, the matrix of formats: each gives its golden pixels, before and after the JPEG."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.normalize import Normalization, normalize_bytes, normalize_file
from tests.shards import jpeg_by_hand
from tests.shards.golden_pixels import GREY, PLAIN, RGB, X, assert_golden, encode
from tests.shards.png_by_hand import chunk, sixteen_bit

GOLDEN = Path(__file__).with_name("formats")


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(float)[..., None] / 255
    return rgb * share + 255 * (1 - share)


ALPHA = np.clip(8 * X, 0, 255).astype(np.uint8)
INK = Image.merge("CMYK", [*(Image.fromarray(255 - RGB[..., c]) for c in range(3)), Image.new("L", (48, 32), 0)])
FEW = (GREY.astype(int) * (255, 200, 100) // 255).astype(np.uint8)
"""Smooth, with few enough colours for a palette."""
PALETTE = Image.fromarray(FEW).quantize(256, dither=Image.Dither.NONE)
SHARP = ("png palette, one colour transparent", "png 16-bit grey, one value transparent")
"""Kinds whose golden pixels have edges: they are compared before the JPEG alone."""
BILEVEL = Image.fromarray(np.where(X < 24, 255, 0).astype(np.uint8)).convert("1")


def deep(values: np.ndarray) -> np.ndarray:
    """16 bits whose low byte is not the high one: scaling, cutting the low byte and clipping differ."""
    return (values.astype(np.uint16) << 8) | 0x7F


def frames(format: str) -> bytes:
    others = [Image.new("RGB", (48, 32), color) for color in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    return encode(Image.fromarray(FEW), format, save_all=True, append_images=others, duration=100, **options)


KINDS: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "jpeg": (lambda: encode(RGB, "JPEG", quality=98, subsampling=0), RGB),
    "jpeg progressive": (lambda: encode(RGB, "JPEG", quality=98, subsampling=0, progressive=True), RGB),
    "jpeg arithmetic": (lambda: (GOLDEN / "arithmetic.jpg").read_bytes(), RGB),
    "jpeg arithmetic, progressive": (lambda: (GOLDEN / "arithmetic_progressive.jpg").read_bytes(), RGB),
    "jpeg lossless": (lambda: jpeg_by_hand.lossless(RGB), RGB),
    "jpeg lossless grey": (lambda: jpeg_by_hand.lossless(GREY[..., :1]), GREY),
    "jpeg grey": (lambda: encode(GREY[..., 0], "JPEG", quality=98), GREY),
    "jpeg rgb, Adobe transform 0": (lambda: encode(RGB, "JPEG", quality=98, keep_rgb=True), RGB),
    "jpeg cmyk, Adobe inverted": (lambda: encode(INK, "JPEG", quality=98), RGB),
    "jpeg ycck, Adobe inverted": (lambda: (GOLDEN / "ycck.jpg").read_bytes(), RGB),
    "png": (lambda: encode(RGB, "PNG"), RGB),
    "png 16-bit grey": (lambda: sixteen_bit(deep(GREY[..., 0])), GREY),
    "png 16-bit grey, one value transparent": (
        lambda: sixteen_bit(deep(GREY[..., 0]), chunk(b"tRNS", struct.pack(">H", int(deep(GREY[5, 5, 0]))))),
        np.where(GREY[5, 5, 0] == GREY, 255, GREY),
    ),
    "png 16-bit rgb": (lambda: sixteen_bit(deep(RGB)), RGB),
    "png 16-bit grey with alpha": (
        lambda: sixteen_bit(np.stack([deep(GREY[..., 0]), ALPHA.astype(np.uint16) * 257], -1)),
        over_white(GREY, ALPHA),
    ),
    "png 16-bit rgb with alpha": (
        lambda: sixteen_bit(np.concatenate([deep(RGB), ALPHA[..., None].astype(np.uint16) * 257], -1)),
        over_white(RGB, ALPHA),
    ),
    "png palette": (lambda: encode(PALETTE, "PNG"), FEW),
    "png palette, one colour transparent": (
        lambda: encode(PALETTE, "PNG", transparency=PALETTE.getpixel((0, 0))),
        np.where((FEW[0, 0] == FEW).all(-1, keepdims=True), 255, FEW),
    ),
    "png straight alpha": (lambda: encode(np.dstack([RGB, ALPHA]), "PNG"), over_white(RGB, ALPHA)),
    "png grey with alpha": (
        lambda: encode(Image.merge("LA", [Image.fromarray(GREY[..., 0]), Image.fromarray(ALPHA)]), "PNG"),
        over_white(GREY, ALPHA),
    ),
    "png 1-bit": (lambda: encode(BILEVEL, "PNG"), np.where(X < 24, 255, 0)[..., None].repeat(3, -1)),
    "gif": (lambda: encode(PALETTE, "GIF"), FEW),
    "gif animated: the first frame": (lambda: frames("GIF"), FEW),
    "webp": (lambda: encode(GREY, "WEBP", quality=100), GREY),
    "webp lossless with alpha": (
        lambda: encode(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True),
        over_white(RGB, ALPHA),
    ),
    "webp animated: the first frame": (lambda: frames("WEBP"), FEW),
    "avif": (lambda: encode(GREY, "AVIF", quality=100), GREY),
    "bmp": (lambda: encode(RGB, "BMP"), RGB),
    "bmp 1-bit": (lambda: encode(BILEVEL, "BMP"), np.where(X < 24, 255, 0)[..., None].repeat(3, -1)),
    "tiff": (lambda: encode(RGB, "TIFF"), RGB),
    "tiff in strips": (lambda: encode(RGB, "TIFF", compression="tiff_lzw", tiffinfo={278: 4}), RGB),
    "tiff 16-bit": (lambda: encode(deep(GREY[..., 0]), "TIFF"), GREY),
    "tiff 16-bit, white is zero": (lambda: encode(65535 - deep(GREY[..., 0]), "TIFF", tiffinfo={262: 0}), GREY),
    "tiff cmyk": (lambda: encode(INK, "TIFF"), RGB),
    "tiff of several pages: the first": (
        lambda: encode(RGB, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        RGB,
    ),
    "jp2": (lambda: encode(RGB, "JPEG2000"), RGB),
    "jp2 codestream alone": (lambda: encode(RGB, "JPEG2000", no_jp2=True), RGB),
    "jp2 16-bit grey": (lambda: encode(deep(GREY[..., 0]), "JPEG2000"), GREY),
    "ppm": (lambda: encode(RGB, "PPM"), RGB),
    "pgm 16-bit": (lambda: b"P5 48 32 65535\n" + deep(GREY[..., 0]).astype(">u2").tobytes(), GREY),
}


@pytest.mark.parametrize("kind", KINDS)
def test_golden_pixels(kind: str) -> None:
    make, expected = KINDS[kind]
    assert_golden(make(), expected, smooth=kind not in SHARP)


def test_tiff_in_tiles() -> None:
    """Two tiles of 32 x 32 side by side, written out by hand: Pillow writes strips alone."""
    padded = np.zeros((32, 64, 3), np.uint8)
    padded[:, :48] = RGB
    tiles = [padded[:, place : place + 32].tobytes() for place in (0, 32)]
    entries = [(256, 4, 1, 48), (257, 4, 1, 32), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3)]
    entries += [(322, 4, 1, 32), (323, 4, 1, 32)]
    after = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(324, 4, 2, after), (325, 4, 2, after + 8)]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    lists = struct.pack("<IIII", after + 16, after + 16 + len(tiles[0]), len(tiles[0]), len(tiles[1]))
    assert_golden(b"II*\0" + struct.pack("<I", 8) + ifd + lists + b"".join(tiles), RGB)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format: str, orientation: int) -> None:
    # The colours of JPEG and AVIF are off by 3 even at their best quality, their grey is exact.
    upright = GREY if format in ("JPEG", "AVIF") else RGB
    # EXIF 2.3, tag 274: where the stored picture's first row and first column lie in the upright one.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    assert_golden(encode(np.ascontiguousarray(stored), format, exif=exif, **options.get(format, {})), upright)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
def test_a_wrong_name_and_trailing_bytes_do_not_matter(tmp_path: Path, kind: str) -> None:
    make, _ = KINDS[kind]
    path = tmp_path / "photograph.bmp"
    path.write_bytes(make() + b"trailing" * 20)
    assert normalize_file(path, PLAIN).data == normalize_bytes(make(), PLAIN).data


def test_a_large_lossless_jpeg_is_decoded_whole_as_it_knows_no_reduced_sizes() -> None:
    y, x = np.mgrid[0:40, 0:400]
    values = (x // 2 + y).astype(np.uint8)[..., None]
    how = Normalization("none", max_side=50)
    found = np.asarray(Image.open(io.BytesIO(normalize_bytes(jpeg_by_hand.lossless(values), how).data)))
    expected = np.asarray(Image.fromarray(values[..., 0]).resize((50, 5), Image.Resampling.BOX)).astype(int)
    assert found.shape == (5, 50, 3) and np.abs(found[..., 0] - expected).max() <= 6
