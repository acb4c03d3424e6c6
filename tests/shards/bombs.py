"""A9: files that claim far more than they hold. As a program: judge the files of a folder and print what each cost.

python -m tests.shards.bombs FOLDER    a JSON line a file: name, reason ("" where accepted), seconds, peak_mib (growth)
"""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from shards.normalize import Normalization, normalize_bytes
from shards.rejects import Rejected
from tests.shards.png_by_hand import chunk, header, png

PICTURE = Image.fromarray(np.arange(64 * 48 * 3).astype(np.uint8).reshape(48, 64, 3))
MIB = bytes(1 << 20)
_PIXELS = chunk(b"IDAT", zlib.compress(b"\0\1\2\3" * 1))


def encode(format: str, **options) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, format, **options)
    return buffer.getvalue()


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def behind(data: bytes, word: bytes, offset: int, new: bytes) -> bytes:
    """``data`` with ``new`` at ``offset`` bytes behind the start of ``word``."""
    assert word in data
    return patched(data, data.index(word) + offset, new)


def jpeg(width: int, height: int) -> bytes:
    return behind(encode("JPEG"), b"\xff\xc0", 5, struct.pack(">HH", height, width))


def many_scans(stray: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan comes 5,000 times, with ``stray`` bytes before each."""
    data = encode("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + (stray + data[last:-2]) * 5000 + data[-2:]


def exif_of_overlapping_values() -> bytes:
    """A JPEG whose EXIF has thousands of tags that each claim the same 60 kB."""
    entries = b"".join(struct.pack("<HHII", 1000 + tag, 7, 60_000, 8) for tag in range(5000))
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + entries + bytes(4)
    return b"\xff\xd8" + struct.pack(">BBH", 0xFF, 0xE1, 2 + len(body)) + body + encode("JPEG")[2:]


def webp(kind: bytes, body: bytes) -> bytes:
    part = kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(part)) + b"WEBP" + part


def webp_canvas(flags: int, more: bytes = b"") -> bytes:
    size = (16_777_215).to_bytes(3, "little")
    head = webp(b"VP8X", bytes([flags, 0, 0, 0]) + size + (15).to_bytes(3, "little"))
    return head[:4] + struct.pack("<I", len(head) - 8 + len(more)) + head[8:] + more


def animated_webp() -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)] * 3)
    return behind(buffer.getvalue(), b"VP8X", 12, (16_383).to_bytes(3, "little") * 2)


def tiff(*entries: tuple[int, int, int, int], next_page: int = 0) -> bytes:
    tags = sorted(entries)
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *entry) for entry in tags)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", next_page) + bytes(4096)


GREY = ((258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
SMALL = ((256, 4, 1, 16), (257, 4, 1, 16), *GREY, (273, 4, 1, 200), (278, 4, 1, 16), (279, 4, 1, 256))


def bmp(width: int, height: int) -> bytes:
    return patched(encode("BMP"), 18, struct.pack("<ii", width, height))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png forged header": (lambda: png(header(60_000, 60_000), _PIXELS), "too_many_pixels"),
    "png largest header": (lambda: png(header(2**31 - 1, 2**31 - 1), _PIXELS), "too_many_pixels"),
    "png 64 MP of zeros": (
        lambda: png(header(8000, 8000, 1, 0), chunk(b"IDAT", zlib.compress(bytes(1001 * 8000), 9))),
        "too_many_pixels",
    ),
    "png zTXt of 64 MiB": (
        lambda: png(header(1, 1), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MIB * 64)), _PIXELS),
        "undecodable",
    ),
    "png iTXt of 64 MiB": (
        lambda: png(header(1, 1), chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(MIB * 64)), _PIXELS),
        "undecodable",
    ),
    "png 200 texts of 1 MiB": (
        lambda: png(header(1, 1), *[chunk(b"zTXt", b"C\0\0" + zlib.compress(MIB[:-1]))] * 200, _PIXELS),
        "undecodable",
    ),
    "png profile of 64 MiB": (
        lambda: png(header(1, 1), chunk(b"iCCP", b"name\0\0" + zlib.compress(MIB * 64)), _PIXELS),
        "undecodable",
    ),
    "png 16-bit forged": (lambda: png(header(8000, 8000, 16, 6), _PIXELS), "too_many_pixels"),
    "jpeg forged header": (lambda: jpeg(65_500, 65_500), "too_many_pixels"),
    "jpeg 5,000 scans": (many_scans, "too_many_scans"),
    "jpeg 5,000 scans behind stray bytes": (lambda: many_scans(b"\0stray\xff\0"), "too_many_scans"),
    "jpeg exif of overlapping values": (exif_of_overlapping_values, ""),
    "gif forged screen": (lambda: patched(encode("GIF"), 6, b"\xff" * 4), "too_many_pixels"),
    "gif frame beyond the screen": (lambda: behind(encode("GIF"), b"\x2c\0\0\0\0", 5, b"\xff" * 4), "too_many_pixels"),
    "webp lossy forged": (
        lambda: webp(b"VP8 ", b"\x30\x01\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(60)),
        "too_many_pixels",
    ),
    "webp lossless forged": (lambda: webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(60)), "too_many_pixels"),
    "webp canvas forged": (lambda: webp_canvas(0x10, encode("WEBP")[12:]), "too_many_pixels"),
    "webp canvas of 100 MP": (
        lambda: behind(webp_canvas(0x10, encode("WEBP")[12:]), b"VP8X", 12, (9_999).to_bytes(3, "little") * 2),
        "too_many_pixels",
    ),
    "webp animated, canvas forged": (animated_webp, "too_many_pixels"),
    "avif forged": (lambda: behind(encode("AVIF"), b"ispe", 8, struct.pack(">II", 16_000, 16_000)), "too_many_pixels"),
    "avif forged beyond its library's limit": (
        lambda: behind(encode("AVIF"), b"ispe", 8, struct.pack(">II", 2**31, 2**31)),
        "undecodable",
    ),
    "tiff forged": (lambda: tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000), *GREY, (273, 4, 1, 200)), "too_many_pixels"),
    "tiff small, with tiles forged": (
        lambda: tiff(*SMALL[:2], *GREY, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 200), (325, 4, 1, 256)),
        "too_many_pixels",
    ),
    "tiff pages in a ring": (lambda: tiff(*SMALL, next_page=8), ""),
    "tiff values that overlap": (
        lambda: tiff(*SMALL, *((1000 + tag, 7, 500_000, 8) for tag in range(10_000))) + bytes(100_000),
        "",
    ),
    "bmp forged": (lambda: bmp(60_000, 60_000), "too_many_pixels"),
    "bmp of negative height": (lambda: bmp(60_000, -60_000), "too_many_pixels"),
    "bmp of the most negative height": (lambda: bmp(2, -(2**31)), "too_many_pixels"),
    "jp2 box forged": (
        lambda: behind(encode("JPEG2000"), b"ihdr", 4, struct.pack(">II", 60_000, 60_000)),
        "too_many_pixels",
    ),
    "jp2 codestream forged behind a small box": (
        lambda: behind(encode("JPEG2000"), b"\xff\x4f\xff\x51", 8, struct.pack(">II", 60_000, 60_000)),
        "too_many_pixels",
    ),
    "ppm forged": (lambda: b"P6 60000 60000 255\n" + bytes(300), "too_many_pixels"),
    "pgm of endless digits": (lambda: b"P5 " + b"9" * 100_000 + b" 1 255\n" + bytes(300), "undecodable"),
}


def judge(data: bytes) -> str:
    try:
        normalize_bytes(data, Normalization("none"))
    except Rejected as rejected:
        return rejected.reason
    return ""


def peak_kib() -> int:
    """Of this program alone: ``ru_maxrss`` begins with the peak of whoever started it."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def main() -> None:
    for format in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM"):
        assert judge(encode(format)) == ""
    for path in sorted(Path(sys.argv[1]).iterdir()):
        data = path.read_bytes()
        before = peak_kib()
        start = time.process_time()
        reason = judge(data)
        seconds = time.process_time() - start
        growth = peak_kib() - before
        print(json.dumps({"name": path.name, "reason": reason, "seconds": seconds, "peak_mib": growth / 1024}))


if __name__ == "__main__":
    main()
