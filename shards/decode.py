"""Bytes of any kind -> upright sRGB pixels, or a named verdict. See docs/normalisation.md for the matrix of formats."""

from __future__ import annotations

import io
import warnings
from typing import Literal

from PIL import Image, ImageFile

from shards.claims import judge_claims, judge_size
from shards.color import to_rgb
from shards.jpeg import has_reduced_sizes
from shards.rejects import Rejected

DRAFT_RESERVE = 2
"""A large JPEG is decoded at a reduced size of at least this many times max_side, as trimming may still cut it."""
ORIENTATION = 0x0112
_TILE = (0x0142, 0x0143)
"""TIFF's tags of a tile's width and height."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_CUT_SHORT = (
    "truncat",
    "unexpected end",
    "not enough",
    "requires a buffer of",
    "reached eof",
    "expected to read",
    "incomplete checksum",
    "chunk b''",
    "no more images",
)
"""What decoders say of a file that ends early."""


def decode(data: bytes, max_side: int, max_pixels: int) -> Image.Image:
    """The first frame or page of ``data``, upright, mode RGB, sRGB, alpha over white.

    A JPEG may come at 1/2, 1/4 or 1/8, but with at least ``DRAFT_RESERVE * max_side`` pixels on its long side.
    Raises Rejected, before a pixel is allocated where the file claims too much.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and large sizes; the verdict here is a photograph or a named reject.
        warnings.simplefilter("ignore")
        try:
            kind = judge_claims(data, max_pixels)
            # The plugin itself, as Image.open would not tell what it found wrong.
            image = Image.OPEN[kind][0](io.BytesIO(data), "")
            judge_size(image.width, image.height, max_pixels)
            return _pixels(image, data, max_side, max_pixels)
        except Rejected:
            raise
        except Image.DecompressionBombError as error:
            raise Rejected("too_many_pixels", str(error)) from error
        except MemoryError as error:
            raise Rejected("out_of_memory", "not enough memory to decode it") from error
        except Exception as error:  # a decoder may raise anything on hostile bytes
            raise Rejected(_verdict(data, error), f"{type(error).__name__}: {error}") from error


def _pixels(image: ImageFile.ImageFile, data: bytes, max_side: int, max_pixels: int) -> Image.Image:
    if image.format == "TIFF":
        tile_width, tile_height = (int(image.tag_v2.get(tag, 0)) for tag in _TILE)  # type: ignore[attr-defined]
        judge_size(tile_width, tile_height, max_pixels)
    if image.format == "JPEG" and has_reduced_sizes(data):
        _reduce_while_decoding(image, max_side * DRAFT_RESERVE)
    image.load()
    # Only now: a PNG may have it behind the pixels, and of a TIFF Pillow itself has turned the pixels and said so.
    orientation = _orientation(image)
    pixels = to_rgb(image)
    return pixels.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else pixels


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF: the photograph is taken as it lies
        return 1


def _reduce_while_decoding(image: ImageFile.ImageFile, least_long_side: int) -> None:
    """Let the JPEG decoder drop to 1/2, 1/4 or 1/8 where that still leaves ``least_long_side`` pixels."""
    share = least_long_side / max(image.size)
    if share < 1:
        image.draft(image.mode, (-int(-image.width * share // 1), -int(-image.height * share // 1)))


def _verdict(data: bytes, error: Exception) -> str:
    if isinstance(error, EOFError) or _ends_early(data):
        return "truncated"
    said = str(error).lower()
    return "truncated" if any(words in said for words in _CUT_SHORT) else "undecodable"


def _ends_early(data: bytes) -> bool:
    """Whether the file lacks the end that its own header promises; asked only of files that can not be decoded."""
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[:2] == b"BM":
        return int.from_bytes(data[2:6], "little") > len(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        place = int.from_bytes(data[4:8], order)
        # The directory of a page: how many entries, 12 bytes each, and the place of the next one.
        return place + 2 + 12 * int.from_bytes(data[place : place + 2], order) + 4 > len(data)
    if data[:4] == b"\x89PNG":
        return b"IEND" not in data[-64:]
    is_jpeg = data[:2] == b"\xff\xd8"
    return (is_jpeg or data[4:8] == b"jP  " or data[:4] == b"\xff\x4f\xff\x51") and b"\xff\xd9" not in data
