"""The trim of a white border on drawn photographs: exact where nothing disturbs, within a stated distance else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from shards.trim import NEAR_WHITE, trim_box
from tests.shards.scenes import ITEM, SIZE, as_jpeg, largest_miss, scene, with_margin

WHOLE = (0, 0, *SIZE)
CELL = 2
"""Pixels of a drawn photograph of 400 in a cell of the coarse copy, at most 256 a side."""
JPEG_BLOCK = 16
"""An encoder's ringing reaches as far beyond an edge as its blocks do: 16 pixels for colour at 4:2:0."""
SHADOW = 4 * CELL
"""How far a shadow may move a side: 2 % of the photograph, half of the margin."""


def plain_box(image: Image.Image) -> tuple[int, int, int, int]:
    """The definition where nothing disturbs: rows and columns with two pixels, and one in a thousand, below 245."""
    dark = np.asarray(image).min(axis=2) < NEAR_WHITE
    rows = [y for y in range(dark.shape[0]) if dark[y].sum() >= max(2, dark.shape[1] // 1000)]
    columns = [x for x in range(dark.shape[1]) if dark[:, x].sum() >= max(2, dark.shape[0] // 1000)]
    return with_margin((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), image.size)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(0, 150), st.integers(0, 200), st.integers(15, 140), st.integers(15, 190)),
    st.sampled_from(["rectangle", "ellipse"]),
    st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200)),
    st.integers(252, 255),
)
def test_an_undisturbed_border_is_cut_to_the_pixel(item, shape: str, color, level: int) -> None:
    left, top, width, height = item
    image = scene(box=(left, top, left + width, top + height), shape=shape, color=color, ground=(level,) * 3)
    assert trim_box(image) == plain_box(image)


@pytest.mark.parametrize("quality", [0, 90])
@pytest.mark.parametrize("blur", [3, 6, 12, 20])
@pytest.mark.parametrize("shadow", [0.1, 0.25, 0.4])
def test_a_soft_shadow_is_no_item(shadow: float, blur: float, quality: int) -> None:
    image = scene(shadow=shadow, blur=blur, quality=quality)
    assert largest_miss(trim_box(image), with_margin(ITEM)) <= SHADOW


@pytest.mark.parametrize("shadow", [0.1, 0.25, 0.4])
def test_a_soft_shadow_in_a_poor_jpeg(shadow: float) -> None:
    # Twice as large a photograph: a block of a JPEG is the smaller a part of it.
    size, item = (2 * SIZE[0], 2 * SIZE[1]), tuple(2 * edge for edge in ITEM)
    for blur in (12, 40):
        image = scene(size=size, box=item, shadow=shadow, blur=blur, shift=(10, 20), quality=50)
        assert largest_miss(trim_box(image), with_margin(item, size)) <= 2 * SHADOW


def test_a_shadow_moved_the_box_before_it_was_told_from_the_item() -> None:
    image = scene(shadow=0.25, blur=12)
    assert largest_miss(plain_box(image), with_margin(ITEM)) > 2 * SHADOW


@pytest.mark.parametrize("quality", [95, 85, 75, 60, 50])
@pytest.mark.parametrize("color", [(90, 60, 120), (225, 220, 215), (20, 20, 20), (250, 240, 60)])
def test_jpeg_noise_does_not_hold_the_border(color, quality: int) -> None:
    assert largest_miss(trim_box(scene(color=color, quality=quality)), with_margin(ITEM)) <= JPEG_BLOCK


@pytest.mark.parametrize("level", range(240, 256))
def test_a_ground_of_any_near_white(level: int) -> None:
    assert trim_box(scene(ground=(level,) * 3)) == with_margin(ITEM)
    noisy = scene(ground=(level,) * 3, grain=2, quality=90)
    assert largest_miss(trim_box(noisy), with_margin(ITEM)) <= JPEG_BLOCK


