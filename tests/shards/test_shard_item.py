"""The crop to the item on drawn photographs: textured and two-coloured grounds, and where it must leave the frame."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from shards.item import MARGIN, item_box
from shards.normalize import Normalization, normalize_bytes, normalize_image
from tests.shards.scenes import ITEM, SIZE

WHOLE = (0, 0, *SIZE)
CELL = 4
"""Pixels in a cell of the coarse copy, at most 128 a side."""


def floor(kind: str, seed: int = 0) -> np.ndarray:
    """A ground of 300 x 400: boards, tiles, a carpet, a wall that darkens downwards, a bed with a stripe."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    if kind == "boards":
        base = 120 + 25 * ((x // 50) % 2) + 12 * np.sin(y / 9 + x // 50)
        pixels = np.stack([base + 30, base, base - 50], -1)
    elif kind == "tiles":
        lines = ((x % 90 < 3) | (y % 110 < 3)) * 60.0
        pixels = np.stack([205 - lines, 200 - lines, 190 - lines], -1)
    elif kind == "carpet":
        pixels = rng.normal(150, 25, (*x.shape, 1)) + np.array([20.0, 5.0, -10.0])
    elif kind == "wall":
        pixels = np.repeat((215 - y / 5.0)[..., None], 3, axis=2)
    else:
        pixels = np.where((y < 90)[..., None], (180.0, 60.0, 60.0), (90.0, 100.0, 170.0))
    return np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255)


def photograph(kind: str, color: tuple[int, int, int], box=ITEM, seed: int = 0) -> Image.Image:
    image = Image.fromarray(floor(kind, seed).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=color)
    return image


def expected(box) -> tuple[float, ...]:
    margin = MARGIN * max(box[2] - box[0], box[3] - box[1])
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin


@pytest.mark.parametrize("kind", ["boards", "tiles", "carpet", "wall"])
@pytest.mark.parametrize("color", [(20, 30, 90), (20, 120, 40), (240, 235, 60), (15, 15, 15)])
def test_the_item_is_found_on_any_floor(kind: str, color) -> None:
    found = item_box(photograph(kind, color))
    # Two cells on either side: the smoothing and the opening each move an edge by one.
    assert all(abs(f - e) <= 3 * CELL for f, e in zip(found, expected(ITEM), strict=True)), found


def contains(outer, inner) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def test_on_a_ground_of_two_colours_the_seam_between_them_may_be_kept_but_never_is_the_item_cut() -> None:
    for color in ((20, 30, 90), (20, 120, 40), (240, 235, 60), (15, 15, 15)):
        assert contains(item_box(photograph("bed", color)), ITEM)


@pytest.mark.parametrize("kind", ["boards", "tiles", "carpet", "wall"])
def test_an_item_that_leaves_the_frame_is_not_cut(kind: str) -> None:
    for box in ((0, 100, 210, 280), (90, 0, 210, 280), (0, 90, 300, 300), (60, 0, 240, 400), (30, 0, 300, 400)):
        assert contains(item_box(photograph(kind, (20, 30, 90), box)), box)


def test_without_a_clear_item_the_frame_stays() -> None:
    for kind in ("boards", "tiles", "carpet"):
        assert item_box(Image.fromarray(floor(kind).astype(np.uint8))) == WHOLE
    assert item_box(photograph("tiles", (20, 30, 90), (140, 190, 160, 210))) == WHOLE, "too small to be it"
    assert item_box(photograph("tiles", (20, 30, 90), (3, 3, 297, 397))) == WHOLE, "nearly everything"
    assert item_box(Image.new("RGB", (300, 3))) == (0, 0, 300, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 90), st.integers(1, 90))
def test_any_pixels_give_a_box_within_the_frame(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    left, top, right, bottom = item_box(image)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


@pytest.mark.parametrize("preprocess", ["catalog", "none"])
def test_normalising_crops_only_where_asked(preprocess: str) -> None:
    how = Normalization(preprocess)
    image = photograph("tiles", (20, 30, 90))
    plain, cropped = normalize_image(image, how), normalize_image(image, how, crop_to_item=True)
    assert max(plain.width, plain.height) == 400 and 180 <= max(cropped.width, cropped.height) <= 230
    share = [np.mean(np.asarray(Image.open(io.BytesIO(j.data)))[..., 0] < 60) for j in (plain, cropped)]
    assert share[1] > 2 * share[0]
    assert normalize_bytes(cropped.data, how, crop_to_item=True).data == cropped.data


def test_the_white_border_goes_before_the_ground_is_modelled() -> None:
    """A photograph of a floor that somebody has framed in white."""
    framed = Image.new("RGB", (500, 600), "white")
    framed.paste(photograph("boards", (20, 30, 90)), (100, 100))
    cropped = normalize_image(framed, Normalization("catalog"), crop_to_item=True)
    assert max(cropped.width, cropped.height) <= 240
