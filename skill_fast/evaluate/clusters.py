"""Spherical k-means, and what a partition says about labels: entropy, purity, normalised mutual information."""

from __future__ import annotations

import numpy as np

from skill_fast.evaluate.similarity import similarity_blocks, unit_rows

RESTARTS = 4
MAX_ITERATIONS = 100


def spherical_kmeans(vectors: np.ndarray, k: int, *, seed: int = 0, restarts: int = RESTARTS) -> np.ndarray:
    """Cluster unit vectors by cosine similarity; of ``restarts`` runs the one with the largest objective.

    repeat: assign each vector to the centre of largest cosine; centre = L2-normalised mean of its vectors
    objective = mean over vectors of cos(vector, own centre); start: k-means++ with distance 1 - cos

    A centre that lost its last vector moves to the vector farthest from its own. Fewer than k clusters come back only
    if fewer than k different vectors went in. [n, D] -> [n] int64 in [0, k). (Dhillon and Modha 2001.)
    """
    vectors = unit_rows(vectors)
    rng = np.random.default_rng(seed)
    runs = [_one_run(vectors, min(k, len(vectors)), rng) for _ in range(restarts)]
    return max(runs, key=lambda run: run[1])[0]


def _one_run(vectors: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    centres = _spread_start(vectors, k, rng)
    before = np.full(len(vectors), -1)
    for _ in range(MAX_ITERATIONS):
        assigned, similarity = _nearest(vectors, centres)
        _fill_empty(assigned, similarity, k)
        if (assigned == before).all():
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, assigned, vectors)
        centres, before = unit_rows(sums), assigned
    return assigned, float(similarity.mean())


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assigned, similarity = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    for places, block in similarity_blocks(vectors, centres):
        assigned[places], similarity[places] = block.argmax(axis=1), block.max(axis=1)
    return assigned, similarity


def _fill_empty(assigned: np.ndarray, similarity: np.ndarray, k: int) -> None:
    """Give each empty cluster the vector that is farthest from its centre and not alone in its cluster, in place."""
    sizes = np.bincount(assigned, minlength=k)
    farthest = iter(np.argsort(similarity, kind="stable"))
    for empty in np.flatnonzero(sizes == 0):
        for vector in farthest:
            if similarity[vector] < 1 and sizes[assigned[vector]] > 1:
                sizes[assigned[vector]] -= 1
                assigned[vector], similarity[vector] = empty, 1
                break


def _spread_start(vectors: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    chosen = [int(rng.integers(len(vectors)))]
    distance = np.ones(len(vectors), dtype=np.float64)
    for _ in range(1, k):
        distance = np.minimum(distance, np.clip(1 - vectors @ vectors[chosen[-1]], 0, None))
        total = distance.sum()
        chosen.append(int(rng.choice(len(vectors), p=distance / total if total > 0 else None)))
    return vectors[chosen]


def contingency(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Products by cluster and label: [n] and [n] of any kind -> [clusters, labels] int64."""
    rows, row = np.unique(clusters, return_inverse=True)
    columns, column = np.unique(labels, return_inverse=True)
    table = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(table, (row, column), 1)
    return table


def entropy_nats(counts: np.ndarray) -> np.ndarray:
    """- sum p ln p along the last axis, p = counts / their sum; 0 for a row without counts."""
    totals = counts.sum(axis=-1, keepdims=True)
    p = counts / np.maximum(totals, 1)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1) + 0.0


def purity(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of the products that bear the most frequent label of their cluster."""
    table = contingency(clusters, labels)
    return float(table.max(axis=1).sum() / table.sum())


def normalised_mutual_information(clusters: np.ndarray, labels: np.ndarray) -> float:
    """I(clusters; labels) / mean of their two entropies, in [0, 1]; 1 where both are one block."""
    table = contingency(clusters, labels)
    of_cluster, of_label = entropy_nats(table.sum(axis=1)), entropy_nats(table.sum(axis=0))
    if of_cluster + of_label == 0:
        return 1.0
    shared = of_cluster + of_label - entropy_nats(table.ravel())
    return float(max(0.0, 2 * shared / (of_cluster + of_label)))
