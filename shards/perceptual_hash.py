"""A perceptual hash: photographs that look alike differ in few of its 64 bits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

BITS_A_SIDE = 8
_SIDE = 4 * BITS_A_SIDE
_DIGITS = 6
"""Coefficients are rounded to so many: flat areas give zeros, not the last digits of one machine's arithmetic."""


def perceptual_hash(image: Image.Image) -> int:
    """64 bits of an image, row by row, the first one the highest; as ``imagehash.phash``, without its imports.

    grey = image as 32 x 32;  D = C @ grey @ C^T, C[k, n] = cos(pi k (2 n + 1) / 64), k < 8
    bit (u, v) = D[u, v] > median(D)
    """
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    grey = np.asarray(small, np.float64)
    transform = _cosines()
    low = np.round(transform @ grey @ transform.T, _DIGITS)
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    k, n = np.mgrid[0:BITS_A_SIDE, 0:_SIDE]
    return np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))
