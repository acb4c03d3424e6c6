"""The item in a photograph by a model of its ground, without a network: for photographs on floors, tables and walls.

1  a copy of at most 128 pixels a side, in CIELAB, smoothed against noise and fine texture
2  the frame's rim in a few clusters of colour; a cluster that lies on one side of the frame alone is part of the item
3  distance = least Mahalanobis distance of a pixel to a cluster;  item = what Otsu's threshold of its root leaves
4  the box of the parts that are large or central, with a margin; the whole frame where the item is not clear
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from shards.trim import Box, area

COARSE = 128
MARGIN = 0.05
"""Of the item's long side, kept around it."""
LEAST, MOST = 0.08, 0.80
"""Of the frame's area: an item smaller or larger than this is not clear."""
FULL = 0.85
"""Of the frame's area: a box as large as this is not worth a cut; so what was cropped once is not cropped again."""
_RIM = 0.05
_CLUSTERS, _ROUNDS = 4, 8
_SIDE_SHARE = 0.12
_NEAR, _MIDDLE_SHARE = 2.5, 0.4


def item_box(image: Image.Image) -> Box:
    """The box of the item in an RGB ``image`` with a margin, or the whole frame where the item is not clear."""
    whole = (0, 0, image.width, image.height)
    factor = max(1, -(-max(image.size) // COARSE))
    if min(image.size) < 16 * factor // 2:
        return whole
    coarse = _lab(image.reduce(factor) if factor > 1 else image)
    mask = _foreground(_distance(coarse))
    if mask is None or not LEAST <= mask.mean() <= MOST:
        return whole
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    margin = MARGIN * max(right - left, bottom - top)
    box = (
        max(0, round((left - margin) * factor)),
        max(0, round((top - margin) * factor)),
        min(image.width, round((right + margin) * factor)),
        min(image.height, round((bottom + margin) * factor)),
    )
    return whole if area(box) >= FULL * area(whole) else box


def _lab(image: Image.Image) -> np.ndarray:
    """[H, W, 3] float32 in CIELAB: L of 0..100, a and b about 0."""
    coded = np.asarray(_to_lab().apply(image))
    light = coded[..., :1].astype(np.float32) * (100 / 255)
    return np.concatenate([light, coded[..., 1:].view(np.int8).astype(np.float32)], axis=2)


@lru_cache(maxsize=1)
def _to_lab() -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(srgb, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "RGB", "LAB")


def _distance(lab: np.ndarray) -> np.ndarray:
    """[H, W]: how far each pixel is from the ground, in standard deviations of the nearest cluster of the rim."""
    from scipy import ndimage

    lab = ndimage.uniform_filter(lab, (3, 3, 1), mode="nearest")
    height, width = lab.shape[:2]
    deep = max(2, round(_RIM * max(height, width)))
    sides = [part.reshape(-1, 3) for part in (lab[:deep], lab[-deep:], lab[:, :deep], lab[:, -deep:])]
    side_of = np.repeat(np.arange(4), [len(side) for side in sides])
    rim = np.concatenate(sides)
    labels = _clusters(rim)
    best = np.full((height, width), np.inf, np.float32)
    middle = (slice(height * 3 // 10, height * 7 // 10), slice(width * 3 // 10, width * 7 // 10))
    for label in range(_CLUSTERS):
        members = labels == label
        shares = np.array([members[side_of == side].mean() for side in range(4)])
        if (shares >= _SIDE_SHARE).sum() < 2:
            continue
        pixels = rim[members]
        spread = np.cov(pixels.T) + np.diag([9.0, 4.0, 4.0])
        away = lab - pixels.mean(axis=0)
        distance = np.sqrt(np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(spread), away))
        if (distance[middle] < _NEAR).mean() > _MIDDLE_SHARE:
            continue
        best = np.minimum(best, distance)
    return best


def _clusters(pixels: np.ndarray) -> np.ndarray:
    """k-means from starts along the lightness; the same for the same pixels."""
    order = np.argsort(pixels[:, 0], kind="stable")
    places = ((np.arange(_CLUSTERS) + 0.5) / _CLUSTERS * len(order)).astype(int)
    centers = pixels[order[places]]
    for _ in range(_ROUNDS):
        away = ((pixels[:, None] - centers) ** 2).sum(axis=2)
        labels = away.argmin(axis=1)
        centers = np.stack(
            [pixels[labels == k].mean(axis=0) if (labels == k).any() else centers[k] for k in range(_CLUSTERS)]
        )
    return labels


def _foreground(distance: np.ndarray) -> np.ndarray | None:
    """[H, W] bool: the item's parts; None where nothing stands out."""
    from scipy import ndimage

    if not np.isfinite(distance).all():
        return None
    height, width = distance.shape
    root = np.minimum(np.sqrt(distance), 6.0)
    threshold = max(_otsu(root), 1.4)
    mask = ndimage.binary_opening(root > threshold, np.ones((3, 3)))
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 4), iterations=2))[4:-4, 4:-4]
    parts, count = ndimage.label(mask, np.ones((3, 3), int))
    if not count:
        return None
    areas = np.bincount(parts.ravel())[1:]
    y, x = np.mgrid[0:height, 0:width]
    central = np.exp(-(((y / height - 0.5) / 0.35) ** 2) - ((x / width - 0.5) / 0.35) ** 2)
    weights = ndimage.sum_labels(central, parts, np.arange(1, count + 1))
    kept = 1 + np.flatnonzero((weights >= 0.15 * weights.max()) & (areas >= 0.02 * areas.max()))
    return np.isin(parts, kept)


def _otsu(values: np.ndarray) -> float:
    """The threshold that leaves the least variance within the two sides (Otsu 1979)."""
    counts, edges = np.histogram(values, 64)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    sums = np.cumsum(counts * middles)
    above = below[-1] - below
    between = np.zeros(len(counts))
    inner = (below > 0) & (above > 0)
    means = sums[inner] / below[inner], (sums[-1] - sums[inner]) / above[inner]
    between[inner] = below[inner] * above[inner] * (means[0] - means[1]) ** 2
    return float(edges[1:][between.argmax()])
