"""Orientation: encoders whose answer is known, scores written out as loops, and the task of skill-eval."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from skill_fast.data.evaluation import EvaluationLoader
from skill_fast.evaluate.evaluators import Vectors, orientation_values
from skill_fast.evaluate.orientation import TURNS, embed_turned, orientation_scores
from skill_fast.evaluate.products import product_means, select_products
from skill_fast.evaluate.suite import evaluate, print_table

CROP = {"resize": 40, "crop": 32, "batch_size": 16, "threads": 1}


def mean_color(images):
    return images.mean(dim=(2, 3))


def pixels(images):
    return images.flatten(1) - images.flatten(1).mean(dim=1, keepdim=True)


def blind(images):
    return torch.ones(len(images), 3)


@pytest.fixture(scope="module")
def products(demo_index):
    return select_products(demo_index)


@pytest.fixture(scope="module")
def upright(demo_index, products):
    loader = EvaluationLoader(demo_index, products.images, **CROP)
    return torch.cat([images for _, images in loader])


@pytest.fixture(scope="module")
def sample(demo_index, products):
    embedders = {"mean colour": mean_color, "pixels": pixels, "blind": blind}
    return embed_turned(demo_index, embedders, products, sample=12, **CROP)


def values_of(name, embedder, sample, upright, products):
    images = embedder(upright).numpy()
    vectors = Vectors(images, product_means(images, products.product_of_image), turned=sample.vectors[name])
    return dict(orientation_values(sample, vectors))


def test_the_sample_is_first_and_second_views_of_asked_products(sample, products, demo_index):
    assert len(sample.first) == len(set(products.product_of_image[sample.first])) == 12
    assert set(products.product_of_image[sample.first]) <= set(products.queries)
    assert set(demo_index.view[products.images[sample.first]]) == {0}
    same = products.product_of_image[sample.second]
    np.testing.assert_array_equal(same, products.product_of_image[sample.first][sample.with_second])
    assert set(demo_index.view[products.images[sample.second]]) == {1}
    several = [p for p in products.product_of_image[sample.first] if (products.product_of_image == p).sum() > 1]
    assert same.tolist() == several


def test_turned_photographs_are_turned_pixel_by_pixel(sample, upright):
    side = CROP["crop"]
    for place, photograph in zip(range(3), upright[sample.first[:3]].numpy()):
        for turn, moved in {
            "rotated_90": lambda y, x: (x, side - 1 - y),
            "rotated_180": lambda y, x: (side - 1 - y, side - 1 - x),
            "rotated_270": lambda y, x: (side - 1 - x, y),
            "mirrored": lambda y, x: (y, side - 1 - x),
        }.items():
            wanted = np.empty_like(photograph)
            for y in range(side):
                for x in range(side):
                    wanted[:, y, x] = photograph[:, *moved(y, x)]
            wanted = wanted.ravel() - wanted.mean()
            np.testing.assert_allclose(sample.vectors["pixels"][turn][place], wanted, atol=1e-5)


def test_an_invariant_encoder_stays_itself(sample, upright, products):
    values = values_of("mean colour", mean_color, sample, upright, products)
    for turn in TURNS:
        assert values[f"orientation/{turn}/similarity"] == pytest.approx(1, abs=1e-5)
        assert values[f"orientation/{turn}/similarity"].low == pytest.approx(1, abs=1e-5)
    assert values["orientation/products"] == 12


def test_pixels_do_not(sample, upright, products):
    values = values_of("pixels", pixels, sample, upright, products)
    for turn in TURNS:
        assert values[f"orientation/{turn}/similarity"] < 0.99
        similarity = values[f"orientation/{turn}/similarity"]
        assert similarity.low < similarity < similarity.high


def test_a_collapsed_encoder_is_exposed_by_the_controls(sample, upright, products):
    values = values_of("blind", blind, sample, upright, products)
    assert values["orientation/rotated_90/similarity"] == pytest.approx(1)
    assert values["orientation/other_product/similarity"] == pytest.approx(1)
    assert values["orientation/rotated_90/recall@1"] == 0


def test_scores_by_loop(sample, products):
    rng = np.random.default_rng(3)
    images = rng.normal(size=(len(products.images), 5)).astype(np.float32)
    n = len(sample.first)
    turned = {"rotated_90": images[sample.first] + rng.normal(size=(n, 5)).astype(np.float32)}
    got = dict(orientation_scores(sample, images, turned))

    def cos(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    first = [images[place] for place in sample.first]
    own = [cos(turned["rotated_90"][i], first[i]) for i in range(n)]
    found = [all(own[i] > cos(turned["rotated_90"][i], first[j]) for j in range(n) if j != i) for i in range(n)]
    others = [np.mean([cos(first[i], first[j]) for j in range(n) if j != i]) for i in range(n)]
    same = [cos(first[i], images[place]) for i, place in zip(sample.with_second, sample.second)]
    assert 0 < sum(found) < n
    np.testing.assert_allclose(got["rotated_90/similarity"], own, atol=1e-5)
    np.testing.assert_array_equal(got["rotated_90/recall@1"], found)
    np.testing.assert_allclose(got["other_product/similarity"], others, atol=1e-5)
    np.testing.assert_allclose(got["same_product/similarity"], same, atol=1e-5)


def test_the_task_on_request(run, demo):
    result = evaluate(run, demo, ["orientation"], device="cpu", threads=1)
    histogram = result["rows"]["colour histogram"]
    assert {name.split("/")[0] for name in histogram} == {"orientation"} and not result["absent"]
    assert histogram["orientation/rotated_180/similarity"] == pytest.approx(1, abs=0.02)
    assert result["rows"]["raw pixels"]["orientation/rotated_90/similarity"] < 0.99
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(result, console)
    text = console.export_text()
    assert "Turned and mirrored photographs" in text and "mirrored" in text and "pooling class" in text
