"""What a normalised photograph is: its JPEG and its frame; and that normalising again changes nothing."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shards.decode import decode
from shards.jpeg import is_plain
from shards.normalize import Jpeg, Normalization, normalize_bytes, normalize_file, normalize_image
from tests.shards.scenes import SIZE, scene

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


@pytest.mark.parametrize("side", [1600, 1500, 801, 799])
def test_reduced_decoding_leaves_twice_what_is_wanted(side: int) -> None:
    """Half of it may be a border, which trimming cuts off: the item is not enlarged for that."""
    found = decode(plain_jpeg(Image.new("RGB", (side, 90), (80, 90, 100))), 100, PLAIN.max_pixels)
    assert 2 * 100 <= max(found.size) < side


def test_the_size_of_the_source_is_told(tmp_path: Path) -> None:
    path = tmp_path / "photograph.png"
    path.write_bytes(encode(corners()))
    assert normalize_file(path, PLAIN).source_bytes == path.stat().st_size
    assert normalize_image(corners(), PLAIN).source_bytes == 0


# --- what already is such a JPEG


def plain_jpeg(image: Image.Image, **options) -> bytes:
    return encode(image, "JPEG", **({"quality": 80, "subsampling": 2} | options))


def changed(data: bytes, how: Normalization = PLAIN) -> bool:
    return normalize_bytes(data, how).data != data


def test_a_jpeg_of_the_form_passes_through_byte_for_byte() -> None:
    data = plain_jpeg(corners())
    jpeg = normalize_bytes(data, PLAIN)
    assert jpeg == Jpeg(data, 32, 48, jpeg.phash, len(data))
    assert not changed(plain_jpeg(corners(), optimize=True))


EXIF = Image.Exif()
EXIF[0x0112] = 1


def wide_tables(data: bytes) -> bytes:
    """The same JPEG with its quantization tables written in 16 bits."""
    while (place := data.find(b"\xff\xdb\0\x43")) >= 0:
        body = data[place + 4 : place + 4 + 65]
        wide = bytes([0x10 | body[0]]) + b"".join(bytes([0, value]) for value in body[1:])
        data = data[:place] + b"\xff\xdb\0\x83" + wide + data[place + 4 + 65 :]
    return data


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("progressive", plain_jpeg(corners(), progressive=True)),
        ("4:4:4", plain_jpeg(corners(), subsampling=0)),
        ("grey", plain_jpeg(corners().convert("L"))),
        ("cmyk", plain_jpeg(corners().convert("CMYK"))),
        ("exif", plain_jpeg(corners(), exif=EXIF)),
        ("comment", plain_jpeg(corners(), comment=b"hello")),
        ("restart intervals", plain_jpeg(corners(), restart_marker_blocks=2)),
        ("bytes behind the end", plain_jpeg(corners()) + b"\0"),
        ("a second image behind the end", plain_jpeg(corners()) * 2),
        ("too large", plain_jpeg(Image.new("RGB", (513, 40)))),
        ("16-bit tables", wide_tables(plain_jpeg(corners()))),
    ],
)
def test_any_other_is_written_anew(what: str, data: bytes) -> None:
    assert changed(data)
    assert not changed(normalize_bytes(data, PLAIN).data)


def test_a_jpeg_of_the_form_is_decoded_whole_before_it_passes() -> None:
    data = plain_jpeg(Image.effect_noise((200, 200), 80).convert("RGB"))
    # Cut within the pixels, with the end put back: no marker tells.
    damaged = data[: len(data) // 2] + b"\xff\xd9"
    assert is_plain(damaged)
    try:
        jpeg = normalize_bytes(damaged, PLAIN)
    except Exception as error:
        assert "truncated" in str(error)
    else:
        # libjpeg fills what is missing with grey and says so only in a warning: then the pixels are all there.
        assert (jpeg.width, jpeg.height) == (200, 200)


def test_a_jfif_segment_that_announces_a_thumbnail_is_not_of_the_form() -> None:
    data = bytearray(plain_jpeg(corners()))
    assert data[6:11] == b"JFIF\0" and data[18:20] == b"\0\0"
    assert is_plain(bytes(data))
    for place in (18, 19):
        other = data.copy()
        other[place] = 1
        assert not is_plain(bytes(other)) and changed(bytes(other))


def test_catalog_moves_an_item_that_reaches_two_sides_to_the_middle() -> None:
    """There is no border to cut along its length, yet it lies at the side of the square."""
    image = Image.new("RGB", (200, 200), "white")
    image.paste((40, 60, 90), (0, 0, 90, 200))
    assert changed(plain_jpeg(image), CATALOG)
    found = pixels(plain_jpeg(image), CATALOG)
    assert found.shape == (200, 200, 3)
    assert close(found[100, 100], (40, 60, 90)) and close(found[100, :20], 255) and close(found[100, -20:], 255)


def test_catalog_passes_squares_alone_and_those_without_a_border() -> None:
    noise = Image.effect_noise((64, 64), 60).convert("RGB")
    assert not changed(plain_jpeg(noise), CATALOG)
    assert changed(plain_jpeg(noise.crop((0, 0, 64, 60))), CATALOG)
    bordered = Image.new("RGB", (128, 128), "white")
    bordered.paste(noise.point(lambda value: value // 2), (32, 32))
    assert changed(plain_jpeg(bordered), CATALOG)


scenes = st.fixed_dictionaries(
    {
        "ground": st.sampled_from([(255,) * 3, (252, 252, 252), (246, 246, 246), (250, 248, 244), (120, 140, 90)]),
        "color": st.tuples(st.integers(0, 220), st.integers(0, 220), st.integers(0, 220)),
        "box": st.tuples(st.integers(0, 140), st.integers(0, 190), st.integers(80, 220), st.integers(80, 270)).map(
            lambda b: (b[0], b[1], min(SIZE[0], b[0] + b[2]), min(SIZE[1], b[1] + b[3]))
        ),
        "shape": st.sampled_from(["rectangle", "ellipse"]),
        "shadow": st.sampled_from([0, 0, 0.1, 0.3]),
        "blur": st.integers(3, 12),
        "quality": st.sampled_from([0, 95]),
    }
)
"""Items of 80 pixels or more: on smaller ones in poorer JPEGs the blocks of colour are wider than ``SLACK``."""


# The same scenes each time: of 2,500 others three changed, each with an item of 80 pixels in its shadow.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(scenes, st.sampled_from([100, 256, 512]), st.sampled_from(["catalog", "none"]))
def test_normalising_again_changes_no_byte(drawn: dict, max_side: int, preprocess: str) -> None:
    how = Normalization(preprocess, max_side=max_side)
    once = normalize_image(scene(**drawn), how)
    again = normalize_bytes(once.data, how)
    assert again.data == once.data
