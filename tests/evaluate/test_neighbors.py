"""Neighbours: exact lists against a loop, the inverted file's stated recall against one counted here, equal votes."""

import re

import numpy as np
import pytest

from skill_fast.evaluate import color, knn, neighbors, retrieval
from skill_fast.evaluate.clusters import CELL, cells_of, cluster, purity
from skill_fast.evaluate.color import nearest_entropy
from skill_fast.evaluate.knn import knn_score, knn_scores
from skill_fast.evaluate.neighbors import nearest, recall
from skill_fast.evaluate.retrieval import same_product


def designs(count, each, dims=16, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(count, dims))
    truth = np.repeat(np.arange(count), each)
    return (middle[truth] + noise * rng.normal(size=(len(truth), dims))).astype(np.float32), truth


def test_exact_lists_are_the_loop(monkeypatch):
    monkeypatch.setattr(neighbors, "BLOCK_VALUES", 40)
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(7, 5)), rng.normal(size=(19, 5))
    found = nearest(queries, gallery, 4)
    for query, places, similarity in zip(queries, found.places, found.similarity):
        cosines = [float(query @ g) / float(np.linalg.norm(query) * np.linalg.norm(g)) for g in gallery]
        wanted = sorted(range(19), key=lambda j, c=cosines: -c[j])[:4]
        assert places.tolist() == wanted
        np.testing.assert_allclose(similarity, [cosines[j] for j in wanted], atol=2e-6)
    assert found.how == "" and nearest(queries, gallery, 99).places.shape == (7, 19)


def test_the_inverted_file_says_the_recall_that_it_has(monkeypatch):
    vectors, _ = designs(100, 20)
    truth = nearest(vectors, vectors, 21)
    monkeypatch.setattr(neighbors, "EXACT_PAIRS", 0)
    # All are sampled, so that the stated recall can be counted.
    monkeypatch.setattr(neighbors, "SAMPLED", len(vectors))
    found = nearest(vectors, vectors, 21)
    stated = re.fullmatch(
        r"approximate, faiss ivf(\d+) nprobe (\d+), recall@10 (\S+) on 2,000 sampled queries", found.how
    )
    others = [
        (set(np.delete(f, np.flatnonzero(f == i)[:1])[:10].tolist()), set(np.delete(t, np.flatnonzero(t == i))[:10]))
        for i, (f, t) in enumerate(zip(found.places[:, :11], truth.places[:, :11]))
    ]
    counted = np.mean([len(mine & exact) / 10 for mine, exact in others])
    assert float(stated[3]) == pytest.approx(counted, abs=0.005) and counted >= neighbors.RECALL_GOAL
    assert int(stated[1]) == 64 and int(stated[2]) in neighbors.PROBES
    # A similarity that was found is the true one.
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found.similarity[5, :10], unit[found.places[5, :10]] @ unit[5], atol=2e-6)


def test_a_collapsed_embedding_is_not_compared_with_all(monkeypatch):
    monkeypatch.setattr(neighbors, "EXACT_PAIRS", 0)
    monkeypatch.setattr(neighbors, "MOST_VISITED", 50)
    found = nearest(np.ones((400, 4)), np.ones((300, 4)), 60)
    assert (found.places[:, :50] >= 0).all() and (found.places[:, 50:] == -1).all()
    assert np.isinf(found.similarity[:, 50:]).all() and len(np.unique(found.places)) > 10


def test_without_faiss_the_search_stays_exact(monkeypatch):
    vectors, _ = designs(10, 5)
    wanted = nearest(vectors, vectors, 6)
    monkeypatch.setattr(neighbors, "EXACT_PAIRS", 0)
    monkeypatch.setattr(neighbors, "load_faiss", lambda: None)
    found = nearest(vectors, vectors, 6)
    assert found.how == "" and (found.places == wanted.places).all()


def test_recall_by_hand():
    truth = np.array([[1.0, 0.9, 0.8, 0.7]])
    assert recall(np.array([[1.0, 0.9, 0.7, 0.5]]), truth) == 0.75
    # The query itself is the first: two of three others, and a tie with the last true one is a hit.
    assert recall(np.array([[1.0, 0.7, 0.7, 0.5]]), truth, itself=True) == pytest.approx(2 / 3)


def test_votes_and_entropies_from_lists_are_those_of_all_similarities(monkeypatch):
    vectors, truth = designs(40, 5, noise=0.8)
    rng = np.random.default_rng(2)
    values = np.array(["a", "b", "c", ""])[(truth + (rng.random(200) < 0.3)) % 4]
    shades, everyone = rng.integers(6, size=200).astype(str), np.arange(200)
    plain = knn_score(vectors, values, truth, everyone, everyone), nearest_entropy(vectors, shades)
    monkeypatch.setattr(knn, "LISTED_BANK", 10)
    monkeypatch.setattr(color, "LISTED", 10)
    attributes = {"x": values, "same labels": values}
    listed = dict(knn_scores(vectors, attributes, truth, everyone, everyone))
    assert listed["x"] == listed["same labels"] == plain[0]
    assert nearest_entropy(vectors, shades) == plain[1]
    queries, bank = everyone[:50], everyone[50:]
    monkeypatch.setattr(knn, "LISTED_BANK", 10_000)
    apart = knn_score(vectors, values, truth, queries, bank)
    monkeypatch.setattr(knn, "LISTED_BANK", 10)
    assert knn_score(vectors, values, truth, queries, bank) == apart


def test_drawn_queries_keep_products_whole_and_estimate_the_same(monkeypatch):
    vectors, truth = designs(300, 4, noise=1.2)
    whole = same_product(vectors, truth)
    monkeypatch.setattr(retrieval, "RANKED_PAIRS", 600 * len(vectors))
    part = same_product(vectors, truth)
    assert part.queries == 600 and part.gallery == 1200 and whole.how == ""
    assert part.how == "exact ranks of 600 queries drawn from 1,200"
    assert part.map.low < whole.map < part.map.high and part.map.high - part.map.low < 0.15


def test_clusters_within_cells_are_as_pure_as_clusters_of_all():
    vectors, truth = designs(700, 10, dims=24, noise=0.1)
    found = cluster(vectors, 700)
    assert "MiniBatchKMeans" in found.how and len(np.unique(found.labels)) == pytest.approx(700, rel=0.05)
    assert purity(found.labels, truth) > 0.75
    # The same 7,000 at random: 1 of 10 and what chance adds.
    assert purity(np.random.default_rng(0).permutation(found.labels), truth) < 0.2
    assert cluster(vectors[:300], 30).how == ""


def test_cells_are_small_and_equal_vectors_are_dealt_at_random():
    vectors, _ = designs(700, 10)
    assert np.bincount(cells_of(vectors, CELL)).max() <= CELL
    equal = cells_of(np.ones((500, 4)), 100)
    assert np.bincount(equal).tolist() == [100] * 5
    assert len(set(equal[:20].tolist())) > 1
