"""The cloth patterns of drawn products: each maps cloth coordinates to the share of the second colour.

Only +, -, *, /, floor, sqrt and comparisons are used: they are exact in IEEE 754, so the same pattern gives the same
pixels on every platform, which sin and atan2 do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PETALS = ((0.0, -1.0), (0.9511, -0.309), (0.5878, 0.809), (-0.5878, 0.809), (-0.9511, -0.309))
"""Directions of a flower's five petals."""


@dataclass(frozen=True)
class Cloth:
    """One design's own version of a pattern."""

    pattern: str
    frequency: float
    """Periods per unit length; a garment is about two units high."""
    duty: float
    """Share of a period that shows the second colour, in (0, 1)."""
    phase: tuple[float, float]
    """Shift in periods along u and v."""
    turn: tuple[float, float]
    """Cosine and sine of the pattern's own small rotation."""
    lattice: tuple[tuple[int, ...], ...]
    """8x8 values in 0..255, the blotches of camouflage; () for the other patterns."""
    wave: float = 1.0
    """Height of a zigzag's teeth in periods; distance factor between rows of dots."""


def share_of_second_color(cloth: Cloth, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Share of the second colour, float32 in {0, 0.5, 1}, at cloth coordinates ``u``, ``v`` (float32, same shape)."""
    cos, sin = cloth.turn
    along = (u * np.float32(cos) + v * np.float32(sin)) * np.float32(cloth.frequency) + np.float32(cloth.phase[0])
    across = (v * np.float32(cos) - u * np.float32(sin)) * np.float32(cloth.frequency) + np.float32(cloth.phase[1])
    return PATTERNS[cloth.pattern](cloth, along, across)


def value_noise(lattice: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth periodic noise: lattice values at whole coordinates, smoothstep between them; float32, shape of ``x``."""
    rows, columns = lattice.shape
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    left, top = x0.astype(np.int32) % columns, y0.astype(np.int32) % rows
    flat = np.ascontiguousarray(lattice, dtype=np.float32).ravel()
    right, above, below = (left + 1) % columns, top * columns, (top + 1) % rows * columns
    upper = flat[above + left] * (1 - fx) + flat[above + right] * fx
    lower = flat[below + left] * (1 - fx) + flat[below + right] * fx
    return upper * (1 - fy) + lower * fy


def _period(x: np.ndarray) -> np.ndarray:
    return x - np.floor(x)


def _solid(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    return np.zeros_like(along)


def _horizontal_stripes(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    return (_period(across) < cloth.duty).astype(np.float32)


def _vertical_stripes(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    return (_period(along) < cloth.duty).astype(np.float32)


def _checks(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Gingham: where two stripes cross the second colour is full, where one runs it is half."""
    one, other = _period(along) < cloth.duty, _period(across) < cloth.duty
    return (one.astype(np.float32) + other) * np.float32(0.5)


def _zigzag(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    tooth = np.abs(_period(along * np.float32(0.75)) * 2 - 1) * np.float32(cloth.wave)
    return (_period(across + tooth) < cloth.duty).astype(np.float32)


def _staggered(along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offset, in periods, from the nearest centre of a lattice whose odd rows are shifted by half a period."""
    row = np.floor(across)
    shifted = along + _period(row * np.float32(0.5))
    return _period(shifted) - np.float32(0.5), across - row - np.float32(0.5)


def _dots(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    dx, dy = _staggered(along, across)
    radius = np.float32(0.2 + 0.26 * cloth.duty)
    return (dx * dx + dy * dy < radius * radius).astype(np.float32)


def _flowers(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Five petals around an eye that shows half of the second colour."""
    dx, dy = _staggered(along, across)
    petal = np.float32(0.12 + 0.08 * cloth.duty)
    blossom = np.zeros(dx.shape, dtype=bool)
    for px, py in PETALS:
        ex, ey = dx - np.float32(0.25 * px), dy - np.float32(0.25 * py)
        blossom |= ex * ex + ey * ey < petal * petal
    eye = dx * dx + dy * dy < np.float32(0.012)
    return np.where(eye, np.float32(0.5), blossom.astype(np.float32))


def _camouflage(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Two layers of blotches, thresholds chosen so that the base colour keeps the largest area."""
    lattice = np.array(cloth.lattice, dtype=np.float32)
    noise = value_noise(lattice, along, across * np.float32(1.4))
    other = value_noise(lattice.T, along * np.float32(0.8) + 3, across + 5)
    level = np.float32(182 - 60 * cloth.duty)
    return np.where(noise > level, np.float32(1), (other > level + 8).astype(np.float32) * np.float32(0.5))


PATTERNS: dict[str, Callable[[Cloth, np.ndarray, np.ndarray], np.ndarray]] = {
    "solid": _solid,
    "horizontal stripes": _horizontal_stripes,
    "vertical stripes": _vertical_stripes,
    "checks": _checks,
    "dots": _dots,
    "zigzag": _zigzag,
    "flowers": _flowers,
    "camouflage": _camouflage,
}
