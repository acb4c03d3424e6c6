"""What a JPEG's markers say, without decoding it: the frame's kind, size and sampling, and the segments beside it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

BASELINE = 0xC0
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = 0xDA


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
    if data[:2] != b"\xff\xd8":
        raise ValueError("no start-of-image marker")
    place, metadata = 2, []
    frame: tuple[int, bytes] | None = None
    while True:
        if place + 4 > len(data) or data[place] != 0xFF:
            raise ValueError(f"no marker at byte {place}")
        marker, length = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        body = data[place + 4 : place + 2 + length]
        if marker in FRAMES:
            frame = (marker, body)
        elif 0xE0 <= marker <= 0xEF and body[:5] != b"JFIF\0":
            metadata.append(f"APP{marker - 0xE0}")
        elif marker == 0xFE:
            metadata.append("COM")
        elif marker == START_OF_SCAN:
            break
        place += 2 + length
    if frame is None or len(frame[1]) < 6 or len(frame[1]) < 6 + 3 * frame[1][5]:
        raise ValueError("no whole frame header before the first scan")
    marker, body = frame
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    factors = [body[7 + 3 * component] for component in range(components)]
    return JpegHeader(marker, bits, height, width, tuple((f >> 4, f & 15) for f in factors), tuple(metadata))
