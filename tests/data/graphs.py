"""Runs the pixel graph on pictures of known pixels: PNG, so that no JPEG decoder comes between test and oracle."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from skill_fast.data.pipeline import crop_graph, crop_inputs, to_torch
from skill_fast.data.plan import IDENTITY_SIGMA, SOLARIZE_NEVER, CropPlan
from skill_fast.data.views import GenericAugmentation, ViewGroup

PLAIN = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=0, solarize_p=0)


def png(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def still_plan(sizes: list[tuple[int, int]], size: int, **changes: np.ndarray) -> CropPlan:
    """The plan that does nothing but resize whole photographs of the given (height, width); [batch, 1, ...]."""
    n = len(sizes)
    whole = np.array([[0, 0, h, w] for h, w in sizes], dtype=np.int64)[:, None]
    one = np.ones((n, 1), dtype=np.float32)
    plan = CropPlan(
        window=whole,
        region=whole.astype(np.float32),
        resized=np.full((n, 1, 2), size, dtype=np.float32),
        homography=np.tile(np.eye(3, dtype=np.float32), (n, 1, 1, 1)),
        brightness=one,
        contrast=one,
        saturation=one,
        hue_degrees=0 * one,
        blur_sigma=IDENTITY_SIGMA * one,
        solarize_from=np.full((n, 1), SOLARIZE_NEVER, dtype=np.int32),
        erase_box=np.zeros((n, 1, 4), dtype=np.float32),
        mirror=np.zeros((n, 1), dtype=np.int32),
    )
    return replace(plan, **{k: v[:, None].astype(getattr(plan, k).dtype) for k, v in changes.items()})


def crops_of(
    photographs: list[np.ndarray],
    size: int,
    plan: CropPlan,
    *,
    generic: GenericAugmentation = PLAIN,
    bends: bool = False,
    erases: bool = False,
    dtype: str = "float32",
) -> np.ndarray:
    """Crops of pictures [H, W, 3] uint8 under a plan of one view: [batch, size, size, 3] float, values 0 to 255."""
    groups = [ViewGroup("view", (0,), size, (1.0, 1.0), generic=generic)]
    graph = crop_graph(
        groups,
        len(photographs),
        photographs=1,
        bends=bends,
        erases=erases,
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
        dtype=dtype,
        threads=1,
        depth=1,
    )
    graph.submit(crop_inputs(groups, {"view": plan}, [[png(p) for p in photographs]], bends=bends, erases=erases))
    [crops] = to_torch(graph.collect(), [1], dtype)
    return crops[0].permute(0, 2, 3, 1).numpy()


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
