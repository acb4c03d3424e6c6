"""Variant groups: the same partition as scikit-learn's clustering, CGacc by hand, the threshold by its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from skill_fast.evaluate.variants import (
    THRESHOLDS,
    blocks,
    cgacc,
    choose_threshold,
    cut,
    score_groups,
    trees,
    variant_scores,
)


def designs(groups, per_group, seed=0, noise=0.1, dim=16):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dim))
    truth = np.repeat(np.arange(groups), per_group)
    return centres[truth] + noise * rng.normal(size=(len(truth), dim)), truth


@pytest.mark.parametrize("threshold", [0.02, 0.2, 0.45, 0.9])
def test_the_partition_is_scikit_learns(threshold):
    vectors, _ = designs(7, 5, noise=0.6)
    mine = cut(trees(vectors, np.zeros(len(vectors), int)), threshold)
    theirs = AgglomerativeClustering(None, distance_threshold=threshold, linkage="average", metric="cosine")
    assert adjusted_rand_score(mine, theirs.fit_predict(vectors)) == 1.0


def test_blocks_are_never_joined():
    vectors, _ = designs(1, 6, noise=0.0)
    block = blocks({"type": np.array(list("aabbbc")), "brand": np.array(list("xyxxxx")), "color": np.array(["r"] * 6)})
    groups = cut(trees(vectors, block), 1.0)
    assert len(set(block)) == len(set(groups)) == 4
    assert groups[2] == groups[3] == groups[4]


def test_cgacc_by_hand():
    predicted = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    truth = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    # Of the three groups of two or more: {0, 0} is whole, {1, 1, 2} has 2 of 3, {4, 5} has 1 of 2: not more than half.
    assert cgacc(predicted, truth, "majority") == pytest.approx(2 / 3)
    assert cgacc(predicted, truth, "exact") == pytest.approx(1 / 3)
    assert cgacc(predicted, truth, "purity") == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert cgacc(np.arange(8), truth) == 0.0
    with pytest.raises(ValueError, match="majority, exact, purity"):
        cgacc(predicted, truth, "best")


def test_a_part_of_a_group_is_not_exact():
    assert cgacc(np.array([0, 0, 1]), np.array([5, 5, 5]), "exact") == 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=20))
def test_scores_do_not_depend_on_names_or_order(rows):
    predicted, truth = np.array(rows).T
    order = np.random.default_rng(0).permutation(len(rows))
    one, other = score_groups(predicted, truth), score_groups(9 - predicted[order], truth[order] * 3)
    assert one.ari == pytest.approx(other.ari, abs=1e-12) and one.cgacc == pytest.approx(other.cgacc)
    assert 0 <= one.cgacc["exact"] <= one.cgacc["majority"] <= 1
    assert one.cgacc["exact"] <= one.cgacc["purity"] + 1e-12


def test_the_threshold_is_the_best_on_validation():
    vectors, truth = designs(6, 4, noise=0.5)
    block = np.zeros(len(truth), int)
    forest = trees(vectors, block)
    scores = [adjusted_rand_score(truth, cut(forest, threshold)) for threshold in THRESHOLDS]
    chosen = choose_threshold(vectors, block, truth)
    assert adjusted_rand_score(truth, cut(forest, chosen)) == max(scores)
    assert chosen == min(t for t, s in zip(THRESHOLDS, scores) if s == max(scores))


def test_designs_are_found_and_a_collapse_is_not_rewarded():
    vectors, truth = designs(12, 4)
    block = np.zeros(len(truth), int)
    halves = np.flatnonzero(truth < 6), np.flatnonzero(truth >= 6)
    assert dict(variant_scores(vectors, block, truth, *halves))["ari"] == 1.0
    collapsed = dict(variant_scores(np.ones_like(vectors), block, truth, *halves))
    assert collapsed["ari"] == 0.0 and collapsed["cgacc_majority"] == 0.0


def test_a_zero_vector_and_a_lone_product():
    vectors = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    groups = cut(trees(vectors, np.array([0, 0, 0, 1])), 0.1)
    assert groups[1] == groups[2] and len(set(groups)) == 3


def test_a_block_too_large_to_link_is_refused(monkeypatch):
    monkeypatch.setattr("skill_fast.evaluate.variants.LARGEST_BLOCK", 3)
    with pytest.raises(ValueError, match="block of 4"):
        trees(np.ones((4, 2)), np.zeros(4, int))