@pytest.mark.parametrize("ground", [(250, 248, 244), (244, 248, 252), (255, 250, 242)])
def test_a_tinted_ground(ground) -> None:
    assert largest_miss(trim_box(scene(ground=ground, quality=85)), with_margin(ITEM)) <= JPEG_BLOCK


@pytest.mark.parametrize("specks", [1, 3, 5])
def test_specks_do_not_hold_the_border(specks: int) -> None:
    for seed in range(5):
        found = trim_box(scene(specks=specks, seed=seed))
        assert largest_miss(found, with_margin(ITEM)) <= CELL


@pytest.mark.parametrize("ground", [(200, 200, 200), (225, 225, 225), (230, 250, 250), (255, 200, 200), (90, 120, 40)])
def test_a_coloured_or_grey_ground_stays(ground) -> None:
    assert trim_box(scene(ground=ground)) == WHOLE
    assert trim_box(scene(ground=ground, shadow=0.3, quality=80)) == WHOLE


def test_a_photograph_without_any_item_stays() -> None:
    for level in (255, 250, 240, 120):
        assert trim_box(Image.new("RGB", SIZE, (level,) * 3)) == WHOLE
    assert trim_box(Image.new("RGB", (1, 1), "white")) == (0, 0, 1, 1)
    assert trim_box(Image.new("RGB", (2000, 2), "white")) == (0, 0, 2000, 2)


@pytest.mark.parametrize("sides", ["left", "top", "right", "bottom", "left top", "left right", "left top right"])
def test_an_item_that_touches_the_frame_keeps_that_side(sides: str) -> None:
    left, top, right, bottom = ITEM
    box = (
        0 if "left" in sides else left,
        0 if "top" in sides else top,
        SIZE[0] if "right" in sides else right,
        SIZE[1] if "bottom" in sides else bottom,
    )
    assert trim_box(scene(box=box, shape="rectangle")) == with_margin(box)


def contains(outer, inner) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


@pytest.mark.parametrize("quality", [0, 90, 75])
@pytest.mark.parametrize("level", [230, 240, 245, 248, 250, 251])
def test_a_white_item_on_white_is_never_cut(level: int, quality: int) -> None:
    assert contains(trim_box(scene(color=(level,) * 3, quality=quality)), ITEM)


@pytest.mark.parametrize("quality", [0, 90])
@pytest.mark.parametrize("level", [240, 248, 250])
def test_a_white_shirt_with_a_print_is_not_cut_to_the_print(level: int, quality: int) -> None:
    image = scene(color=(level,) * 3)
    ImageDraw.Draw(image).rectangle((135, 150, 165, 170), fill=(200, 30, 30))
    if quality:
        image = as_jpeg(image, quality)
    assert contains(trim_box(image), ITEM)


@pytest.mark.parametrize("level", [247, 250])
def test_nor_to_a_print_that_fills_most_of_it(level: int) -> None:
    image = scene(color=(level,) * 3)
    ImageDraw.Draw(image).rectangle((105, 130, 195, 250), fill=(200, 30, 30))
    assert contains(trim_box(image), ITEM)


@pytest.mark.parametrize("shadow", [0.1, 0.25])
def test_a_white_item_in_its_own_shadow_is_never_cut(shadow: float) -> None:
    assert contains(trim_box(scene(color=(250, 250, 250), shadow=shadow, blur=8)), ITEM)


def test_a_ground_that_darkens_to_the_corners_stays() -> None:
    y, x = np.mgrid[-1 : 1 : SIZE[1] * 1j, -1 : 1 : SIZE[0] * 1j]
    shade = (1 - 0.15 * (x**2 + y**2) / 2)[..., None]
    image = Image.fromarray((np.asarray(scene()) * shade).astype(np.uint8))
    assert contains(trim_box(image), ITEM)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_any_pixels_give_a_box_within_the_frame(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(rng.integers(0, 255), 256, (height, width, 3)).astype(np.uint8)
    left, top, right, bottom = trim_box(Image.fromarray(pixels))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
