"""Recall and average precision against loops over a sorted list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.evaluate.bootstrap import mean_of
from skill_fast.evaluate.retrieval import (
    average_precision,
    relevant_ranks,
    retrieve,
    same_design_other_color,
    same_product,
)


def scores_by_loops(embeddings, queries, is_relevant, is_ignored, ks):
    """Sort the gallery of each query by cosine, irrelevant first where equal; walk down the list."""
    hits, precisions = {k: [] for k in ks}, []
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for q in queries:
        gallery = [
            (-round(float(unit[q] @ unit[j]), 6), is_relevant(q, j)) for j in range(len(unit)) if not is_ignored(q, j)
        ]
        gallery.sort()
        found, total = 0, 0.0
        for rank, (_, good) in enumerate(gallery, start=1):
            if good:
                found += 1
                total += found / rank
        precisions.append(total / found)
        for k in ks:
            hits[k].append(any(good for _, good in gallery[:k]))
    return {k: np.mean(hits[k]) for k in ks}, np.mean(precisions)


def test_same_product_is_the_loop():
    rng = np.random.default_rng(1)
    product = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5, 5, 6])
    embeddings = rng.normal(size=(14, 3)) + rng.normal(size=(7, 3))[product]
    score = same_product(embeddings, product)
    queries = [i for i in range(14) if (product == product[i]).sum() > 1]
    recall, mean = scores_by_loops(
        embeddings, queries, lambda q, j: product[q] == product[j], lambda q, j: q == j, (1, 5, 10)
    )
    assert score.recall == pytest.approx(recall)
    assert score.map == pytest.approx(mean)
    assert (score.queries, score.gallery) == (11, 14)


def test_single_photographs_are_in_the_gallery_only():
    # The lone photograph of product 1 stands between the two of product 0 and spoils recall@1 of both.
    angles = np.array([0.0, 0.3, 0.2])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    score = same_product(embeddings, np.array([0, 0, 1]))
    assert score.queries == 2
    assert score.recall == {1: 0.0, 5: 1.0, 10: 1.0}
    assert score.map == pytest.approx(0.5)


def test_other_color_is_the_loop():
    rng = np.random.default_rng(2)
    group = np.array(["a", "a", "a", "b", "b", "c", "", "", "d", "d", "e", "e"])
    color = np.array(["red", "blue", "red", "red", "red", "blue", "red", "blue", "", "red", "", ""])
    embeddings = rng.normal(size=(12, 4))

    def relevant(q, j):
        same = group[q] != "" and group[q] == group[j] and q != j
        return same and (color[q] != color[j] or color[q] == "")

    def ignored(q, j):
        return q == j or (group[q] != "" and group[q] == group[j] and not relevant(q, j))

    queries = [q for q in range(12) if any(relevant(q, j) for j in range(12))]
    assert queries == [0, 1, 2, 8, 9, 10, 11]
    score = same_design_other_color(embeddings, group, color)
    recall, mean = scores_by_loops(embeddings, queries, relevant, ignored, (1, 5, 10))
    assert score.queries == len(queries)
    assert score.recall == pytest.approx(recall)
    assert score.map == pytest.approx(mean)


def test_ties_count_against_the_embedding():
    similarity = np.array([0.5, 0.5, 0.5, 0.2, 0.9])
    ranks = relevant_ranks(similarity, relevant=np.array([0, 3]), ignored=np.array([], dtype=int))
    # 0.9 and the two equal irrelevant ones come before the first, which comes before 0.2.
    assert ranks.tolist() == [4, 5]
    assert average_precision(ranks) == pytest.approx((1 / 4 + 2 / 5) / 2)


def test_a_collapsed_embedding_finds_nothing():
    product = np.repeat(np.arange(30), 2)
    score = same_product(np.ones((60, 8)), product)
    assert score.recall == {1: 0.0, 5: 0.0, 10: 0.0}


def test_a_perfect_embedding_finds_everything():
    group = np.repeat([f"g{i}" for i in range(9)], 3)
    color = np.tile(["red", "blue", "green"], 9)
    embeddings = np.eye(9)[np.repeat(np.arange(9), 3)]
    score = same_design_other_color(embeddings, group, color)
    assert score.recall[1] == 1.0
    assert score.map == 1.0


def test_without_queries_there_is_no_score():
    assert same_product(np.ones((3, 2)), np.arange(3)) is None
    assert same_design_other_color(np.ones((2, 2)), np.array(["", ""]), np.array(["red", "blue"])) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_recall_grows_with_k_and_order_does_not_matter(seed, tied):
    rng = np.random.default_rng(seed)
    product = np.concatenate([np.arange(8), rng.integers(8, size=17)])
    embeddings = rng.normal(size=(25, 3))
    if tied:
        embeddings = np.sign(embeddings)
    every = np.arange(1, 26)

    def score(order):
        mine, shown = product[order], embeddings[order]
        queries = np.flatnonzero(np.bincount(product, minlength=8)[mine] > 1)
        places = np.arange(25)
        return retrieve(
            shown,
            queries,
            lambda q: np.flatnonzero((mine == mine[q]) & (places != q)),
            lambda q: np.array([q]),
            queries,
            recall_at=tuple(every.tolist()),
        )

    plain, shuffled = score(np.arange(25)), score(rng.permutation(25))
    recall = list(plain.recall.values())
    assert recall == sorted(recall)
    assert recall[-1] == 1.0
    assert 0 < plain.map <= 1
    assert shuffled.recall == pytest.approx(plain.recall)
    assert shuffled.map == pytest.approx(plain.map)


def test_intervals_are_over_products_not_photographs():
    """Ten photographs of a product hit or miss together: the interval is as wide as that of one a product."""
    products, photographs = 24, 10
    hits = np.arange(products) < 12
    embeddings = np.zeros((products, photographs, products + products // 2 * photographs))
    for product in range(products):
        if hits[product]:
            embeddings[product, :, product] = 1  # all alike
        else:  # each photograph is one of the neighbouring product's, and like none of its own
            places = products + (product - 12) // 2 * photographs + np.arange(photographs)
            embeddings[product, np.arange(photographs), places] = 1
    of_image = np.repeat(np.arange(products), photographs)
    got = same_product(embeddings.reshape(products * photographs, -1), of_image).recall[1]
    alone = mean_of(hits.astype(float))
    assert float(got) == 0.5 and (got.low, got.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert got.high - got.low > 0.3
