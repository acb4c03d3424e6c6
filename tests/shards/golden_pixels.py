"""Pictures whose pixels are known, in files of any format, and the check that decoding gives them back."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from shards.decode import decode
from shards.normalize import Normalization, normalize_bytes

PLAIN = Normalization("none")
Y, X = np.mgrid[0:32, 0:48]
RGB = np.stack([40 + 4 * X, 60 + 5 * Y, 200 - 3 * X], -1).astype(np.uint8)
"""Smooth, with no two corners alike, so that a JPEG of quality 90 keeps 40 dB."""
GREY = np.repeat((20 + 2 * X + 4 * Y).astype(np.uint8)[..., None], 3, axis=2)


def encode(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format, **options)
    return buffer.getvalue()


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((found.astype(float) - expected) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def assert_golden(data: bytes, expected: np.ndarray, smooth: bool = True) -> None:
    before = np.asarray(decode(data, PLAIN.max_side, PLAIN.max_pixels)).astype(float)
    assert before.shape == expected.shape
    assert np.abs(before - expected).max() <= 2
    jpeg = normalize_bytes(data, PLAIN)
    after = np.asarray(Image.open(io.BytesIO(jpeg.data)))
    assert after.shape == expected.shape
    if smooth:
        assert psnr(after, expected) >= 40
