"""Runs the loader's pixel graph on pictures of known pixels: PNG, so that no JPEG decoder comes between."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from skill_fast.data.dali import to_torch
from skill_fast.data.pipeline import crop_graph, crop_inputs
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
    encoded: bool = False,
    device_id: int | None = None,
    hw_decoder_load: float = 0.0,
) -> np.ndarray:
    """Crops of pictures [H, W, 3] uint8 under a plan of one view: [batch, size, size, 3] float, values 0 to 255.

    encoded: ``photographs`` are files, [bytes] uint8. device_id: of a GPU; None is the CPU.
    """
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
        device_id=device_id,
        hw_decoder_load=hw_decoder_load,
    )
    stream = None if device_id is None else torch.cuda.Stream(device_id)
    graph.submit(
        crop_inputs(
            groups, {"view": plan}, [[p if encoded else png(p) for p in photographs]], bends=bends, erases=erases
        )
    )
    [crops] = to_torch(graph.collect(stream), [1], dtype, stream)
    return crops[0].permute(0, 2, 3, 1).float().cpu().numpy()
