"""The laws by which windows and boxes are drawn, vectorised: functions of uniform numbers given from outside."""

from __future__ import annotations

import numpy as np

TRIES = 10


def between(u: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """U(low, high) from U(0, 1)."""
    return low + u * (high - low)


def random_resized_windows(
    height: np.ndarray,
    width: np.ndarray,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    u_area: np.ndarray,
    u_aspect: np.ndarray,
    u_y: np.ndarray,
    u_x: np.ndarray,
) -> np.ndarray:
    """Crop windows by torchvision's RandomResizedCrop law, [n, 4] int64 as (y, x, height, width).

    height, width: [n] of the photographs. u_area, u_aspect: [n, 10], the tries drawn in advance. u_y, u_x: [n].

        for each try:  area = H W U(scale);  a = exp U(ln aspect);  w, h = round sqrt(area a), round sqrt(area / a)
        the first try with 0 < w <= W and 0 < h <= H, at a uniform place; if none fits, the largest centred window
        whose aspect lies within the bounds
    """
    high, wide = height[:, None].astype(np.float64), width[:, None].astype(np.float64)
    area = high * wide * between(u_area, *scale)
    ratio = np.exp(between(u_aspect, np.log(aspect[0]), np.log(aspect[1])))
    tried_w, tried_h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (tried_w > 0) & (tried_w <= wide) & (tried_h > 0) & (tried_h <= high)
    first, any_fits, rows = fits.argmax(axis=1), fits.any(axis=1), np.arange(len(height))
    centred_h, centred_w = _largest_window(height, width, aspect)
    h = np.where(any_fits, tried_h[rows, first], centred_h).astype(np.int64)
    w = np.where(any_fits, tried_w[rows, first], centred_w).astype(np.int64)
    y = np.where(any_fits, np.floor(u_y * (height - h + 1)), (height - h) // 2).astype(np.int64)
    x = np.where(any_fits, np.floor(u_x * (width - w + 1)), (width - w) // 2).astype(np.int64)
    return np.stack([y, x, h, w], axis=1)


def _largest_window(
    height: np.ndarray, width: np.ndarray, aspect: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    too_narrow, too_wide = width / height < aspect[0], width / height > aspect[1]
    h = np.where(too_narrow, np.maximum(np.rint(width / aspect[0]), 1), height)
    w = np.where(too_wide, np.maximum(np.rint(height * aspect[1]), 1), width)
    return h, w


def zoom_windows(
    height: np.ndarray,
    width: np.ndarray,
    area: np.ndarray,
    aspect: np.ndarray,
    center_y: np.ndarray,
    center_x: np.ndarray,
) -> np.ndarray:
    """Windows of a share of the photograph about a given centre, moved inside it, [n, 4] int64 (y, x, height, width).

    ``aspect`` is relative to the photograph's own: 2 with area .5 is the full width and half the height.
    """
    h = np.clip(np.rint(height * np.sqrt(area / aspect)), 1, height).astype(np.int64)
    w = np.clip(np.rint(width * np.sqrt(area * aspect)), 1, width).astype(np.int64)
    y = np.clip(np.rint(center_y * height - h / 2), 0, height - h).astype(np.int64)
    x = np.clip(np.rint(center_x * width - w / 2), 0, width - w).astype(np.int64)
    return np.stack([y, x, h, w], axis=1)


def erase_boxes(size: int, area: np.ndarray, aspect: np.ndarray, u_y: np.ndarray, u_x: np.ndarray) -> np.ndarray:
    """Boxes of a share ``area`` of a square crop, height / width ``aspect``, [n, 4] float32 (y, x, height, width)."""
    h = np.clip(np.rint(size * np.sqrt(area * aspect)), 0, size)
    w = np.clip(np.rint(size * np.sqrt(area / aspect)), 0, size)
    y, x = np.floor(u_y * (size - h + 1)), np.floor(u_x * (size - w + 1))
    return np.stack([y, x, h, w], axis=1).astype(np.float32)
