"""What a JPEG's markers say, without decoding it: the frame's kind, size and sampling, and the segments beside it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

BASELINE = 0xC0
LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JFIF, QUANTIZATION, HUFFMAN, COMMENT = 0xE0, 0xDB, 0xC4, 0xFE
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker that no entropy-coded data holds: there FF is followed by 00 or is a restart."""


@dataclass(frozen=True)
class JpegHeader:
    frame: int
    """Marker of the frame: 0xC0 is baseline, 0xC2 progressive."""
    bits: int
    height: int
    width: int
    sampling: tuple[tuple[int, int], ...]
    """Horizontal and vertical factor a component; ((2, 2), (1, 1), (1, 1)) is 4:2:0."""
    metadata: tuple[str, ...]
    """Segments that carry no pixels, but for the JFIF one: APPn and COM."""

    @property
    def fault(self) -> str:
        """What makes it another JPEG than the format's; "" where nothing does."""
        if self.frame != BASELINE:
            return f"frame marker 0x{self.frame:02X}"
        if self.bits != 8:
            return f"{self.bits} bits"
        if self.sampling != ((2, 2), (1, 1), (1, 1)):
            return f"sampling {self.sampling}"
        return f"metadata {', '.join(self.metadata)}" if self.metadata else ""


def read_header(data: bytes) -> JpegHeader:
    """Walk the segments up to the first scan; raises ValueError where the bytes are no JPEG."""
    metadata = []
    frame: tuple[int, bytes] | None = None
    for marker, place, length in segments(data):
        body = data[place + 4 : place + 2 + length]
        if marker in FRAMES:
            frame = (marker, body)
        elif 0xE0 <= marker <= 0xEF and body[:5] != b"JFIF\0":
            metadata.append(f"APP{marker - 0xE0}")
        elif marker == COMMENT:
            metadata.append("COM")
    if frame is None or len(frame[1]) < 6 or len(frame[1]) < 6 + 3 * frame[1][5]:
        raise ValueError("no whole frame header before the first scan")
    marker, body = frame
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    factors = [body[7 + 3 * component] for component in range(components)]
    return JpegHeader(marker, bits, height, width, tuple((f >> 4, f & 15) for f in factors), tuple(metadata))


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, place, length) of each segment up to the first scan's, included; raises ValueError at anything else."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no start-of-image marker")
    place, marker = 2, 0
    while marker != START_OF_SCAN:
        if place + 4 > len(data) or data[place] != 0xFF:
            raise ValueError(f"no marker at byte {place}")
        marker, length = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        yield marker, place, length
        place += 2 + length


def has_reduced_sizes(data: bytes) -> bool:
    """Whether its decoder can leave out resolution: not where there are no blocks of frequencies, in lossless ones."""
    try:
        return read_header(data).frame not in LOSSLESS
    except (ValueError, struct.error):
        return False


def count_scans(data: bytes, enough: int) -> int:
    """How many scans the first image has; counting stops beyond ``enough``.

    Entropy-coded data holds no FF DA, so that there are never more scans than times that these two bytes occur: most
    files are settled by that.
    """
    if (at_most := data.count(b"\xff\xda")) <= enough:
        return at_most
    scans, found = 0, _MARKER.search(data, 2)
    while found and scans <= enough:
        place, marker = found.start(), data[found.start() + 1]
        if marker == END_OF_IMAGE:
            break
        scans += marker == START_OF_SCAN
        # What a decoder does: a segment is passed over by its length, entropy-coded data and stray bytes by looking on.
        length = 0 if marker in (0x01, 0xD8) else int.from_bytes(data[place + 2 : place + 4], "big")
        found = _MARKER.search(data, place + 2 + length)
    return scans


def is_plain(data: bytes) -> bool:
    """Whether ``data`` is a JPEG as this program writes them.

    Baseline, 8 bits, 4:2:0, one scan, quantization tables of 8 bits, a JFIF segment without a thumbnail, no segment
    beside those that decoding needs, and nothing behind the end of the image. The pixels are not looked at.
    """
    try:
        header, found = read_header(data), list(segments(data))
    except (ValueError, struct.error):
        return False
    bodies = [(marker, data[place + 4 : place + 2 + length]) for marker, place, length in found]
    _, scan, scan_bytes = found[-1]
    return (
        not header.fault
        and [marker for marker, _ in bodies].count(JFIF) == 1
        and bodies[0][0] == JFIF
        and bodies[0][1][-2:] == b"\0\0"
        and len(bodies[0][1]) == 14
        and {marker for marker, _ in bodies} <= {JFIF, QUANTIZATION, BASELINE, HUFFMAN, START_OF_SCAN}
        and all(max(body[::65], default=16) < 16 for marker, body in bodies if marker == QUANTIZATION)
        and bodies[-1][1][:1] == b"\3"
        and data.count(b"\xff\xda") == 1
        and data.find(b"\xff\xd9", scan + 2 + scan_bytes) == len(data) - 2
    )
