"""Any photograph -> an upright sRGB baseline JPEG, 8-bit RGB, 4:2:0, no metadata: the one format that hardware decodes.

file -> bytes (``reading``) -> pixels (``decode``) -> [crop to the item (``item``)] -> [H: trim (``trim``), square] ->
at most ``max_side`` -> JPEG. What already is such a JPEG passes through byte for byte. See docs/normalisation.md.

``preprocess="catalog"`` is the pre-processing H of the method: trim a near-white border, pad to a white square.
``"none"`` does only what the format demands. Both never enlarge.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from shards.decode import decode
from shards.item import item_box
from shards.jpeg import is_plain
from shards.perceptual_hash import perceptual_hash
from shards.places import Place
from shards.reading import read_photograph
from shards.rejects import Rejected
from shards.trim import Box, trim_box

PREPROCESS = ("catalog", "none")
SLACK = 0.08
"""Of the side of a square: a border that trimming would cut, and a shift that squaring would make, up to which a JPEG
of the one format is left as it is. When a photograph is normalised again, its scale, the noise of its JPEG and the
rounding of its margin move the box by up to 6 % (drawn scenes, max_side 100 and 512)."""


@dataclass(frozen=True)
class Normalization:
    """How photographs are brought to the one format; limits apply before any pixel is decoded."""

    preprocess: str = "catalog"
    max_side: int = 512
    """Pixels of the long side; smaller photographs stay as they are."""
    jpeg_quality: int = 90
    max_pixels: int = 50_000_000
    max_file_bytes: int = 256 << 20


@dataclass(frozen=True)
class Jpeg:
    data: bytes
    height: int
    width: int
    phash: int = 0
    """Perceptual hash of 64 bits: photographs that look alike differ in few of them."""
    source_bytes: int = 0
    """Size of the file that it was made from; 0 for a drawing."""


def normalize_file(
    file: Place, how: Normalization, crop_to_item: bool = False, *, when_read: Callable[[], None] = lambda: None
) -> Jpeg:
    """Read and normalise one file; ``when_read`` is called in between.

    Raises ``Rejected`` with a reason of ``IMAGE_REASONS``, and what ``read_photograph`` raises.
    """
    data = read_photograph(file, how.max_file_bytes)
    when_read()
    return normalize_bytes(data, how, crop_to_item)


def normalize_bytes(data: bytes, how: Normalization, crop_to_item: bool = False) -> Jpeg:
    """Normalise an encoded image of any kind that is decoded. Raises ``Rejected``."""
    if not data:
        raise Rejected("empty_file", "0 bytes")
    image = decode(data, how.max_side, how.max_pixels)
    if max(image.size) <= how.max_side and is_plain(data) and _stays(image, how, crop_to_item):
        return Jpeg(data, image.height, image.width, perceptual_hash(image), len(data))
    return replace(normalize_image(image, how, crop_to_item), source_bytes=len(data))


def normalize_image(image: Image.Image, how: Normalization, crop_to_item: bool = False) -> Jpeg:
    """Crop, trim, square and shrink as asked, then encode an upright sRGB image of mode RGB."""
    box = _box(image, how, crop_to_item)
    if box != (0, 0, *image.size):
        image = image.crop(box)
    if (size := _fit(image.width, image.height, how.max_side)) != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if how.preprocess == "catalog":
        image = _square(image)
    buffer = io.BytesIO()
    image.info = {}
    image.save(buffer, "JPEG", quality=how.jpeg_quality, subsampling=2, progressive=False, optimize=False)
    return Jpeg(buffer.getvalue(), image.height, image.width, perceptual_hash(image))


def _box(image: Image.Image, how: Normalization, crop_to_item: bool) -> Box:
    """What is kept of the frame: without its white border, and of that the item alone where asked."""
    box = trim_box(image) if how.preprocess == "catalog" else (0, 0, *image.size)
    if not crop_to_item:
        return box
    left, top, right, bottom = item_box(image.crop(box))
    return box[0] + left, box[1] + top, box[0] + right, box[1] + bottom


def _stays(image: Image.Image, how: Normalization, crop_to_item: bool) -> bool:
    """Whether normalising ``image``, no larger than wanted, would change nothing of it, but for ``SLACK``."""
    if how.preprocess == "catalog" and image.width != image.height:
        return False
    if how.preprocess != "catalog" and not crop_to_item:
        return True
    left, top, right, bottom = _box(image, how, crop_to_item)
    allowed = 1 + SLACK * max(image.size)
    if how.preprocess != "catalog":
        return max(left, top, image.width - right, image.height - bottom) <= allowed
    side = image.width
    off_centre = max(abs(left + right - side), abs(top + bottom - side)) / 2
    return side - max(right - left, bottom - top) <= allowed and off_centre <= allowed


def _fit(width: int, height: int, max_side: int) -> tuple[int, int]:
    long_side = max(width, height)
    if long_side <= max_side:
        return width, height
    return max(1, round(width * max_side / long_side)), max(1, round(height * max_side / long_side))


def _square(image: Image.Image) -> Image.Image:
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
