"""kNN accuracy against the definition written out as loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.evaluate.knn import knn_predict, knn_score, knn_scores, why_not_scorable
from skill_fast.evaluate.products import group_codes


def knn_by_loops(embeddings, classes, groups, queries, bank, k, temperature):
    """For each query: cosine to every bank product of another group, the k largest, a vote of exp(cos / T) each."""
    predicted = []
    for q in queries:
        similarities = []
        for j in bank:
            if groups[j] == groups[q]:
                continue
            dot = sum(float(a) * float(b) for a, b in zip(embeddings[q], embeddings[j]))
            norm = math.sqrt(sum(float(a) ** 2 for a in embeddings[q]) * sum(float(b) ** 2 for b in embeddings[j]))
            similarities.append((dot / norm, int(classes[j])))
        similarities.sort(key=lambda pair: -pair[0])
        votes: dict[int, float] = {}
        for similarity, name in similarities[:k]:
            votes[name] = votes.get(name, 0.0) + math.exp(similarity / temperature)
        predicted.append(max(votes, key=lambda name: votes[name]) if votes else -1)
    return np.array(predicted)


def random_case(seed, products=61, dims=5, classes=4, groups=23):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(products, dims)), rng.integers(classes, size=products), rng.integers(groups, size=products)


@pytest.mark.parametrize("k", [1, 3, 20, 500])
def test_leave_one_out_is_the_loop(k):
    embeddings, classes, groups = random_case(k)
    everyone = np.arange(len(classes))
    got = knn_predict(embeddings, classes, groups, everyone, everyone, k=k)
    np.testing.assert_array_equal(got, knn_by_loops(embeddings, classes, groups, everyone, everyone, k, 0.07))


def test_queries_and_bank_apart_are_the_loop():
    embeddings, classes, groups = random_case(7)
    queries, bank = np.arange(0, 20), np.arange(20, 61)
    got = knn_predict(embeddings, classes, groups, queries, bank, k=20)
    np.testing.assert_array_equal(got, knn_by_loops(embeddings, classes, groups, queries, bank, 20, 0.07))


def test_weights_count_not_only_heads():
    # One neighbour at cosine 1 against two at cosine 0.8: e^(1/.07) > 2 e^(.8/.07).
    embeddings = np.array([[1, 0], [1, 0], [0.8, 0.6], [0.8, -0.6]])
    classes = np.array([0, 1, 0, 0])
    apart = np.arange(4)
    assert knn_predict(embeddings, classes, apart, np.array([0]), np.array([1, 2, 3]), k=3).tolist() == [1]
    assert knn_predict(
        embeddings, classes, apart, np.array([0]), np.array([1, 2, 3]), k=3, temperature=10
    ).tolist() == [0]


def test_own_variant_group_never_votes():
    embeddings = np.array([[1.0, 0], [1, 0], [0, 1]])
    classes, groups = np.array([0, 0, 1]), np.array([5, 5, 6])
    everyone = np.arange(3)
    assert knn_predict(embeddings, classes, groups, everyone, everyone, k=1).tolist()[0] == 1
    assert knn_predict(embeddings, classes, np.zeros(3, int), everyone, everyone).tolist() == [-1, -1, -1]


def test_ties_at_place_k_share_it_whatever_the_order():
    # Four equal neighbours, k = 2: each has half a vote, so the class with three of them wins from any order.
    embeddings = np.array([[1.0, 0]] * 5)
    classes, groups = np.array([0, 1, 0, 1, 1]), np.arange(5)
    for seed in range(5):
        bank = np.random.default_rng(seed).permutation(np.arange(1, 5))
        assert knn_predict(embeddings, classes, groups, np.array([0]), bank, k=2).tolist() == [1]


def test_collapse_scores_the_majority_class():
    rng = np.random.default_rng(0)
    values = rng.choice(["a", "a", "a", "b", "c"], size=90)
    everyone = np.arange(90)
    score = knn_score(np.ones((90, 7)), values, np.arange(90), everyone, everyone)
    assert score.accuracy == pytest.approx(score.majority) == np.mean(values == "a")


def test_unlabelled_products_neither_ask_nor_vote():
    embeddings, classes, groups = random_case(3, products=80)
    values = np.array(["x", "y", "z", ""])[classes]
    everyone = np.arange(80)
    labelled = np.flatnonzero(values != "")
    score = knn_score(embeddings, values, groups, everyone, everyone)
    expected = knn_by_loops(embeddings, classes, groups, labelled, labelled, 20, 0.07)
    assert score.queries == score.bank == len(labelled)
    assert score.classes == 3
    assert score.accuracy == pytest.approx(np.mean(expected == classes[labelled]))


def test_which_attributes_are_scored():
    everyone = np.arange(40)
    attributes = {
        "good": np.array(["a", "b"] * 20),
        "constant": np.array(["a"] * 40),
        "identifier": np.array([f"id{i}" for i in range(40)]),
        "rare": np.array(["a", "b"] * 5 + [""] * 30),
        "empty": np.array([""] * 40),
    }
    reasons = {name: why_not_scorable(values, everyone, everyone) for name, values in attributes.items()}
    assert reasons["good"] == ""
    assert "same value" in reasons["constant"]
    assert "identifier" in reasons["identifier"]
    assert "10 labelled queries" in reasons["rare"]
    assert "no product" in reasons["empty"]
    embeddings = np.random.default_rng(0).normal(size=(40, 3))
    assert [name for name, _ in knn_scores(embeddings, attributes, everyone, everyone, everyone)] == ["good"]


def test_groups_without_a_name_are_groups_of_one():
    codes = group_codes(np.array(["g", "", "g", ""]))
    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25))
def test_order_of_the_products_does_not_matter(seed, k):
    rng = np.random.default_rng(seed)
    # Few different vectors: many ties. Class counts are kept apart so that no vote is tied between classes.
    embeddings = np.array([[1.0, 0], [0, 1], [-1, 0]])[rng.integers(3, size=30)]
    classes, groups = rng.integers(2, size=30), np.arange(30)
    order = rng.permutation(30)
    everyone = np.arange(30)
    plain = knn_predict(embeddings, classes, groups, everyone, everyone, k=k)
    shuffled = knn_predict(embeddings[order], classes[order], groups[order], everyone, everyone, k=k)
    for place, product in enumerate(order):
        mine = [other for other in everyone if other != product]
        near = [c for c, e in zip(classes[mine], embeddings[mine]) if (e == embeddings[product]).all()]
        if near.count(0) != near.count(1) and len(near) >= k:
            assert plain[product] == shuffled[place]
