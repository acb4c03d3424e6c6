"""Verdicts and pixels of the normalisation; sources are made with Pillow, 16-bit PNG also by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from shards.normalize import Normalization, normalize_bytes, normalize_file
from shards.rejects import Rejected

PLAIN = Normalization(preprocess="none", max_side=512)
CATALOG = Normalization(preprocess="catalog", max_side=512)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(data: bytes, how: Normalization = PLAIN) -> np.ndarray:
    jpeg = normalize_bytes(data, how)
    image = Image.open(io.BytesIO(jpeg.data))
    assert image.mode == "RGB" and image.size == (jpeg.width, jpeg.height)
    return np.asarray(image).astype(int)


def close(found: np.ndarray, expected, tolerance: int = 6) -> bool:
    """JPEG of quality 90 moves flat areas by a few levels."""
    return bool(np.all(np.abs(found - np.asarray(expected)) <= tolerance))


def corners() -> Image.Image:
    """Red, green over blue, black: tells all eight orientations apart; 48 x 32, corners of 16 x 16 blocks."""
    image = Image.new("RGB", (48, 32), (128, 128, 128))
    for box, color in (
        ((0, 0, 16, 16), (220, 30, 30)),
        ((32, 0, 48, 16), (30, 200, 30)),
        ((0, 16, 16, 32), (30, 30, 220)),
        ((32, 16, 48, 32), (10, 10, 10)),
    ):
        image.paste(color, box)
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.asarray(corners())
    # EXIF 2.3, tag 274: which side of the stored picture is the visual top and which the visual left.
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
    found = pixels(encode(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
    assert found.shape == upright.shape
    for row, column in ((7, 7), (7, 40), (24, 7), (24, 40)):
        assert close(found[row, column], upright[row, column], 12)


def test_the_jpeg_is_baseline_420_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = encode(corners(), "JPEG", exif=exif, icc_profile=profile, comment=b"hello", progressive=True)
    data = normalize_bytes(source, PLAIN).data
    place, markers = 2, []
    while data[place + 1] != 0xDA:
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        markers.append(marker)
        if marker == 0xC0:
            bits, height, width, components = struct.unpack(">BHHB", data[place + 4 : place + 10])
            assert (bits, height, width, components) == (8, 32, 48, 3)
            assert [data[place + 11 + 3 * c] for c in range(3)] == [0x22, 0x11, 0x11]
        if marker == 0xE0:
            assert data[place + 4 : place + 9] == b"JFIF\0"
        place += 2 + length
    assert set(markers) == {0xE0, 0xDB, 0xC0, 0xC4}


def test_alpha_lies_over_white() -> None:
    image = Image.new("RGBA", (32, 32), (200, 0, 0, 255))
    image.paste((0, 0, 200, 0), (0, 0, 16, 32))
    image.paste((0, 0, 0, 128), (16, 16, 32, 32))
    found = pixels(encode(image))
    assert close(found[8, 4], (255, 255, 255)) and close(found[4, 26], (200, 0, 0)) and close(found[26, 26], (127,) * 3)
    grey = Image.merge("LA", (Image.new("L", (32, 32), 60), Image.new("L", (32, 32), 0)))
    assert close(pixels(encode(grey)), 255)


def test_palette_and_its_transparency() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([10, 20, 30, 0, 160, 0])
    assert close(pixels(encode(image)), (0, 160, 0))
    assert close(pixels(encode(image, transparency=1)), (255, 255, 255))
    assert close(pixels(encode(image, "GIF")), (0, 160, 0))


def sixteen_bit_png(values: np.ndarray) -> bytes:
    """Grey PNG of 16 bits, written out chunk by chunk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (16, 1))
    found = pixels(sixteen_bit_png(values))
    assert close(found, (values / 65535 * 255)[..., None], 4)


def test_cmyk_is_seen_as_rgb() -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    assert close(pixels(encode(image, "JPEG", quality=100)), (255, 0, 0), 8)


