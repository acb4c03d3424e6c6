"""The white border of a product photograph: what may be cut off, though shadows, noise and specks lie in it.

1  on a copy of at most ~256 pixels a side: the ground's colour and noise from the near-white part of the frame's rim
2  something = cells that differ from the ground; item = those of them that a soft shadow can not be: coloured, dark,
   or with a sharp step beside them; lone specks are neither
3  the box is the item's where the rest of something is small enough to be its shadow, else something's
4  each of its sides is settled on the full photograph, in the strip where it must lie
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

NEAR_WHITE = 245
"""On a white ground a pixel with a channel below it is no border."""
MARGIN = 0.04
"""Of the trimmed box's long side: how much of the border stays."""
COARSE = 256
"""Pixels that the long side of the copy has at most."""
LEAST_GROUND = 235
"""All channels of a ground reach it, or there is no white border."""
LEAST_SHARE = 0.5
"""Of one side's rim at least that is near-white, for a border to be looked for."""
SURE_SHARE = 0.6
"""Of the rim that is plain ground, for shadows to be told from the item."""
FAINT = 3.0
"""Levels from the ground at which something begins, on a ground without noise."""
COLORED, DARK, SHARP = 16.0, 120.0, 8.0
"""Levels that a shadow does not reach: between the channels, below the ground, and at a sharp step."""
SHARP_SHARE = 0.6
"""Of the change over six pixels of the copy, for a change over two to be a sharp step."""
LEAST_ITEM = 0.35
"""Of the area of everything that differs from the ground: an item smaller than this is a print on a white shirt."""
CLEAR = 10.0
"""Levels below the ground that some of a shadow reaches: where all is fainter, it may be the rest of a white item."""
SOLID, LEAST_SOLID = 25.0, 0.25
"""Levels below the ground, and the share of the item's box that must reach them: else the item is white itself."""
_RIM = 0.03
_TAIL = 4
"""Cells that are left to an encoder's ringing and soft outlines."""

Box = tuple[int, int, int, int]
"""left, top, right, bottom; right and bottom are the first pixels outside."""


@dataclass(frozen=True)
class _Ground:
    color: np.ndarray
    """[3], the median of the rim's near-white pixels."""
    noise: float
    """Levels: standard deviation, from the median of the absolute deviations."""
    share: float
    """Of the rim that is no further from ``color`` than the noise allows."""

    @property
    def faint(self) -> float:
        return max(FAINT, 4 * self.noise)

    @property
    def border(self) -> float:
        """The least value of a border pixel's darkest channel, in the full photograph."""
        level = float(self.color.min())
        return NEAR_WHITE if level - NEAR_WHITE >= self.faint else level - max(6.0, self.faint)


@dataclass(frozen=True)
class _Cells:
    """[H, W] bool each, over the cells of the coarse copy."""

    something: np.ndarray
    """Differs from the ground."""
    item: np.ndarray
    """The part of it that no soft shadow makes."""
    clear: np.ndarray
    """At least CLEAR levels below the ground."""
    solid: np.ndarray
    """Coloured, or at least SOLID levels below the ground."""


