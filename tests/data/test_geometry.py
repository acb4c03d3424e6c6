"""Homographies: direction, composition, and the split into a resize and a warp, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from skill_fast.data import geometry
from tests.data.conftest import drawn
from tests.data.graphs import crops_of, still_plan, warped

CORNERS = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def fading(height: int, width: int, seed: int) -> np.ndarray:
    """A picture that turns white towards its border, so that the seam to the white outside does not hide the rest."""
    y, x = np.sin(np.pi * (np.arange(height) + 0.5) / height), np.sin(np.pi * (np.arange(width) + 0.5) / width)
    strength = (np.outer(y, x) ** 0.7)[..., None]
    return np.rint(255 - strength * (255.0 - drawn(height, width, seed))).astype(np.uint8)


def crop_by(matrix: np.ndarray, picture: np.ndarray, size: int) -> np.ndarray:
    """The crop that ``matrix`` (crop pixels to photograph) asks for, through the resize and the warp."""
    h, w, _ = picture.shape
    regions, resized, homographies = geometry.source_regions(matrix[None], size, np.array([h]), np.array([w]))
    assert (regions[:, :2] >= 0).all() and regions[0, 2] <= h and regions[0, 3] <= w
    plan = still_plan([(h, w)], size, region=regions, resized=resized, homography=homographies)
    return crops_of([picture], size, plan, bends=True)[0]


def about_center(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    there = geometry.translations(np.array([width / 2]), np.array([height / 2]))
    back = geometry.translations(np.array([-width / 2]), np.array([-height / 2]))
    return (there @ matrix @ back)[0]


def as_torchvision(function, picture: np.ndarray, *args, **kwargs) -> np.ndarray:
    tensor = torch.tensor(picture, dtype=torch.float32).permute(2, 0, 1)
    options = {"interpolation": InterpolationMode.BILINEAR, "fill": 255.0}
    return function(tensor, *args, **options, **kwargs).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("degrees", "scale"), [(30, 1.0), (-15, 1.0), (5, 1.2), (-5, 0.8), (0, 0.9)])
def test_turns_are_torchvisions(degrees, scale):
    """Counter-clockwise for a positive angle, white in the corners. torchvision's own affine turns clockwise."""
    picture = fading(63, 63, 4)
    inverse = geometry.inverse_turns(np.array([degrees]), np.array([scale]), np.array([False]))
    got = crop_by(about_center(inverse, 63, 63), picture, 63)
    expected = as_torchvision(torchvision.affine, picture, -degrees, [0, 0], scale, [0.0, 0.0])
    close_to(got, expected, about_center(inverse, 63, 63), picture)


def close_to(got: np.ndarray, expected: np.ndarray, matrix: np.ndarray, picture: np.ndarray) -> None:
    """Everywhere the bilinear sampling of the definition, and torchvision's but for its seam.

    What remains is the resize before the warp, to a grid that is a fraction of a pixel off. Along the border
    torchvision 0.29 multiplies its zero-padded sample by the mask a second time: a dark seam, left out here.
    """
    definition = warped(picture, matrix, len(got))
    inside = warped(np.zeros_like(picture), matrix, len(got)) == 0
    assert np.abs(got - definition).mean() < 0.5 and np.abs(got - definition).max() < 4
    assert np.abs(got - expected)[inside].mean() < 0.5 and inside.mean() > 0.5


def test_quarter_turns_and_flips_are_exact_directions():
    picture = drawn(41, 41, 5)
    for turns in range(4):
        for flipped in (False, True):
            inverse = geometry.inverse_turns(np.array([90.0 * turns]), np.array([1.0]), np.array([flipped]))
            got = crop_by(about_center(inverse, 41, 41), picture, 41)
            expected = np.rot90(picture[::-1] if flipped else picture, turns)
            assert np.abs(got - expected).mean() < 1


def test_perspective_is_torchvisions():
    inward = np.array([[[0.1, 0.05], [0.0, 0.15], [0.08, 0.02], [0.12, 0.1]]])
    moved = CORNERS + inward[0] * [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    oblong = geometry.inverse_perspectives(np.array([60]), np.array([80]), inward)
    assert np.allclose(geometry.apply(oblong, moved * [80, 60])[0], CORNERS * [80, 60])
    picture = fading(63, 63, 6)
    matrix = geometry.inverse_perspectives(np.array([63]), np.array([63]), inward)[0]
    expected = as_torchvision(torchvision.perspective, picture, (63 * CORNERS).tolist(), (63 * moved).tolist())
    close_to(crop_by(matrix, picture, 63), expected, matrix, picture)


@settings(max_examples=100, deadline=None)
@given(
    degrees=st.floats(-180, 180),
    scale=st.floats(0.8, 1.2),
    inward=st.lists(st.floats(0, 0.15), min_size=8, max_size=8),
    height=st.integers(20, 600),
    width=st.integers(20, 600),
    share=st.floats(0.2, 1),
    y=st.floats(0, 1),
    x=st.floats(0, 1),
    size=st.sampled_from([24, 96, 224]),
)
def test_the_split_is_the_same_map(degrees, scale, inward, height, width, share, y, x, size):
    """Region, resized and homography together send a crop's pixels where the one homography does, and the region holds
    every pixel of the photograph that the crop sees."""
    h, w = max(1, round(share * height)), max(1, round(share * width))
    window = geometry.scalings(np.array([w / size]), np.array([h / size]), x * (width - w), y * (height - h))
    turn = about_center(
        geometry.inverse_turns(np.array([degrees]), np.array([scale]), np.array([False])), height, width
    )
    tilt = geometry.inverse_perspectives(np.array([height]), np.array([width]), np.array(inward).reshape(1, 4, 2))
    matrix = turn @ tilt @ window
    regions, resized, homographies = geometry.source_regions(matrix, size, np.array([height]), np.array([width]))
    y0, x0, y1, x1 = regions[0]
    assert 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width and (resized >= 1).all()
    points = np.random.default_rng(0).random((50, 2)) * size
    direct = geometry.apply(matrix, points)[0]
    through = geometry.apply(homographies, points)[0] * [(x1 - x0) / resized[0, 1], (y1 - y0) / resized[0, 0]]
    assert np.allclose(through + np.array([x0, y0]), direct, atol=1e-6 * max(height, width))
    inside = (direct >= 0).all(axis=1) & (direct <= [width, height]).all(axis=1)
    assert (direct[inside] >= [x0, y0]).all() and (direct[inside] <= [x1, y1]).all()
