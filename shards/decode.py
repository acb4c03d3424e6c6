"""Bytes of any kind -> upright sRGB pixels, or a named verdict. See docs/normalisation.md for the matrix of formats."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageFile

from shards.claims import judge_claims, judge_size
from shards.color import to_rgb
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
_CUT_SHORT = ("truncat", "unexpected end", "too short", "not enough", "buffer overrun")
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
            return _pixels(image, max_side, max_pixels)
        except Rejected:
            raise
        except Image.DecompressionBombError as error:
            raise Rejected("too_many_pixels", str(error)) from error
        except MemoryError as error:
            raise Rejected("out_of_memory", "not enough memory to decode it") from error
        except Exception as error:  # a decoder may raise anything on hostile bytes
            raise Rejected(_verdict(data, error), f"{type(error).__name__}: {error}") from error


def _pixels(image: ImageFile.ImageFile, max_side: int, max_pixels: int) -> Image.Image:
    if image.format == "TIFF":
        tile_width, tile_height = (int(image.tag_v2.get(tag, 0)) for tag in _TILE)  # type: ignore[attr-defined]
        judge_size(tile_width, tile_height, max_pixels)
    orientation = _orientation(image)
    _reduce_while_decoding(image, max_side * DRAFT_RESERVE)
    image.load()
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
    """Whether the file's own header promises more bytes than there are: WebP and BMP say how many."""
    if data[:4] == b"RIFF":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return data[:2] == b"BM" and int.from_bytes(data[2:6], "little") > len(data)