def test_a_foreign_profile_is_applied_and_srgb_is_not() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (32, 32), (180, 120, 60))
    assert close(pixels(encode(image, icc_profile=srgb)), (180, 120, 60))
    assert close(pixels(encode(image, icc_profile=srgb[:200])), (180, 120, 60)), "a damaged profile is ignored"
    # A profile of another name in which the primaries of red and blue have changed places.
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))
    assert close(pixels(encode(image, icc_profile=swapped)), (60, 120, 180), 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_file"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        (encode(corners().resize((300, 200)), "JPEG")[:-900], "truncated"),
        (encode(corners())[:60], "truncated"),
        (encode(corners().resize((300, 200)), "WEBP")[:200], None),
    ],
)
def test_bad_bytes_get_a_named_verdict(tmp_path: Path, content: bytes, reason: str | None) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(content)
    with pytest.raises(Rejected) as caught:
        normalize_file(path, PLAIN)
    assert caught.value.reason == reason or (reason is None and caught.value.detail)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "absent.jpg", "missing_file"),
        (tmp_path, "unreadable"),
        (Path("/dev/null"), "unreadable"),
        (tmp_path / ("x" * 300), "unreadable"),
    ):
        with pytest.raises(Rejected) as caught:
            normalize_file(path, PLAIN)
        assert caught.value.reason == reason
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    with pytest.raises(Rejected, match="unreadable"):
        normalize_file(loop, PLAIN)


def test_limits_hold_before_anything_is_decoded(tmp_path: Path) -> None:
    forged = bytearray(sixteen_bit_png(np.zeros((1, 1), np.uint16)))
    forged[16:24] = struct.pack(">II", 60_000, 60_000)
    forged[29:33] = struct.pack(">I", zlib.crc32(bytes(forged[12:29])))
    with pytest.raises(Rejected, match="too_many_pixels"):
        normalize_bytes(bytes(forged), PLAIN)
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff" * 101)
    with pytest.raises(Rejected, match="too_large_file"):
        normalize_file(large, Normalization(max_file_bytes=100))
    with pytest.raises(Rejected, match="too_many_pixels"):
        normalize_bytes(encode(corners()), Normalization(max_pixels=48 * 32 - 1))


def test_catalog_trims_to_the_margin_and_pads_to_a_square() -> None:
    image = Image.new("RGB", (300, 200), (252, 250, 251))
    image.paste((200, 40, 40), (120, 30, 170, 130))  # 50 x 100
    image.putpixel((5, 190), (0, 0, 0))  # a speck does not hold the border
    found = pixels(encode(image), CATALOG)
    # Margin: 4 % of 100 = 4 px on all sides: 58 x 108, padded to 108 x 108.
    assert found.shape == (108, 108, 3)
    assert close(found[54, 54], (200, 40, 40)) and close(found[54, :25], 255) and close(found[54, -25:], 255)
    assert close(found[:3, 54], 251) and close(found[8, 54], (200, 40, 40), 12) and close(found[-3:, 54], 251)


def test_catalog_keeps_what_has_no_white_border_and_what_is_all_white() -> None:
    assert pixels(encode(Image.new("RGB", (60, 30), (90, 90, 90))), CATALOG).shape == (60, 60, 3)
    assert pixels(encode(Image.new("RGB", (60, 30), "white")), CATALOG).shape == (60, 60, 3)
    image = Image.new("RGB", (100, 100), "white")
    image.paste((0, 0, 0), (0, 0, 50, 100))  # touches three sides: there is no border to leave there
    found = pixels(encode(image), CATALOG)
    assert found.shape == (100, 100, 3) and close(found[50, 72], 0) and close(found[50, 27], 0)


@pytest.mark.parametrize("preprocess", ["catalog", "none"])
def test_the_long_side_is_at_most_max_side_and_never_enlarged(preprocess: str) -> None:
    how = Normalization(preprocess, max_side=100)
    wide = pixels(encode(Image.new("RGB", (1000, 501), (80, 90, 100)), "JPEG"), how)
    assert wide.shape == ((100, 100, 3) if preprocess == "catalog" else (50, 100, 3))
    assert max(pixels(encode(Image.new("RGB", (31, 17), (80, 90, 100))), how).shape) == 31
    thin = pixels(encode(Image.new("RGB", (2000, 3), (80, 90, 100))), how)
    assert thin.shape[1] == 100 and thin.shape[0] >= 1


def test_a_large_jpeg_is_the_same_picture_after_reduced_decoding() -> None:
    y, x = np.mgrid[0:1600, 0:2400]
    smooth = np.stack([x / 2400 * 255, y / 1600 * 255, (x + y) / 4000 * 255], -1).astype(np.uint8)
    found = pixels(encode(Image.fromarray(smooth), "JPEG", quality=95), Normalization("none", max_side=120))
    expected = np.asarray(Image.fromarray(smooth).resize((120, 80), Image.Resampling.BOX)).astype(int)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 2
