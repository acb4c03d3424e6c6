"""The plan: a pure function of (seed, epoch, position, view), and the laws of what it draws."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.data.index import open_index
from skill_fast.data.plan import IDENTITY_SIGMA, Planner
from skill_fast.data.sampler import Sampler
from skill_fast.data.views import GenericAugmentation, ViewGroup
from tests.data.conftest import some_products

GLOBAL = ViewGroup("global", (0, 1), 48, (0.4, 1.0))
LOCAL = ViewGroup("local", (0, 0, 0), 24, (0.05, 0.4))
NEVER = GenericAugmentation(flip_p=0, jitter_p=0, gray_p=0, blur_p=0, solarize_p=0)


def planned(index, positions, *, epoch=2, seed=7, groups=(GLOBAL, LOCAL), recipes="by_type"):
    sampler = Sampler(index, index.select("train"), 8, seed)
    planner = Planner(index, groups, seed, recipes=recipes)
    positions = np.asarray(positions)
    first = sampler.images_at(epoch, positions)
    images = np.stack([first, planner.second_photographs(epoch, positions, first)], axis=1)
    return images, planner.crops(epoch, positions, images)


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def rows(plan, chosen):
    return replace(plan, **{f.name: getattr(plan, f.name)[chosen] for f in fields(plan)})


@settings(max_examples=25, deadline=None)
@given(positions=st.lists(st.integers(0, 71), min_size=1, max_size=12))
def test_a_crop_does_not_depend_on_its_batch(index, positions):
    images, plans = planned(index, np.arange(72))
    some_images, some = planned(index, positions)
    assert np.array_equal(some_images, images[positions])
    for name, plan in some.items():
        assert same(plan, rows(plans[name], positions))


def test_more_views_leave_the_others_as_they_were(index):
    positions = np.arange(30)
    _, both = planned(index, positions)
    _, alone = planned(index, positions, groups=(GLOBAL,))
    assert same(alone["global"], both["global"])
    fewer = planned(index, positions, groups=(replace(LOCAL, photographs=(0,)), GLOBAL))[1]["local"]
    assert np.array_equal(fewer.region[:, 0], both["local"].region[:, 0])


def test_seed_epoch_and_view_change_the_crops(index):
    positions = np.arange(72)
    plan = planned(index, positions)[1]["global"]
    assert not np.array_equal(plan.brightness[:, 0], plan.brightness[:, 1])
    for other in (planned(index, positions, seed=8), planned(index, positions, epoch=3)):
        assert (other[1]["global"].brightness != plan.brightness).mean() > 0.5


def test_second_photographs_are_other_ones_each_as_often(catalogue):
    """Products of 1, 2, 4, 5 and 100 photographs (A6): Pearson's chi-squared within 3 sigma of its expectation.

    chi-squared = sum of (times - expected)^2 / expected;  mean k, standard deviation sqrt(2 k) for k + 1 photographs
    """
    products = [replace(p, photographs=[(50, 50)] * n) for p, n in zip(some_products(5), (1, 2, 4, 5, 100))]
    index = open_index(catalogue(products))
    planner = Planner(index, (GLOBAL,), 1)
    for image in [*range(12), 50, index.images - 1]:
        n = 4000
        images = np.full(n, image)
        second = planner.second_photographs(0, np.arange(n), images)
        product = index.product[image]
        assert (index.product[second] == product).all()
        count = index.images_per_product[product]
        if count == 1:
            assert (second == image).all()
            continue
        shown, times = np.unique(second, return_counts=True)
        assert image not in shown and len(shown) == count - 1
        expected, free = n / (count - 1), count - 2
        assert ((times - expected) ** 2).sum() / expected <= free + 3 * np.sqrt(2 * free)


def test_upright_windows_lie_in_the_photograph_and_keep_their_share(index):
    """Recipe none: the region is the window that was drawn, the homography the identity."""
    positions = np.arange(72)
    images, plans = planned(index, positions, recipes="none")
    for group in (GLOBAL, LOCAL):
        plan = plans[group.name]
        for view, shown in enumerate(group.photographs):
            height, width = index.height[images[:, shown]], index.width[images[:, shown]]
            y0, x0, y1, x1 = plan.region[:, view].T
            y, x, h, w = plan.window[:, view].T
            assert np.array_equal([y, x, y + h, x + w], [y0, x0, y1, x1])
            assert (y0 >= 0).all() and (x0 >= 0).all() and (y1 <= height).all() and (x1 <= width).all()
            share, rounding = h * w / (height * width), ((h + w) / 2 + 0.25) / (height * width)
            assert (share <= group.scale[1] + rounding).all() and (share >= group.scale[0] - rounding).all()
        assert (plan.homography == np.eye(3)).all() and (plan.resized == group.size).all()
        assert (plan.erase_box[..., 2:] == 0).all()


def test_what_does_not_fire_is_the_identity(index):
    plan = planned(index, np.arange(72), groups=(replace(GLOBAL, generic=NEVER),), recipes="none")[1]["global"]
    assert (plan.brightness == 1).all() and (plan.contrast == 1).all() and (plan.saturation == 1).all()
    assert (plan.hue_degrees == 0).all() and (plan.blur_sigma == np.float32(IDENTITY_SIGMA)).all()
    assert (plan.solarize_from == 256).all() and (plan.mirror == 0).all()


def test_probabilities_and_ranges_are_those_of_g(index):
    generic = GenericAugmentation(solarize_p=0.2)
    positions = np.arange(6000)
    images = np.zeros((6000, 2), dtype=np.int64)
    plan = Planner(index, (replace(GLOBAL, generic=generic),), 0).crops(0, positions, images)["global"]

    def near(share, p):
        return abs(share - p) < 5 * np.sqrt(p * (1 - p) / plan.mirror.size)

    assert near((plan.mirror == 1).mean(), 0.5)
    assert near((plan.brightness != 1).mean(), 0.8) and near((plan.hue_degrees != 0).mean(), 0.8)
    assert near((plan.saturation == 0).mean(), 0.5)
    assert near((plan.blur_sigma > IDENTITY_SIGMA * 1.01).mean(), 0.5)
    assert near((plan.solarize_from == 128).mean(), 0.2)
    # Jitter comes whole or not at all.
    assert np.array_equal(plan.brightness != 1, plan.contrast != 1)
    for values, low, high in (
        (plan.brightness[plan.brightness != 1], 0.6, 1.4),
        (plan.saturation[(plan.saturation != 0) & (plan.saturation != 1)], 0.8, 1.2),
        (plan.hue_degrees[plan.hue_degrees != 0], -36, 36),
        (plan.blur_sigma[plan.blur_sigma > 0.05], 0.1, 2.0),
    ):
        assert low <= values.min() and values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(12 * len(values))


@pytest.mark.parametrize("recipe", ["dress", "shirt", "furniture", "flat", "shoes_bags"])
def test_recipes_fire_as_often_as_they_say(index, recipe):
    from skill_fast.data.recipes import load_recipe

    values = load_recipe(recipe)
    n = 3000
    image = int(index.first_image[4])
    whole = ViewGroup("whole", (0,), 32, (1.0, 1.0), generic=NEVER)
    images = np.full((n, 2), image)
    plan = Planner(index, (whole,), 0, recipes=recipe).crops(0, np.arange(n), images)["whole"]
    bent = (plan.homography[:, 0] != np.eye(3)).any(axis=(1, 2))
    still = (1 - values.rotate_p) * (1 - values.scale_p) * (1 - values.perspective_p) * (1 - values.vertical_flip_p)
    still *= 0.25 if values.quarter_turns else 1
    for share, p in ((bent.mean(), 1 - still), ((plan.erase_box[:, 0, 2] > 0).mean(), values.erase_p)):
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / n)
    erased = plan.erase_box[:, 0, 2] * plan.erase_box[:, 0, 3] / 32**2
    assert erased.max() <= 0.23
    height, width = index.height[image], index.width[image]
    y0, x0, y1, x1 = plan.region[:, 0].T
    assert (y0 >= 0).all() and (x0 >= 0).all() and (y1 <= height).all() and (x1 <= width).all()
    assert (plan.resized[:, 0] >= 1).all() and np.isfinite(plan.homography).all()


def test_the_recipe_is_that_of_each_product(index):
    """By type: what is planned for a product is what its own recipe alone would plan."""
    images, mixed = planned(index, np.arange(72))
    from skill_fast.data.recipes import recipe_for

    types = np.array(index.product_types)[index.product_type[index.product[images[:, 0]]]]
    names = np.array([recipe_for(t) for t in types])
    assert len(set(names)) == 6
    for name in set(names):
        _, alone = planned(index, np.arange(72), recipes=str(name))
        for group in ("global", "local"):
            assert same(rows(mixed[group], names == name), rows(alone[group], names == name))
