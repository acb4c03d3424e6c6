"""Variant groups: the same partition as scikit-learn's clustering, CGacc by hand, the threshold by its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score

from skill_fast.evaluate import variants
from skill_fast.evaluate.clusters import contingency
from skill_fast.evaluate.variants import (
    THRESHOLDS,
    blocks,
    cgacc,
    choose_threshold,
    cut,
    pair_scores,
    score_groups,
    split_blocks,
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


def test_a_large_block_is_split_and_the_result_says_what_that_cost(monkeypatch):
    monkeypatch.setattr(variants, "LARGEST_BLOCK", 100)
    monkeypatch.setattr(variants, "CELL", 60)
    vectors, truth = designs(60, 4, noise=0.05)
    block = np.where(truth < 50, 0, 1)
    split, how = split_blocks(vectors, block, truth)
    assert np.bincount(split).max() <= 60 and (split[truth >= 50] == split[-1]).all()
    # Every true pair, counted by a loop.
    pairs = [(i, j) for i in range(240) for j in range(i) if truth[i] == truth[j]]
    kept = np.mean([split[i] == split[j] for i, j in pairs])
    assert kept > 0.9 and f"{kept:.3f} of the true pairs kept" in how and "1 blocks of over 100" in how
    halves, notes = (np.flatnonzero(truth % 2 == 0), np.flatnonzero(truth % 2 == 1)), {}
    assert dict(variant_scores(vectors, block, truth, *halves, notes))["ari"] > 0.9
    monkeypatch.setattr(variants, "VALIDATED", 40)
    dict(variant_scores(vectors, block, truth, *halves, notes))
    assert "threshold chosen on 40 of 120 validation products" in notes["variants"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=25))
def test_pair_counts_give_scikit_learns_scores(rows):
    predicted, truth = np.array(rows).T
    table = contingency(predicted, truth)
    ari, matched, nmi = pair_scores(table, np.ones(table.shape[1]))
    assert ari == pytest.approx(adjusted_rand_score(truth, predicted), abs=1e-9)
    assert matched == pytest.approx(fowlkes_mallows_score(truth, predicted), abs=1e-9)
    assert nmi == pytest.approx(normalized_mutual_info_score(truth, predicted), abs=1e-9)
    scores = score_groups(predicted, truth)
    assert scores.ari == adjusted_rand_score(truth, predicted)
    assert scores.fowlkes_mallows == fowlkes_mallows_score(truth, predicted)
    assert scores.nmi == normalized_mutual_info_score(truth, predicted)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=15),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_drawn_groups_are_counted_pair_by_pair(rows, times):
    predicted, truth = np.array(rows).T
    weight = np.array(times)[np.unique(truth, return_inverse=True)[1]].astype(float)
    together = of_truth = of_predicted = every = 0.0
    for i in range(len(truth)):
        for j in range(i):
            pair = weight[i] if truth[i] == truth[j] else weight[i] * weight[j]
            every += pair
            of_truth += pair * (truth[i] == truth[j])
            of_predicted += pair * (predicted[i] == predicted[j])
            together += pair * (truth[i] == truth[j] and predicted[i] == predicted[j])
    table = contingency(predicted, truth)
    ari, matched, _ = pair_scores(table, np.array(times)[: table.shape[1]])
    expected = of_predicted * of_truth / every if every else 0.0
    most = (of_predicted + of_truth) / 2
    assert ari == pytest.approx((together - expected) / (most - expected) if most > expected + 1e-9 else 1.0, abs=1e-6)
    assert matched == pytest.approx(together / (of_predicted * of_truth) ** 0.5 if together else 0.0, abs=1e-9)


def test_intervals_stand_around_the_scores():
    vectors, truth = designs(30, 4, noise=0.7)
    halves = np.flatnonzero(truth < 15), np.flatnonzero(truth >= 15)
    scores = dict(variant_scores(vectors, np.zeros(len(truth), int), truth, *halves))
    for name in ("ari", "fowlkes_mallows", "nmi", "cgacc_majority", "cgacc_exact", "cgacc_purity"):
        assert scores[name].low <= scores[name] <= scores[name].high
    assert scores["ari"].high - scores["ari"].low > 0.02
