"""Spherical k-means, within cells where there are many vectors, and what a partition says about labels.

Said of labels: entropy, purity, normalised mutual information, all on a sparse table of clusters by labels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skill_fast.evaluate.similarity import similarity_blocks, unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESTARTS = 4
MAX_ITERATIONS = 100
DIRECT = 5000
"""Vectors up to which all are clustered together: k = products / 10 makes a pass cost n^2."""
CELL = 2000
SAMPLE_A_CELL = 50
PASSES = 5


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
    from scipy.sparse import csr_array

    centres = _spread_start(vectors, k, rng)
    before = np.full(len(vectors), -1)
    for _ in range(MAX_ITERATIONS):
        assigned, similarity = _nearest(vectors, centres)
        _fill_empty(assigned, similarity, k)
        if (assigned == before).all():
            break
        members = csr_array(
            (np.ones(len(vectors), np.float32), assigned, np.arange(len(vectors) + 1)), (len(vectors), k)
        )
        centres, before = unit_rows(members.T @ vectors), assigned
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


def cells_of(vectors: np.ndarray, largest: int, *, seed: int = 0) -> np.ndarray:
    """Split vectors into cells of ``largest`` at most, half of it on average: [n, D] -> [n] int64.

    Cells are those of scikit-learn's MiniBatchKMeans, and each that is too large is split again. What can not be split
    (equal vectors) is dealt out at random, so that the catalogue's order gives nothing away.
    """
    vectors = unit_rows(vectors)
    if len(vectors) <= largest:
        return np.zeros(len(vectors), dtype=np.int64)
    cells = _mini_batch_cells(vectors, -(-2 * len(vectors) // largest), seed)
    following = int(cells.max()) + 1
    for cell in np.flatnonzero(np.bincount(cells) > largest):
        places = np.flatnonzero(cells == cell)
        if len(places) == len(vectors):
            inside = np.random.default_rng(seed).permutation(len(places)) // largest
        else:
            inside = cells_of(vectors[places], largest, seed=seed)
        cells[places] = np.where(inside == 0, cell, following + inside - 1)
        following += int(inside.max())
    return cells


def _mini_batch_cells(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    rng = np.random.default_rng(seed)
    sample = vectors[np.sort(rng.choice(len(vectors), min(len(vectors), SAMPLE_A_CELL * count), replace=False))]
    batch = max(4096, 4 * count)
    model = MiniBatchKMeans(count, batch_size=batch, init="random", n_init=1, max_iter=PASSES, random_state=seed)
    with warnings.catch_warnings():
        # Fewer different vectors than cells: what is left over is dealt out by the caller.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres = model.fit(sample).cluster_centers_
    return _nearest(vectors, unit_rows(centres))[0]


@dataclass(frozen=True)
class Clustering:
    """labels [n] int64; how: what was approximated, "" where nothing was."""

    labels: np.ndarray
    how: str


def cluster(vectors: np.ndarray, k: int, *, seed: int = 0) -> Clustering:
    """About k clusters by spherical k-means; above ``DIRECT`` vectors within cells, each with its share of k.

    vectors [n, D]. Within cells: one start, and cells of ``CELL`` vectors at most (``cells_of``).
    """
    if len(vectors) <= DIRECT:
        return Clustering(spherical_kmeans(vectors, k, seed=seed), "")
    vectors = unit_rows(vectors)
    cells = cells_of(vectors, CELL, seed=seed)
    labels, following = np.empty(len(vectors), dtype=np.int64), 0
    rng = np.random.default_rng(seed)
    order = np.argsort(cells, kind="stable")
    for places in np.split(order, np.cumsum(np.bincount(cells))[:-1]):
        if len(places):
            share = max(1, round(k * len(places) / len(vectors)))
            labels[places] = following + _one_run(vectors[places], share, rng)[0]
            following += share
    how = f"{cells.max() + 1:,} cells of at most {CELL:,} by scikit-learn's MiniBatchKMeans, then spherical k-means"
    return Clustering(labels, f"{how} within each, 1 start")


def contingency(clusters: np.ndarray, labels: np.ndarray) -> csr_array:
    """Products by cluster and label: [n] and [n] of any kind -> sparse [clusters, labels] int64, no zero stored."""
    from scipy.sparse import csr_array

    rows, row = np.unique(clusters, return_inverse=True)
    columns, column = np.unique(labels, return_inverse=True)
    codes, counts = np.unique(row.astype(np.int64) * len(columns) + column, return_counts=True)
    places = (codes // len(columns), codes % len(columns))
    return csr_array((counts, places), shape=(len(rows), len(columns)))


def entropy_nats(counts: np.ndarray) -> np.ndarray:
    """- sum p ln p along the last axis, p = counts / their sum; 0 for a row without counts."""
    totals = counts.sum(axis=-1, keepdims=True)
    p = counts / np.maximum(totals, 1)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1) + 0.0


def row_entropies(table: csr_array) -> np.ndarray:
    """``entropy_nats`` of each row of a sparse table without empty rows: ln n - sum c ln c / n, n the row's sum."""
    starts, totals = table.indptr[:-1], np.asarray(table.sum(axis=1), dtype=np.float64)
    return np.maximum(np.log(totals) - np.add.reduceat(table.data * np.log(table.data), starts) / totals, 0)


def most_frequent(table: csr_array) -> np.ndarray:
    """Count of the most frequent label of each row of a sparse table without empty rows: [rows]."""
    return np.maximum.reduceat(table.data, table.indptr[:-1])


def purity(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of the products that bear the most frequent label of their cluster."""
    table = contingency(clusters, labels)
    return float(most_frequent(table).sum() / table.sum())


def normalised_mutual_information(clusters: np.ndarray, labels: np.ndarray) -> float:
    """I(clusters; labels) / mean of their two entropies, in [0, 1]; 1 where both are one block."""
    return nmi_of_table(contingency(clusters, labels), None)


def nmi_of_table(table: csr_array, drawn: np.ndarray | None) -> float:
    """Normalised mutual information of a table, each row counted ``drawn`` times (a row drawn twice is two clusters).

    H of a partition with counts c, N in all: ln N - sum c ln c / N. table [clusters, labels], drawn [clusters] or None.
    """
    times = np.ones(table.shape[0]) if drawn is None else drawn.astype(np.float64)
    sizes = np.asarray(table.sum(axis=1), dtype=np.float64)
    total = float(times @ sizes)
    if total == 0:
        return 1.0
    of_labels = times @ table
    within = np.add.reduceat(table.data * np.log(table.data), table.indptr[:-1])
    of_cluster = np.log(total) - float(times @ (sizes * np.log(sizes))) / total
    of_label = np.log(total) - float((of_labels * np.log(np.where(of_labels > 0, of_labels, 1))).sum()) / total
    both = np.log(total) - float(times @ within) / total
    if of_cluster + of_label < 1e-12:
        return 1.0
    return float(np.clip(2 * (of_cluster + of_label - both) / (of_cluster + of_label), 0, 1))
