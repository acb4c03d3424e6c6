"""What is scored chooses nothing: not a threshold, not a learning rate, not an epoch, not the moments of a feature.

Each test plants products on the scored side that would choose otherwise, so that a choice made with them is seen.
"""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from skill_fast.evaluate import probe
from skill_fast.evaluate.evaluators import Vectors, variant_places, variant_values
from skill_fast.evaluate.probe import Split, linear_probe, make_split, nonlinear_probe
from skill_fast.evaluate.products import ProductSet
from skill_fast.evaluate.variants import THRESHOLDS, variant_scores


def best_threshold(vectors, truth):
    """The definition: scikit-learn's clustering at every threshold, the first of the largest ARI."""
    scores = []
    for threshold in THRESHOLDS:
        model = AgglomerativeClustering(None, distance_threshold=threshold, linkage="average", metric="cosine")
        scores.append(adjusted_rand_score(truth, model.fit_predict(vectors)))
    return THRESHOLDS[int(np.argmax(scores))]


def tight_and_loose(tight, truth, dim=24):
    """Vectors whose groups are tight where ``tight`` says so and loose elsewhere: either wants its own threshold."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(truth.max() + 1, dim))
    noise = np.where(tight, 0.1, 0.7)[:, None]
    return centres[truth] + noise * rng.normal(size=(len(truth), dim))


def test_the_threshold_of_variants_is_chosen_on_validation_groups_alone():
    truth = np.repeat(np.arange(20), 4)
    validation, asked = np.flatnonzero(truth < 10), np.flatnonzero(truth >= 10)
    vectors = tight_and_loose(truth < 10, truth)
    wanted = best_threshold(vectors[validation], truth[validation])
    assert wanted < best_threshold(vectors[asked], truth[asked])
    scores = dict(variant_scores(vectors, np.zeros(80, int), truth, validation, asked))
    assert scores["threshold"] == pytest.approx(wanted, abs=1e-12) and scores["products"] == 40


def product_set(groups, queries, bank):
    rows = np.arange(len(groups))
    blank = np.full(len(groups), "shirt")
    return ProductSet("test", "by hand", rows, rows, rows, queries, bank, {"type": blank}, np.asarray(groups))


GROUPS = np.repeat([f"design-{place}" for place in range(30)], 4)
HELD_OUT = np.arange(80), np.arange(80, 120)
ONE_SPLIT = np.arange(120), np.arange(120)


@pytest.mark.parametrize(("queries", "bank"), [HELD_OUT, ONE_SPLIT], ids=["held out", "one split"])
def test_the_evaluator_chooses_the_threshold_on_groups_that_it_does_not_score(queries, bank):
    products = product_set(GROUPS, queries, bank)
    validation, asked = variant_places(products)
    truth = np.unique(GROUPS, return_inverse=True)[1]
    vectors = tight_and_loose(np.isin(np.arange(120), validation), truth)
    wanted = best_threshold(vectors[validation], truth[validation])
    assert wanted < best_threshold(vectors[asked], truth[asked])
    scores = dict(variant_values(products, Vectors(vectors, vectors)))
    assert scores["variants/threshold"] == pytest.approx(wanted, abs=1e-12)
    assert scores["variants/products"] == len(asked)


@pytest.mark.parametrize(("queries", "bank"), [HELD_OUT, ONE_SPLIT], ids=["held out", "one split"])
def test_validation_and_scored_groups_are_halves_of_the_held_out_ones(queries, bank):
    groups = GROUPS.copy()
    groups[:8] = ""
    groups[8:11] = ["lone-a", "lone-b", "lone-c"]
    groups[100:] = groups[60:80]  # the bank holds products of groups that are scored
    validation, asked = variant_places(product_set(groups, queries, bank))
    assert not set(groups[validation]) & set(groups[asked])
    assert set(validation) | set(asked) == set(queries[groups[queries] != ""])
    # What a supervised method trained on can not stand for what it did not.
    assert set(validation) | set(asked) <= set(queries.tolist())
    for least in (1, 2):
        sizes = [sum(np.unique(groups[places], return_counts=True)[1] >= least) for places in (validation, asked)]
        assert abs(sizes[0] - sizes[1]) <= 1
    # A group's side is its name's: the catalogue's order and other photographs do not move it.
    turned = variant_places(product_set(groups[::-1], np.sort(119 - queries), np.sort(119 - bank)))
    assert set(groups[::-1][turned[0]]) == set(groups[validation])


def test_features_are_standardised_by_the_products_that_are_fitted():
    rng = np.random.default_rng(0)
    vectors = rng.normal(2.0, 3.0, size=(60, 5))
    vectors[40:] = vectors[40:] * 20 + 100  # the tested products lie far off
    labels, groups = np.array(["a", "b"] * 30), np.array([""] * 60)
    split = make_split(vectors, labels, np.arange(40), np.arange(40, 60), groups)
    fit = split.fit[0].double().numpy()
    np.testing.assert_allclose(fit.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(fit.std(axis=0), 1, atol=1e-6)
    assert abs(split.validation[0].mean(dim=0)).max() > 1e-3
    assert split.test[0].mean() > 10


def test_held_back_products_share_no_variant_group_with_the_fitted_ones():
    rng = np.random.default_rng(0)
    groups = np.array([f"g{place}" for place in np.repeat(np.arange(30), 4)] + [""] * 40)
    # A product's number is its first feature: standardising is a line, so ranks give the products back.
    vectors = np.stack([np.arange(160.0), rng.normal(size=160)], axis=1)
    split = make_split(vectors, np.array(["a", "b"] * 80), np.arange(150), np.arange(150, 160), groups)
    both = torch.cat([split.fit[0][:, 0], split.validation[0][:, 0]]).argsort().argsort().numpy()
    fitted, held = set(groups[both[: len(split.fit[1])]]) - {""}, set(groups[both[len(split.fit[1]) :]]) - {""}
    assert held and fitted and not held & fitted and len(both) == 150
    assert 15 <= len(split.validation[1]) < 15 + 4


def test_one_variant_group_alone_is_divided_by_product():
    groups = np.array(["only"] * 30 + ["other"] * 5)
    vectors = np.random.default_rng(0).normal(size=(35, 3))
    split = make_split(vectors, np.array(["a", "b", "c", "d", "e"] * 7), np.arange(30), np.arange(30, 35), groups)
    assert (len(split.fit[1]), len(split.validation[1])) == (27, 3)


def disagreeing():
    """A split whose validation and test products would choose differently: other labels of the same blobs."""
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(0, 3, (n,), generator=generator) for n in (120, 40, 40)]
    centres = torch.randn(3, 6, generator=generator)
    rows = [centres[each] + torch.randn(len(each), 6, generator=generator) for each in labels]
    return Split((rows[0], labels[0]), (rows[1], labels[1]), (rows[2], labels[2]), classes=3)


@pytest.mark.parametrize("train", [linear_probe, nonlinear_probe])
def test_the_labels_of_tested_products_choose_no_learning_rate_and_no_epoch(monkeypatch, train):
    monkeypatch.setattr(probe, "EPOCHS", 25)
    split = disagreeing()
    found = train(split)
    for shift in (1, 2):
        wrong = dataclasses.replace(split, test=(split.test[0], (split.test[1] + shift) % 3))
        np.testing.assert_array_equal(train(wrong), found)
    # The control: the held-back products do choose.
    wrong = dataclasses.replace(split, validation=(split.validation[0], (split.validation[1] + 1) % 3))
    assert not np.array_equal(train(wrong), found)
