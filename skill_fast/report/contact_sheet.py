"""Photographs of a data set side by side in one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.data.index import CatalogueIndex

GAP = 6
FRAME = 3
Rgb = tuple[int, int, int]


def photographs(index: CatalogueIndex, image_rows: np.ndarray, side: int, *, batch_size: int = 64) -> np.ndarray:
    """Photographs of images.parquet's rows as small squares: [n] -> [n, side, side, 3] uint8 sRGB."""
    loader = EvaluationLoader(
        index, image_rows, resize=side, crop=side, batch_size=batch_size, threads=len(os.sched_getaffinity(0))
    )
    pictures = [(images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy() for _, images in loader]
    return np.concatenate(pictures)


def contact_sheet(pictures: np.ndarray, columns: int, frames: Sequence[Rgb | None] | None = None) -> Image.Image:
    """Squares in rows of ``columns``, on white; ``frames`` gives a picture's frame colour or None.

    pictures [n, side, side, 3] uint8.
    """
    side = pictures.shape[1]
    step = side + 2 * FRAME + GAP
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * step - GAP, rows * step - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        left, top = place % columns * step, place // columns * step
        frame = frames[place] if frames else None
        if frame:
            draw.rectangle((left, top, left + side + 2 * FRAME - 1, top + side + 2 * FRAME - 1), fill=frame)
        sheet.paste(Image.fromarray(picture), (left + FRAME, top + FRAME))
    return sheet
