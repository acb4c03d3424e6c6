"""One drawn photograph: a design in two colours, seen from a pose under a light on a ground.

All pixel arithmetic is exact (see ``patterns``): coverage is counted in whole numbers over the samples of a pixel, so
a drawing has the same bytes in every process and on every platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from shards.sources.patterns import Cloth, share_of_second_color, value_noise
from shards.sources.silhouettes import Outline, Polygon, Shape, outline

Rgb = tuple[int, int, int]

WOOD: Rgb = (112, 82, 58)
SEAM_SHADE = 140
"""Brightness of a seam, of 255."""
UNIT = 0.9
"""Half of the photograph's side per unit of the product's coordinates, at scale 1."""


@dataclass(frozen=True)
class Pose:
    """How product coordinates land in the photograph, whose own coordinates run from -1 to 1."""

    scale: float
    stretch: float
    """Factor on the width alone: the product is never seen exactly from the front."""
    lean: float
    """How far a point moves sideways a unit of height: seen a little from the side."""
    turn: tuple[float, float]
    """Cosine and sine of the rotation."""
    shift: tuple[float, float]
    mirrored: bool


@dataclass(frozen=True)
class Light:
    """Brightness of the product, its gradient over the photograph, and the soft folds of the cloth."""

    brightness: float
    gradient: tuple[float, float]
    folds: tuple[tuple[int, ...], ...]
    """5x5 values in 0..255."""
    ground: Rgb
    shadow: tuple[float, float, float]
    """Darkness in 0..1 and the shift of the shadow in photograph coordinates."""


@dataclass(frozen=True)
class Drawing:
    """What ``draw`` needs for one photograph."""

    shape: Shape
    cloth: Cloth
    base: Rgb
    second: Rgb
    pose: Pose
    light: Light
    side: int
    """Pixels."""

    @property
    def name(self) -> str:
        return f"{self.shape.silhouette}, {self.cloth.pattern}"


def draw(drawing: Drawing) -> Image.Image:
    """Draw one photograph, RGB, ``side`` x ``side``.

    for each pixel: S, M, W = samples on cloth (shaded), on the second colour, on wood
                    rgb = light * (base * (S - M) + second * M + wood * W) + ground * (1 - coverage)
    """
    samples = 3 if drawing.side <= 128 else 2
    cloth, wood, seams = _masks(outline(drawing.shape), drawing.pose, drawing.side * samples)
    u, v = _cloth_coordinates(drawing.pose, drawing.side * samples)
    shade = np.where(seams, np.int32(SEAM_SHADE), np.int32(255)) * cloth
    second = (share_of_second_color(drawing.cloth, u, v) * 2).astype(np.int32) * shade
    scale = np.float32(samples * samples)
    s = _count(shade, samples) / (scale * 255)
    m = _count(second, samples) / (scale * 510)
    w = _count(wood.astype(np.int32), samples) / scale
    coverage = _count((cloth | wood).astype(np.int32), samples) / scale
    light = _light(drawing.light, drawing.side)
    ground = _ground(drawing.light, coverage)
    rgb = np.empty((drawing.side, drawing.side, 3), dtype=np.float32)
    for channel in range(3):
        product = drawing.base[channel] * (s - m) + drawing.second[channel] * m + WOOD[channel] * w
        rgb[..., channel] = product * light + ground[..., channel] * (1 - coverage)
    return Image.fromarray(np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8))


@lru_cache(maxsize=8)
def _axis(pixels: int) -> np.ndarray:
    """Centres of ``pixels`` samples over [-1, 1]."""
    return ((np.arange(pixels, dtype=np.float32) * 2 + 1) / np.float32(pixels)) - 1


def _place(pose: Pose, point: tuple[float, float]) -> tuple[float, float]:
    """Product coordinates -> photograph coordinates."""
    u, v = point[0] * pose.stretch * (-1 if pose.mirrored else 1) + point[1] * pose.lean, point[1]
    cos, sin = pose.turn
    size = UNIT * pose.scale
    return (u * cos - v * sin) * size + pose.shift[0], (u * sin + v * cos) * size + pose.shift[1]


def _cloth_coordinates(pose: Pose, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of ``_place`` on the grid of samples: two float32 arrays [pixels, pixels]."""
    x = (_axis(pixels) - np.float32(pose.shift[0])) / np.float32(UNIT * pose.scale)
    y = (_axis(pixels) - np.float32(pose.shift[1])) / np.float32(UNIT * pose.scale)
    cos, sin = np.float32(pose.turn[0]), np.float32(pose.turn[1])
    side = np.float32(-pose.stretch if pose.mirrored else pose.stretch)
    v = (y * cos)[:, None] - (x * sin)[None, :]
    return ((x * cos)[None, :] + (y * sin)[:, None] - v * np.float32(pose.lean)) / side, v


