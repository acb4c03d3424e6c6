"""A look at a JPEG before the decoder: one that can not be decoded makes a whole DALI pipeline invalid.

The markers are walked, no pixel is decoded: some microseconds a photograph, against milliseconds for a new pipeline and
the search for who it was. What passes and still fails in the decoder is found by ``cropper.py``.
"""

from __future__ import annotations

from functools import lru_cache

SCAN = 0xDA
HUFFMAN, QUANTIZATION, ARITHMETIC_CONDITIONING = 0xC4, 0xDB, 0xCC
FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
"""Baseline, extended, progressive, and the arithmetic two: what the decoders take."""
WITHOUT_HUFFMAN = frozenset((0xC9, 0xCA))
PROGRESSIVE = frozenset((0xC2, 0xCA))
TAIL_BYTES = 1024
SCAN_HEADER_BYTES = 14
"""Of a scan of three components, its marker included; a longer one is not found whole, and all is walked."""
LONGEST_CACHED = 2048
MOST_BLOCKS = 10
"""Of a scan's smallest unit (ITU-T T.81, B.2.3)."""


def fault(data: bytes, height: int, width: int) -> str:
    """What is wrong with the JPEG of a photograph that should be of ``height`` x ``width``; "" where nothing shows.

    ::

        SOI, then segments up to the first scan, each within the file;  a frame of 8 bits and of the wanted size;
        the tables that the scan names, none of them impossible;  an end-of-image marker behind it
    """
    if data[:2] != b"\xff\xd8":
        return "no start-of-image marker"
    if data[-2:] != b"\xff\xd9" and b"\xff\xd9" not in data[-TAIL_BYTES:]:
        return "no end-of-image marker: cut short"
    scan = data.find(b"\xff\xda")
    head = data[: scan + SCAN_HEADER_BYTES]
    # Photographs of one encoder and size begin alike. These bytes can also stand within a segment: then all is walked.
    if 0 < scan < LONGEST_CACHED and not _walked_before(head, height, width):
        return ""
    return _walked(data, height, width)


def _walked(data: bytes, height: int, width: int) -> str:
    place, size, frame = 2, len(data), b""
    kind, tables, codes = 0, frozenset[int](), frozenset[int]()
    while True:
        if place + 4 > size or data[place] != 0xFF:
            return f"no marker at byte {place}"
        marker, length = data[place + 1], (data[place + 2] << 8) | data[place + 3]
        if marker == 0xFF:  # padding
            place += 1
            continue
        body = data[place + 4 : place + 2 + length]
        if length < 2 or place + 2 + length > size:
            return f"a segment of {length} bytes at byte {place}"
        if marker in FRAMES:
            if kind:
                return "two frames"
            kind, frame = marker, body
        elif 0xC0 <= marker <= 0xCF and marker not in (HUFFMAN, ARITHMETIC_CONDITIONING):
            return f"frame marker 0x{marker:02X}"
        elif marker in (QUANTIZATION, HUFFMAN):
            named = _quantization(body) if marker == QUANTIZATION else _huffman(body)
            if named is None:
                return f"impossible {'quantization' if marker == QUANTIZATION else 'Huffman'} tables"
            tables, codes = (tables | named, codes) if marker == QUANTIZATION else (tables, codes | named)
        elif marker == SCAN:
            return _frame(kind, frame, tables, height, width) or _scan(kind, frame, body, codes)
        place += 2 + length


_walked_before = lru_cache(maxsize=4096)(_walked)


def _quantization(body: bytes) -> frozenset[int] | None:
    """The tables that a segment defines; None where it can not be one."""
    place, tables = 0, set()
    while place < len(body):
        precision, number = body[place] >> 4, body[place] & 15
        place += 1 + 64 * (1 + precision)
        if precision > 1 or number > 3:
            return None
        tables.add(number)
    return frozenset(tables) if place == len(body) else None


def _huffman(body: bytes) -> frozenset[int] | None:
    """The tables that a segment defines, class and number in one byte; None where it can not be one.

    A table has at most 256 codes and never more of a length than are left; one for DC coefficients names sizes to 15.
    """
    place, tables = 0, set()
    while place < len(body):
        counts, room = body[place + 1 : place + 17], 1
        values = body[place + 17 : place + 17 + sum(counts)]
        for count in counts:
            room = 2 * room - count
            if room < 0:
                return None
        of_dc = body[place] >> 4 == 0
        if body[place] & 0xEF > 3 or sum(counts) > 256 or (of_dc and values and max(values) > 15):
            return None
        tables.add(body[place])
        place += 17 + sum(counts)
    return frozenset(tables) if place == len(body) else None


def _frame(kind: int, frame: bytes, tables: frozenset[int], height: int, width: int) -> str:
    if not kind:
        return "no frame before the first scan"
    if len(frame) < 6 or frame[5] not in (1, 3, 4) or len(frame) != 6 + 3 * frame[5]:
        return "a frame header that is none"
    if frame[0] != 8:
        return f"{frame[0]} bits"
    found = (frame[1] << 8) | frame[2], (frame[3] << 8) | frame[4]
    if found != (height, width):
        return f"{found[0]} x {found[1]} pixels, the index says {height} x {width}"
    for component in range(frame[5]):
        factors, table = frame[7 + 3 * component], frame[8 + 3 * component]
        if not 1 <= factors >> 4 <= 4 or not 1 <= factors & 15 <= 4:
            return "impossible sampling factors"
        if table not in tables:
            return "a quantization table that is missing"
    return ""


def _scan(kind: int, frame: bytes, scan: bytes, codes: frozenset[int]) -> str:
    count = scan[0] if scan else 0
    if not 1 <= count <= 4 or len(scan) != 4 + 2 * count:
        return "a scan header that is none"
    identities, blocks = frame[6::3], 0
    for component in range(count):
        place = identities.find(scan[1 + 2 * component])
        if place < 0:
            return "a scan of a component that the frame lacks"
        factors = frame[7 + 3 * place]
        blocks += (factors >> 4) * (factors & 15)
        wanted = scan[2 + 2 * component]
        if kind in WITHOUT_HUFFMAN:
            continue
        if wanted >> 4 not in codes or (kind not in PROGRESSIVE and 0x10 | (wanted & 15) not in codes):
            return "a Huffman table that is missing"
    return "" if count == 1 or blocks <= MOST_BLOCKS else "sampling factors too large for one scan"
