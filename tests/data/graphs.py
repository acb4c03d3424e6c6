"""The oracle of the warp, and what runs the pixel graph on pictures of known pixels."""

from __future__ import annotations

import numpy as np

from benchmarks.pixels import PLAIN, crops_of, png, still_plan

__all__ = ["PLAIN", "crops_of", "png", "still_plan", "warped"]


def warped(picture: np.ndarray, homography: np.ndarray, size: int) -> np.ndarray:
    """The oracle of the warp, [size, size, 3] float64: bilinear, corner origin, white outside, pixel by pixel."""
    height, width, _ = picture.shape
    out = np.zeros((size, size, 3))
    for v in range(size):
        for u in range(size):
            x, y, z = homography @ np.array([u + 0.5, v + 0.5, 1.0])
            x, y = x / z - 0.5, y / z - 0.5
            for j, weight_y in ((int(np.floor(y)), 1 - y % 1), (int(np.floor(y)) + 1, y % 1)):
                for i, weight_x in ((int(np.floor(x)), 1 - x % 1), (int(np.floor(x)) + 1, x % 1)):
                    inside = 0 <= i < width and 0 <= j < height
                    out[v, u] += weight_y * weight_x * (picture[j, i] if inside else np.array([255.0] * 3))
    return out