def _inside(polygon: Polygon, pose: Pose, pixels: int) -> np.ndarray:
    """Samples within a convex polygon: on the same side of each of its edges; bool [pixels, pixels]."""
    corners = [_place(pose, point) for point in polygon]
    axis = _axis(pixels)
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True))
    mask = np.ones((pixels, pixels), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if area < 0:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.float32(x1 - x0) * (axis - np.float32(y0))
        columns = np.float32(y1 - y0) * (axis - np.float32(x0))
        mask &= rows[:, None] >= columns[None, :]
    return mask


def _union(polygons: tuple[Polygon, ...], pose: Pose, pixels: int) -> np.ndarray:
    mask = np.zeros((pixels, pixels), dtype=bool)
    for polygon in polygons:
        mask |= _inside(polygon, pose, pixels)
    return mask


def _masks(shape: Outline, pose: Pose, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples on cloth, on wood that no cloth hides, and on a seam of the cloth."""
    cloth = _union(shape.cloth, pose, pixels) & ~_union(shape.cuts, pose, pixels)
    wood = _union(shape.wood, pose, pixels) & ~cloth
    return cloth, wood, _union(shape.seams, pose, pixels)


def _count(values: np.ndarray, samples: int) -> np.ndarray:
    """Sum of the samples of each pixel: [side * samples, side * samples] int -> [side, side] float32, exact."""
    side = len(values) // samples
    return values.reshape(side, samples, side, samples).sum(axis=(1, 3), dtype=np.int64).astype(np.float32)


def _light(light: Light, side: int) -> np.ndarray:
    """Factor on the product's colours, float32 [side, side]: gradient and folds, around ``brightness``."""
    axis = _axis(side)
    gradient = (axis * np.float32(light.gradient[0]))[None, :] + (axis * np.float32(light.gradient[1]))[:, None]
    x = np.broadcast_to((axis * np.float32(1.9) + 2)[None, :], (side, side))
    y = np.broadcast_to((axis * np.float32(1.9) + 2)[:, None], (side, side))
    folds = value_noise(np.array(light.folds), x, y) / np.float32(255) - np.float32(0.5)
    return np.float32(light.brightness) * (1 + gradient) * (1 + np.float32(0.3) * folds)


def _ground(light: Light, coverage: np.ndarray) -> np.ndarray:
    """The ground with the product's soft shadow, float32 [side, side, 3]; a white ground stays white."""
    side = len(coverage)
    ground = np.broadcast_to(np.array(light.ground, dtype=np.float32), (side, side, 3))
    darkness, dx, dy = light.shadow
    if darkness:
        mask = Image.fromarray(np.floor(coverage * 255 + np.float32(0.5)).astype(np.uint8))
        half = side / 2
        moved = mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, -round(dx * half), 0, 1, -round(dy * half)))
        soft = np.asarray(moved.filter(ImageFilter.BoxBlur(max(1, side // 20))), dtype=np.float32)
        ground = ground * (1 - soft * np.float32(darkness / 255))[..., None]
    return ground
