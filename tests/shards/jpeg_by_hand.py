"""JPEGs of kinds that no encoder at hand writes, made bit by bit from ITU-T T.81: lossless, and 12 bits a sample."""

from __future__ import annotations

import struct

import numpy as np

_SIZES = 13
"""Categories 0 to 12 of a difference; their codes have four bits each, 0000 to 1100."""


def lossless(values: np.ndarray) -> bytes:
    """SOF3 of [H, W, C] uint8: predictor 1 (the sample to the left; the first column from the sample above)."""
    height, width, components = values.shape
    bits = _Bits()
    samples = values.astype(int)
    for y in range(height):
        for x in range(width):
            for c in range(components):
                before = samples[y, x - 1, c] if x else samples[y - 1, 0, c] if y else 128
                bits.difference(samples[y, x, c] - before)
    return _file(0xC3, 8, height, width, components, bits, selection=(1, 0, 0))


def twelve_bit(blocks: np.ndarray) -> bytes:
    """SOF1 with 12 bits a sample: [H, W] blocks of 8 x 8, each of one grey value, 0 to 4095."""
    bits, before = _Bits(), 0
    for value in blocks.ravel():
        # The mean of a block is an eighth of its DC coefficient.
        dc = int(value - 2048) * 8 // 16
        bits.difference(dc - before)
        bits.put(0, 4)  # end of block, category 0 of the AC table
        before = dc
    return _file(0xC1, 12, 8 * blocks.shape[0], 8 * blocks.shape[1], 1, bits, selection=(0, 63, 0))


def _file(frame: int, precision: int, height: int, width: int, count: int, bits: _Bits, selection: tuple) -> bytes:
    table = bytes([0, 0, 0, _SIZES] + [0] * 12) + bytes(range(_SIZES))
    head = struct.pack(">BHHB", precision, height, width, count)
    frame_body = head + b"".join(bytes([1 + c, 0x11, 0]) for c in range(count))
    scan = bytes([count]) + b"".join(bytes([1 + c, 0]) for c in range(count)) + bytes(selection)
    parts = [b"\xff\xd8", _segment(0xDB, b"\0" + bytes([16] * 64)), _segment(frame, frame_body)]
    parts += [_segment(0xC4, b"\0" + table), _segment(0xC4, b"\x10" + table), _segment(0xDA, scan), bits.data()]
    return b"".join(parts) + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


class _Bits:
    def __init__(self) -> None:
        self._text: list[str] = []

    def put(self, value: int, count: int) -> None:
        self._text.append(format(value, f"0{count}b"))

    def difference(self, value: int) -> None:
        """The category's code and the value's own bits; negative ones are counted from below (T.81, F.1.2.1)."""
        size = abs(int(value)).bit_length()
        self.put(size, 4)
        if size:
            self.put(value if value > 0 else value + (1 << size) - 1, size)

    def data(self) -> bytes:
        text = "".join(self._text)
        text += "1" * (-len(text) % 8)
        coded = bytes(int(text[place : place + 8], 2) for place in range(0, len(text), 8))
        return coded.replace(b"\xff", b"\xff\0")