def trim_box(image: Image.Image) -> Box:
    """The box of an RGB ``image`` without its near-white border, but for a margin of it; all of it where none is."""
    whole = (0, 0, image.width, image.height)
    factor = -(-max(image.size) // COARSE)
    ground = _ground(image, factor)
    if ground is None:
        return whole
    cells = _cells(_reduced(image, factor), ground)
    outer = _bounds(cells.something)
    if outer is None:
        return whole
    inner = _bounds(cells.item) if ground.share >= SURE_SHARE else None
    kept = inner if inner is not None and _told_apart(cells, inner, outer) else outer
    return _with_margin(_settle(image, kept, factor, ground.border), image.width, image.height)


def _ground(image: Image.Image, factor: int) -> _Ground | None:
    """From the rim alone, so that the many photographs without a white border cost no look at the rest."""
    width, height = image.size
    deep = max(1, round(_RIM * max(width, height) / factor)) * factor
    rims = (
        (0, 0, width, deep),
        (0, height - deep, width, height),
        (0, 0, deep, height),
        (width - deep, 0, width, height),
    )
    frames = [(max(0, left), max(0, top), min(width, right), min(height, bottom)) for left, top, right, bottom in rims]
    sides = [_reduced(image.crop(frame), factor).reshape(-1, 3) for frame in frames]
    near_white = [_is_near_white(side) for side in sides]
    if max(float(found.mean()) for found in near_white) < LEAST_SHARE:
        return None
    rim = np.concatenate(sides)
    white = rim[np.concatenate(near_white)]
    color = np.median(white, axis=0)
    noise = 1.4826 * float(np.median(_highest(np.abs(white - color))))
    plain = _highest(np.abs(rim - color)) <= max(FAINT, 4 * noise)
    return _Ground(color, noise, float(plain.mean()))


def _reduced(image: Image.Image, factor: int) -> np.ndarray:
    """[H, W, 3] float32: the means of ``factor`` x ``factor`` pixels."""
    return np.asarray(image.reduce(factor) if factor > 1 else image).astype(np.float32)


def _is_near_white(pixels: np.ndarray) -> np.ndarray:
    lowest = _lowest(pixels)
    return (lowest >= LEAST_GROUND) & (_highest(pixels) - lowest <= COLORED)


def _cells(coarse: np.ndarray, ground: _Ground) -> _Cells:
    depth = ground.color - coarse
    low, high = _lowest(depth), _highest(depth)
    something = high >= ground.faint
    grey = (depth[..., 0] + depth[..., 1] + depth[..., 2]) / 3
    colored = high - low >= COLORED
    item = something & (colored | (grey >= DARK) | _sharp(grey, max(SHARP, 6 * ground.noise)))
    return _Cells(_without_specks(something), _without_specks(item), grey >= CLEAR, colored | (grey >= SOLID))


def _told_apart(cells: _Cells, inner: Box, outer: Box) -> bool:
    """Whether what lies between the two boxes is the shadow of what lies in ``inner``, rather than more of the item."""
    if max(abs(i - o) for i, o in zip(inner, outer, strict=True)) <= _TAIL:
        return True
    left, top, right, bottom = inner
    within = (slice(top, bottom), slice(left, right))
    return bool(
        area(inner) >= LEAST_ITEM * area(outer)
        and float(cells.solid[within].mean()) >= LEAST_SOLID
        and np.count_nonzero(cells.clear) > np.count_nonzero(cells.clear[within]) + _TAIL
    )


def _sharp(depth: np.ndarray, least: float) -> np.ndarray:
    """[H, W] bool: the deeper end of a step of ``least`` levels over two cells that is most of the change over six.

    A step blurred by s cells has erf(0.71 / s) / erf(2.1 / s) of it within the two: under SHARP_SHARE from s = 1.2 on.
    """
    sharp = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        across, found = np.moveaxis(depth, axis, 0), np.moveaxis(sharp, axis, 0)
        if len(across) < 3:
            continue
        step = across[2:] - across[:-2]
        far = np.pad(across, ((2, 2), (0, 0)), mode="edge")
        wide = np.abs(far[6:] - far[:-6])
        here = np.abs(step) >= np.maximum(least, SHARP_SHARE * wide)
        found[2:] |= here & (step > 0)
        found[:-2] |= here & (step < 0)
    return sharp


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Cells with at least four others within two cells of them."""
    padded = np.pad(mask, 2).astype(np.int8)
    rows = np.sum([padded[shift : shift + mask.shape[0]] for shift in range(5)], axis=0)
    around = np.sum([rows[:, shift : shift + mask.shape[1]] for shift in range(5)], axis=0)
    return mask & (around >= 5)


def _lowest(pixels: np.ndarray) -> np.ndarray:
    """Over the three channels; numpy's own min over so short an axis takes ten times as long."""
    return np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def _highest(pixels: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def _bounds(mask: np.ndarray) -> Box | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _settle(image: Image.Image, cells: Box, factor: int, border: float) -> Box:
    """The box in pixels: each side where the first row or column begins that is no border.

    A row or column belongs to the item when at least two of its pixels, and one in a thousand, are darker than the
    border. It is looked for from two cells outside the coarse side to two cells within.
    """
    left, top, right, bottom = (edge * factor for edge in cells)
    right, bottom = min(right, image.width), min(bottom, image.height)

    def first(start: int, stop: int, limit: int, column: bool, last: bool, otherwise: int) -> int:
        start, stop = max(0, start), min(limit, stop)
        strip = image.crop((start, 0, stop, image.height) if column else (0, start, image.width, stop))
        dark = _lowest(np.asarray(strip)) < border
        across = dark.shape[0] if column else dark.shape[1]
        hits = np.flatnonzero(np.count_nonzero(dark, axis=0 if column else 1) >= max(2, across // 1000))
        if not len(hits):
            return otherwise
        return start + int(hits[-1]) + 1 if last else start + int(hits[0])

    return (
        first(left - 2 * factor, left + 2 * factor, image.width, True, False, left),
        first(top - 2 * factor, top + 2 * factor, image.height, False, False, top),
        first(right - 2 * factor, right + 2 * factor, image.width, True, True, right),
        first(bottom - 2 * factor, bottom + 2 * factor, image.height, False, True, bottom),
    )


def _with_margin(box: Box, width: int, height: int) -> Box:
    left, top, right, bottom = box
    margin = round(MARGIN * max(right - left, bottom - top))
    return max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin)
