"""A4, the matrix of formats: each gives its golden pixels, before and after the JPEG, or its golden verdict."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from shards.decode import decode
from shards.normalize import Normalization, normalize_bytes, normalize_file
from shards.rejects import Rejected
from tests.shards import jpeg_by_hand
from tests.shards.png_by_hand import chunk, sixteen_bit

PLAIN = Normalization("none")
GOLDEN = Path(__file__).with_name("formats")
Y, X = np.mgrid[0:32, 0:48]
RGB = np.stack([40 + 4 * X, 60 + 5 * Y, 200 - 3 * X], -1).astype(np.uint8)
"""Smooth, with no two corners alike, so that a JPEG of quality 90 keeps 40 dB."""
GREY = np.repeat((20 + 2 * X + 4 * Y).astype(np.uint8)[..., None], 3, axis=2)


def encode(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format, **options)
    return buffer.getvalue()


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(float)[..., None] / 255
    return rgb * share + 255 * (1 - share)


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((found.astype(float) - expected) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def assert_golden(data: bytes, expected: np.ndarray, smooth: bool = True) -> None:
    before = np.asarray(decode(data, PLAIN.max_side, PLAIN.max_pixels)).astype(float)
    assert before.shape == expected.shape
    assert np.abs(before - expected).max() <= 2
    jpeg = normalize_bytes(data, PLAIN)
    after = np.asarray(Image.open(io.BytesIO(jpeg.data)))
    assert after.shape == expected.shape
    if smooth:
        assert psnr(after, expected) >= 40


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


LARGE = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))[..., None].repeat(3, -1)
CUTS = {
    name: encode(LARGE, format, **options)
    for name, format, options in (
        ("jpeg", "JPEG", {}),
        ("jpeg progressive", "JPEG", {"progressive": True}),
        ("png", "PNG", {"compress_level": 0}),
        ("webp", "WEBP", {}),
        ("gif", "GIF", {}),
        ("avif", "AVIF", {}),
        ("bmp", "BMP", {}),
        ("tiff", "TIFF", {}),
        ("tiff deflate", "TIFF", {"compression": "tiff_deflate"}),
        ("jp2", "JPEG2000", {}),
        ("ppm", "PPM", {}),
    )
}


@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_truncated_anywhere_is_named_so(kind: str, share: float) -> None:
    data = CUTS[kind]
    with pytest.raises(Rejected) as caught:
        normalize_bytes(data[: max(16, int(len(data) * share))], PLAIN)
    # Of AVIF's boxes a cut within the metadata reads as a fault of the box.
    allowed = {"truncated", "undecodable"} if kind == "avif" else {"truncated"}
    assert caught.value.reason in allowed, caught.value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        (b'{"error": "gone"}', "not_an_image"),
        (b"%PDF-1.7 ...", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\0" * 5000, "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image"),
        (b"GIF89a", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + b"<html>" * 20 + b"IEND", "undecodable"),
        (jpeg_by_hand.twelve_bit(np.arange(12).reshape(3, 4) * 300), "undecodable"),
        (encode(Image.new("F", (9, 9), 0.5), "TIFF"), "undecodable"),
        (encode(Image.fromarray(np.full((9, 9), 1 << 20, np.int32)), "TIFF"), "undecodable"),
        (encode(Image.fromarray(np.full((9, 9), 1 << 12, np.int32)), "TIFF"), "undecodable"),
        (encode(Image.fromarray(np.full((9, 9), 1 << 12, np.int32)), "TIFF", compression="tiff_lzw"), "undecodable"),
        (
            b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IIIHHIIIIII", 40, 0, 0, 1, 24, *[0] * 6),
            "undecodable",
        ),
    ],
)
def test_golden_verdicts(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(content)
    with pytest.raises(Rejected) as caught:
        normalize_file(path, PLAIN)
    assert caught.value.reason == reason and caught.value.detail


def test_a_large_lossless_jpeg_is_decoded_whole_as_it_knows_no_reduced_sizes() -> None:
    y, x = np.mgrid[0:40, 0:400]
    values = (x // 2 + y).astype(np.uint8)[..., None]
    how = Normalization("none", max_side=50)
    found = np.asarray(Image.open(io.BytesIO(normalize_bytes(jpeg_by_hand.lossless(values), how).data)))
    expected = np.asarray(Image.fromarray(values[..., 0]).resize((50, 5), Image.Resampling.BOX)).astype(int)
    assert found.shape == (5, 50, 3) and np.abs(found[..., 0] - expected).max() <= 6


def swapped(profile: bytes) -> bytes:
    """A profile of another name in which the primaries of red and blue have changed places."""
    changed = profile.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    return changed.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_foreign_profile_is_applied_and_srgb_is_not(format: str) -> None:
    options = {"quality": 100} if format in ("JPEG", "WEBP", "AVIF") else {}
    flat = np.full((32, 48, 3), (180, 120, 60), np.uint8)
    for profile, expected in ((SRGB, (180, 120, 60)), (SRGB[:200], (180, 120, 60)), (swapped(SRGB), (60, 120, 180))):
        data = encode(flat, format, icc_profile=profile, **options)
        found = np.asarray(decode(data, 512, PLAIN.max_pixels)).astype(int)
        assert np.abs(found - expected).max() <= 4, (format, len(profile))


def test_a_profile_that_is_called_rgb_is_no_srgb() -> None:
    """As Adobe RGB (1998) is: its name alone does not make its pixels those of sRGB."""
    profile = swapped(SRGB).replace("BGRs".encode("utf-16-be"), "aRGB".encode("utf-16-be"))
    assert "aRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    data = encode(Image.new("RGB", (16, 16), (180, 120, 60)), "PNG", icc_profile=profile)
    found = np.asarray(decode(data, 512, PLAIN.max_pixels)).astype(int)
    assert np.abs(found - (60, 120, 180)).max() <= 4


def test_a_profile_for_other_channels_is_ignored() -> None:
    assert_golden(encode(GREY[..., 0], "PNG", icc_profile=swapped(SRGB)), GREY)


def ink_profile() -> bytes:
    """A CMYK profile by hand: a table of two points an ink from CMYK to Lab, in which cyan and magenta are swapped."""

    def tag(signature: bytes, body: bytes) -> tuple[bytes, bytes]:
        return signature, body + bytes(-len(body) % 4)

    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = 1 - np.clip(corners[:, [1, 0, 2]] + corners[:, 3:], 0, 1)
    srgb, lab = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)) for name in ("sRGB", "LAB"))
    to_lab = ImageCms.ImageCmsTransform(srgb, lab, "RGB", "LAB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    rgb = Image.fromarray(np.round(light * 255).astype(np.uint8).reshape(4, 4, 3))
    # Pillow has a and b about 0, the table about 128.
    values = np.asarray(to_lab.apply(rgb)).reshape(-1, 3) ^ np.array([0, 0x80, 0x80], np.uint8)
    ramp = bytes(range(256))
    one = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + one + ramp * 4 + values.tobytes() + ramp * 3
    words = "hand-made inks".encode("utf-16-be")
    name = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(words), 28) + words
    tags = [
        tag(b"desc", name),
        tag(b"A2B0", table),
        tag(b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)),
    ]
    tags.append(tag(b"cprt", name))
    place = 128 + 4 + 12 * len(tags)
    directory = struct.pack(">I", len(tags))
    for signature, body in tags:
        directory += struct.pack(">4sII", signature, place, len(body))
        place += len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", place, b"lcms", 0x04200000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp")
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + directory + b"".join(body for _, body in tags)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_with_a_profile(format: str) -> None:
    cyan = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    options = {"quality": 100} if format == "JPEG" else {}
    plain = np.asarray(decode(encode(cyan, format, **options), 512, PLAIN.max_pixels)).astype(int)
    assert np.abs(plain - (0, 255, 255)).max() <= 2
    found = np.asarray(decode(encode(cyan, format, icc_profile=ink_profile(), **options), 512, PLAIN.max_pixels))
    # In the profile the ink called cyan is magenta; its table has 8 bits.
    assert np.abs(found.astype(int) - (255, 0, 255)).max() <= 8
