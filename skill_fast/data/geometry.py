"""Rotation, scale, flip and perspective as one homography a crop, from the crop's pixels back into the photograph's.

Coordinates are continuous with the origin at a corner: pixel i covers [i, i + 1). Matrices act on (x, y, 1).
"""

from __future__ import annotations

import numpy as np


def translations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, 3, 3] that move by (x, y)."""
    return scalings(np.ones(len(x)), np.ones(len(x)), x, y)


def scalings(
    scale_x: np.ndarray, scale_y: np.ndarray, x: np.ndarray | float = 0.0, y: np.ndarray | float = 0.0
) -> np.ndarray:
    """[n, 3, 3] that scale about the origin, then move by (x, y)."""
    matrices = np.zeros((len(scale_x), 3, 3))
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 2, 2] = scale_x, scale_y, 1.0
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


def inverse_turns(degrees: np.ndarray, scale: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """[n, 3, 3], back from: flip upside down, turn counter-clockwise, grow by ``scale``, all about the origin."""
    angle = np.deg2rad(degrees)
    cos, sin, sign = np.cos(angle) / scale, np.sin(angle) / scale, np.where(flipped, -1.0, 1.0)
    matrices = np.zeros((len(degrees), 3, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = cos, -sin  # y points down: counter-clockwise to the eye is clockwise here
    matrices[:, 1, 0], matrices[:, 1, 1] = sign * sin, sign * cos
    matrices[:, 2, 2] = 1.0
    return matrices


def inverse_perspectives(height: np.ndarray, width: np.ndarray, inward: np.ndarray) -> np.ndarray:
    """[n, 3, 3], back from: corners moved inwards.

    inward: [n, 4, 2] the way of each corner (top left, top right, bottom right, bottom left) along x and y, as
    shares of the width and height. The forward map takes the unit square to the moved corners (Heckbert 1989,
    section 2.2.3).
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    moved = corners + inward * np.where(corners == 0, 1.0, -1.0)
    p0, p1, p2, p3 = (moved[:, i] for i in range(4))
    d1, d2, sums = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    cross = d1[:, 0] * d2[:, 1] - d2[:, 0] * d1[:, 1]
    g = (sums[:, 0] * d2[:, 1] - d2[:, 0] * sums[:, 1]) / cross
    h = (d1[:, 0] * sums[:, 1] - sums[:, 0] * d1[:, 1]) / cross
    forward = np.empty((len(moved), 3, 3))
    forward[:, :2, 0] = p1 - p0 + g[:, None] * p1
    forward[:, :2, 1] = p3 - p0 + h[:, None] * p3
    forward[:, :2, 2] = p0
    forward[:, 2] = np.stack([g, h, np.ones(len(moved))], axis=1)
    return scalings(width, height) @ np.linalg.inv(forward) @ scalings(1 / width, 1 / height)


def apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[n, k, 2] images of the points [k, 2] under each matrix [n, 3, 3]."""
    mapped = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ matrices.transpose(0, 2, 1)
    return mapped[..., :2] / mapped[..., 2:]


def source_regions(
    matrices: np.ndarray, size: int, height: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split crops bent by a homography into an upright resize and a warp at the crop's own resolution.

    matrices: [n, 3, 3] from a crop of ``size`` pixels into the photograph. Returns the regions of the photograph
    that the crops see, [n, 4] (y0, x0, y1, x1) whole pixels inside it; the sizes [n, 2] (height, width) to which
    they are resized; and the homographies [n, 3, 3] from the crop into the resized regions. Resizing first gives
    the antialiasing that a bilinear warp lacks.
    """
    corners = apply(matrices, np.array([[0.0, 0], [size, 0], [size, size], [0, size]]))
    pitch = _pitches(matrices, size)
    margin = np.ceil(2 * pitch)
    photograph = np.stack([width, height], axis=1)
    low = np.clip(np.floor(corners.min(axis=1) - margin), 0, photograph - 1)
    high = np.clip(np.ceil(corners.max(axis=1) + margin), low + 1, photograph)
    resized = np.clip(np.ceil((high - low) / pitch), 1, 4 * size)
    factor = resized / (high - low)
    into = scalings(factor[:, 0], factor[:, 1], -low[:, 0] * factor[:, 0], -low[:, 1] * factor[:, 1])
    regions = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
    return regions, resized[:, ::-1], into @ matrices


def _pitches(matrices: np.ndarray, size: int) -> np.ndarray:
    """Pixels of the photograph per pixel of the crop along x and y at the crop's centre, [n, 2]."""
    center = np.array([[size / 2, size / 2], [size / 2 + 1, size / 2], [size / 2, size / 2 + 1]])
    points = apply(matrices, center)
    along_u, along_v = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    return np.maximum(np.hypot(along_u, along_v), 1e-3)
