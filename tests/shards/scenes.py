"""Drawn photographs of one item on a ground, with what real ones have: shadows, JPEG noise, specks, grain."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from shards.trim import MARGIN, Box

SIZE = (300, 400)
ITEM = (90, 100, 210, 280)


def scene(
    *,
    ground: tuple[int, int, int] = (255, 255, 255),
    color: tuple[int, int, int] = (90, 60, 120),
    box: Box = ITEM,
    size: tuple[int, int] = SIZE,
    shape: str = "ellipse",
    shadow: float = 0.0,
    blur: float = 6.0,
    shift: tuple[int, int] = (5, 10),
    quality: int = 0,
    grain: float = 0.0,
    specks: int = 0,
    seed: int = 0,
) -> Image.Image:
    """shadow: darkness in 0..1, blurred by ``blur`` pixels, moved by ``shift``; quality: of a JPEG between, 0 none."""
    rng = np.random.default_rng(seed)
    mask = Image.new("L", size, 0)
    getattr(ImageDraw.Draw(mask), shape)((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    cover = np.asarray(mask, float)[..., None] / 255
    pixels = np.broadcast_to(np.array(ground, float), (size[1], size[0], 3))
    if shadow:
        cast = Image.new("L", size, 0)
        cast.paste(mask, shift)
        pixels = pixels * (1 - shadow * np.asarray(cast.filter(ImageFilter.GaussianBlur(blur)), float)[..., None] / 255)
    pixels = pixels * (1 - cover) + np.array(color, float) * cover
    if grain:
        pixels = pixels + rng.normal(0, grain, pixels.shape)
    whole = np.clip(pixels, 0, 255).astype(np.uint8)
    for _ in range(specks):
        y, x = int(rng.integers(5, size[1] - 5)), int(rng.integers(5, size[0] - 5))
        whole[y : y + 2, x : x + 2] = 60
    return as_jpeg(Image.fromarray(whole), quality) if quality else Image.fromarray(whole)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def with_margin(box: Box, size: tuple[int, int] = SIZE) -> Box:
    """The box that trimming should give for an item in ``box``."""
    left, top, right, bottom = box
    margin = round(MARGIN * max(right - left, bottom - top))
    return max(0, left - margin), max(0, top - margin), min(size[0], right + margin), min(size[1], bottom + margin)


def largest_miss(found: Box, expected: Box) -> int:
    """Pixels that the worst side is off."""
    return max(abs(f - e) for f, e in zip(found, expected, strict=True))
