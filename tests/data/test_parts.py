"""Views of parts of a photograph: every crop lies in its part, and a whole part changes no number."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from skill_fast.data.index import open_index
from skill_fast.data.plan import CropPlan, Planner
from skill_fast.data.views import WHOLE, ViewGroup
from skill_fast.methods.pbcnet import PARTS


@pytest.fixture(scope="module")
def index(drawn):
    return open_index(drawn)


def plan_of(index, group: ViewGroup, recipes: str = "none") -> tuple[CropPlan, np.ndarray]:
    images = np.stack([np.arange(30)] * 2, axis=1)
    return Planner(index, [group], 3, recipes=recipes).crops(0, np.arange(30), images)[group.name], images


def test_crops_lie_in_their_parts(index):
    group = ViewGroup("parts", (0,) * len(PARTS), 16, (0.8, 1.0), parts=PARTS)
    plan, images = plan_of(index, group)
    height, width = np.asarray(index.height[images[:, 0]]), np.asarray(index.width[images[:, 0]])
    for view, (top, left, bottom, right) in enumerate(PARTS):
        y0, x0, y1, x1 = plan.region[:, view].T
        assert np.all(y0 >= np.floor(top * height)) and np.all(y1 <= np.ceil(bottom * height))
        assert np.all(x0 >= np.floor(left * width)) and np.all(x1 <= np.ceil(right * width))
        area = (np.ceil(bottom * height) - np.floor(top * height)) * (np.ceil(right * width) - np.floor(left * width))
        # The crop law's fallback for parts of an extreme aspect cuts to 3/4: never under half of the part here.
        assert np.all((y1 - y0) * (x1 - x0) >= 0.5 * area)


@pytest.mark.parametrize("recipes", ["none", "by_type"])
def test_the_whole_as_a_part_is_no_part(index, recipes):
    plain, _ = plan_of(index, ViewGroup("global", (0, 1), 16, (0.4, 1.0)), recipes)
    whole, _ = plan_of(index, ViewGroup("global", (0, 1), 16, (0.4, 1.0), parts=(WHOLE, WHOLE)), recipes)
    for field in fields(CropPlan):
        assert np.array_equal(getattr(plain, field.name), getattr(whole, field.name)), field.name
