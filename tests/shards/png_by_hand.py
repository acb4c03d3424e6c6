"""PNG written out chunk by chunk: 16 bits a sample, and chunks that Pillow would not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_KIND = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> colour type."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: bytes, *chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def header(width: int, height: int, bits: int = 8, kind: int = 2) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)


def sixteen_bit(values: np.ndarray, *chunks: bytes) -> bytes:
    """[H, W] or [H, W, C] of 0..65535; ``chunks`` go before the pixels."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(header(width, height, 16, _KIND[channels]), *chunks, chunk(b"IDAT", zlib.compress(rows)))
