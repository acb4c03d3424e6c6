"""What a file says of itself, judged before a decoder sees it: its kind, its size, how much work it asks for.

Only what Pillow's own opening would act upon is read here; sizes that it reads without allocating are judged in
``shards.decode``, before the pixels are asked for.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from PIL import AvifImagePlugin, Image

from shards.jpeg import count_scans
from shards.rejects import Rejected

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""What is decoded, as far as Pillow was built with it; its other plugins (PostScript, video) are never asked."""
MAX_SCANS = 100
"""Of a JPEG. Encoders write about 10 (libjpeg's own script) and seldom 20; each scan is a walk over all blocks, so
that a file of 100 kB with thousands of them keeps a decoder busy for hours."""
_SIZ = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and of its size marker."""

# One photograph a core: the build's processes share the machine already.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def judge_claims(data: bytes, max_pixels: int) -> str:
    """The kind of ``data``, of ``FORMATS``; raises Rejected: not_an_image, too_many_pixels, too_many_scans."""
    kind = _kind(data)
    if kind == "JPEG":
        scans = count_scans(data, MAX_SCANS)
        if scans > MAX_SCANS:
            raise Rejected("too_many_scans", f"over {MAX_SCANS} scans")
    elif kind == "WEBP":
        judge_size(*_webp_canvas(data), max_pixels)
    elif kind == "JPEG2000":
        judge_size(*_codestream_size(data), max_pixels)
    return kind


def judge_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise Rejected("too_many_pixels", f"{width} x {height}, allowed {max_pixels} pixels")


def _kind(data: bytes) -> str:
    prefix = data[:16]
    for name in _formats():
        accept = Image.OPEN[name][1]
        # A plugin answers True, False, or the sentence that it was built without its library.
        if accept is None or accept(prefix) is True:
            return name
    raise Rejected("not_an_image", f"begins with {data[:12]!r}")


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas, which the decoder allocates when the file is opened."""
    chunk, head = data[12:16], data[:30].ljust(30, b"\0")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _codestream_size(data: bytes) -> tuple[int, int]:
    """Width and height by the codestream, which counts for the decoder more than the box that Pillow reads."""
    place = data.find(_SIZ)
    if place < 0 or place + 24 > len(data):
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">IIII", data, place + 8)
    return max(0, right - left), max(0, bottom - top)
