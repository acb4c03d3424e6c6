"""The laws of windows and boxes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.data.crop_law import erase_boxes, random_resized_windows, zoom_windows


def window_by_loop(height, width, scale, aspect, u_area, u_aspect, u_y, u_x):
    """RandomResizedCrop as a loop of tries, from the same uniform numbers."""
    for a, r in zip(u_area, u_aspect):
        area = height * width * (scale[0] + a * (scale[1] - scale[0]))
        ratio = math.exp(math.log(aspect[0]) + r * (math.log(aspect[1]) - math.log(aspect[0])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [math.floor(u_y * (height - h + 1)), math.floor(u_x * (width - w + 1)), h, w]
    h, w = height, width
    if width / height < aspect[0]:
        h = max(1, round(width / aspect[0]))
    elif width / height > aspect[1]:
        w = max(1, round(height * aspect[1]))
    return [(height - h) // 2, (width - w) // 2, h, w]


sides = st.integers(1, 300)


@settings(max_examples=150, deadline=None)
@given(
    height=sides,
    width=sides,
    low=st.floats(0.01, 1),
    span=st.floats(0, 1),
    aspect=st.floats(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_lie_inside_and_have_the_asked_share(height, width, low, span, aspect, seed):
    scale, aspects = (low, low + span * (1 - low)), (1 / aspect, aspect)
    u = np.random.default_rng(seed).random((1, 22))
    [window] = random_resized_windows(
        np.array([height]), np.array([width]), scale, aspects, u[:, :10], u[:, 10:20], u[:, 20], u[:, 21]
    ).tolist()
    assert window == window_by_loop(height, width, scale, aspects, u[0, :10], u[0, 10:20], u[0, 20], u[0, 21])
    y, x, h, w = window
    assert y >= 0 and x >= 0 and h >= 1 and w >= 1 and y + h <= height and x + w <= width
    fallback = window_by_loop(height, width, scale, aspects, [], [], 0, 0)
    if window != fallback:
        rounding = (h + w) / 2 + 0.25  # half a pixel on each side
        assert scale[0] * height * width - rounding <= h * w <= scale[1] * height * width + rounding


def test_area_and_place_are_uniform():
    n = 20000
    u = np.random.default_rng(1).random((n, 22))
    side = np.full(n, 1000)
    windows = random_resized_windows(side, side, (0.2, 0.6), (3 / 4, 4 / 3), u[:, :10], u[:, 10:20], u[:, 20], u[:, 21])
    share = windows[:, 2] * windows[:, 3] / 1e6
    # At these shares every first try fits, so the share is U(.2, .6) itself: mean .4, deviation .4 / sqrt 12.
    assert abs(share.mean() - 0.4) < 5 * 0.4 / math.sqrt(12 * n)
    assert np.abs(np.quantile(share, [0.1, 0.5, 0.9]) - [0.24, 0.4, 0.56]).max() < 0.01
    ratio = np.log(windows[:, 3] / windows[:, 2])
    assert abs(ratio.mean()) < 0.01 and ratio.min() >= math.log(0.74) and ratio.max() <= math.log(1.35)
    free = windows[:, 0] / (1000 - windows[:, 2])
    assert abs(free.mean() - 0.5) < 0.01


@settings(max_examples=100, deadline=None)
@given(
    height=sides,
    width=sides,
    area=st.floats(0.02, 1),
    aspect=st.floats(0.3, 3),
    y=st.floats(0, 1),
    x=st.floats(0, 1),
)
def test_zooms_lie_inside(height, width, area, aspect, y, x):
    arrays = [np.array([v]) for v in (height, width, area, aspect, y, x)]
    [[top, left, h, w]] = zoom_windows(*arrays).tolist()
    assert top >= 0 and left >= 0 and h >= 1 and w >= 1 and top + h <= height and left + w <= width


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(1, 224),
    area=st.floats(0, 0.2),
    aspect=st.floats(0.3, 3.3),
    y=st.floats(0, 1, exclude_max=True),
    x=st.floats(0, 1, exclude_max=True),
)
def test_erased_boxes_lie_inside_and_have_their_share(size, area, aspect, y, x):
    [[top, left, h, w]] = erase_boxes(size, *(np.array([v]) for v in (area, aspect, y, x))).tolist()
    assert top >= 0 and left >= 0 and top + h <= size and left + w <= size
    assert abs(h * w - area * size * size) <= (h + w) / 2 + 0.75
    if area == 0:
        assert h == w == 0
