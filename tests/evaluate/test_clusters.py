"""Spherical k-means, entropy, purity and NMI against their definitions and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from skill_fast.evaluate.clusters import entropy_nats, normalised_mutual_information, purity, spherical_kmeans
from skill_fast.evaluate.similarity import unit_rows

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


def blobs(seed, centres=5, each=12, spread=0.05):
    rng = np.random.default_rng(seed)
    middle = np.eye(8)[:centres]
    truth = np.repeat(np.arange(centres), each)
    return middle[truth] + spread * rng.normal(size=(len(truth), 8)), truth


@pytest.mark.parametrize("seed", range(5))
def test_separate_blobs_are_found(seed):
    vectors, truth = blobs(seed)
    found = spherical_kmeans(vectors, 5, seed=seed)
    assert normalized_mutual_info_score(truth, found) == pytest.approx(1.0)


def test_only_direction_counts():
    vectors, truth = blobs(0)
    lengths = np.random.default_rng(1).uniform(0.01, 100, size=(len(vectors), 1))
    assert normalized_mutual_info_score(truth, spherical_kmeans(vectors * lengths, 5)) == pytest.approx(1.0)


def test_the_result_is_a_fixed_point():
    vectors = unit_rows(np.random.default_rng(3).normal(size=(101, 6)))
    found = spherical_kmeans(vectors, 9, seed=3)
    assert np.bincount(found, minlength=9).min() >= 1
    centres = np.array([vectors[found == c].sum(axis=0) for c in range(9)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    # Ties aside, every vector already sits with its nearest centre.
    np.testing.assert_array_equal((vectors @ centres.T).argmax(axis=1), found)


def test_same_seed_same_clusters():
    vectors = np.random.default_rng(4).normal(size=(60, 6))
    np.testing.assert_array_equal(spherical_kmeans(vectors, 6, seed=2), spherical_kmeans(vectors, 6, seed=2))


def test_collapsed_vectors_are_one_cluster():
    assert len(np.unique(spherical_kmeans(np.ones((50, 4)), 5))) == 1


def test_fewer_vectors_than_clusters():
    assert sorted(spherical_kmeans(np.eye(3), 7).tolist()) == [0, 1, 2]


def test_entropy_by_hand():
    assert entropy_nats(np.array([2, 2])) == pytest.approx(math.log(2))
    assert entropy_nats(np.array([3, 1, 0])) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert entropy_nats(np.array([5, 0])) == 0
    assert entropy_nats(np.array([0, 0])) == 0


def test_purity_by_hand():
    clusters = np.array([0, 0, 0, 1, 1, 2])
    labels = np.array(["a", "a", "b", "b", "c", "a"])
    assert purity(clusters, labels) == pytest.approx((2 + 1 + 1) / 6)


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_nmi_is_scikit_learns_and_purity_is_the_loop(pairs):
    clusters, labels = np.array(pairs).T
    ours = normalised_mutual_information(clusters, labels)
    assert ours == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-9)
    right = 0
    for cluster in set(clusters.tolist()):
        inside = labels[clusters == cluster].tolist()
        right += max(inside.count(label) for label in inside)
    assert purity(clusters, labels) == pytest.approx(right / len(labels))
