"""Nearest neighbours of many vectors: exact by blocks, or approximate by cells with the recall that it was measured at.

Exact search is torch's matrix product and top-k, which on a busy CPU took a quarter of the time of FAISS's flat index.
Where that takes too long, FAISS's k-means makes cells, and the queries of a cell are compared with the vectors of the
cells nearest to it, again by matrix products: an inverted file that is searched for a whole cell at once.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skill_fast.evaluate.similarity import BLOCK_VALUES, TIE_DECIMALS, unit_rows

EXACT_PAIRS = 4_000_000_000
"""Similarities (queries x gallery) up to which search is exact: about a minute on two cores at 384 dimensions."""
RECALL_AT = 10
RECALL_GOAL = 0.95
SAMPLED = 1000
"""Queries whose neighbours are searched exactly, to measure the approximation."""
PROBES = (4, 8, 16, 32, 64)
"""Cells compared with: the fewest that reach ``RECALL_GOAL`` on the sample, at most the last."""
MOST_VISITED = 20_000
"""Vectors compared with a query at most, drawn where there are more: a collapsed embedding lies in one cell."""
TRAINING_A_CELL = 32
ITERATIONS = 8


@dataclass(frozen=True)
class Neighbors:
    """The nearest gallery rows of each query, best first."""

    places: np.ndarray
    """[queries, k] int64; -1 where fewer were found."""
    similarity: np.ndarray
    """[queries, k] float32 cosines, rounded as ``similarity_blocks`` rounds; -inf where there is no place."""
    how: str
    """What was approximated and at what recall; "" where the search is exact."""


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int) -> Neighbors:
    """The k gallery rows of largest cosine to each query; a query that is itself in the gallery finds itself.

    queries [q, D], gallery [g, D], the same object where the gallery asks itself. Exact up to ``EXACT_PAIRS`` or where
    FAISS is not installed.
    """
    itself = queries is gallery
    gallery = unit_rows(gallery)
    queries = gallery if itself else unit_rows(queries)
    k = min(k, len(gallery))
    faiss = load_faiss() if len(queries) * len(gallery) > EXACT_PAIRS else None
    if faiss is None:
        return Neighbors(*exact(queries, gallery, k), "")
    return _by_cells(faiss, queries, gallery, k, itself)


def load_faiss() -> Any:
    """The module faiss, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            # Its SWIG types warn at import under Python 3.12 and later.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("faiss")
    except ImportError:
        return None


def exact(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(places [q, k] int64, similarities [q, k] float32) of unit rows, by blocks of queries."""
    return exact_in(queries, torch.from_numpy(gallery), k)


def exact_in(queries: np.ndarray, gallery: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """``exact`` in a gallery that is a tensor already."""
    places, similarity = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    rows = max(1, BLOCK_VALUES // max(1, len(gallery)))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        found = torch.topk(torch.from_numpy(queries[part]) @ gallery.T, k, dim=1)
        places[part], similarity[part] = found.indices.numpy(), found.values.numpy()
    return places, np.round(similarity, TIE_DECIMALS)


def _by_cells(faiss: Any, queries: np.ndarray, gallery: np.ndarray, k: int, itself: bool) -> Neighbors:
    cells = _Cells(faiss, gallery)
    own = cells.of_gallery if itself else exact(queries, cells.centres, 1)[0][:, 0]
    chosen = np.sort(np.random.default_rng(0).choice(len(queries), min(SAMPLED, len(queries)), replace=False))
    wanted = min(k, RECALL_AT + itself)
    truth = exact(queries[chosen], gallery, wanted)[1]
    for probes in PROBES:
        reached = recall(cells.search(queries[chosen], own[chosen], wanted, probes)[1], truth, itself)
        if reached >= RECALL_GOAL:
            break
    places, similarity = cells.search(queries, own, k, probes)
    how = f"approximate, faiss ivf{len(cells.centres)} nprobe {probes}, recall@{wanted - itself} {reached:.3f}"
    return Neighbors(places, similarity, f"{how} on {len(chosen):,} sampled queries")


class _Cells:
    """The gallery by cells of spherical k-means, about 2 sqrt(n) of them."""

    def __init__(self, faiss: Any, gallery: np.ndarray) -> None:
        count = min(len(gallery), int(2 ** round(np.log2(2 * np.sqrt(len(gallery))))))
        limits = {"max_points_per_centroid": TRAINING_A_CELL, "min_points_per_centroid": 1}
        model = faiss.Kmeans(gallery.shape[1], count, niter=ITERATIONS, spherical=True, seed=0, **limits)
        model.train(gallery)
        self.centres = unit_rows(model.centroids)
        self.of_gallery = exact(gallery, self.centres, 1)[0][:, 0]
        self._order = np.argsort(self.of_gallery, kind="stable")
        self._vectors = torch.from_numpy(gallery[self._order])
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(self.of_gallery, minlength=count))])

    def search(self, queries: np.ndarray, own: np.ndarray, k: int, probes: int) -> tuple[np.ndarray, np.ndarray]:
        """(places [q, k], similarities [q, k]) among the ``probes`` cells nearest to each query's own cell [q]."""
        places = np.full((len(queries), k), -1, np.int64)
        similarity = np.full((len(queries), k), -np.inf, np.float32)
        near = exact(self.centres, self.centres, min(probes, len(self.centres)))[0]
        rng = np.random.default_rng(0)
        order = np.argsort(own, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(own[order])) + 1):
            inside = [np.arange(self._starts[c], self._starts[c + 1]) for c in near[own[rows[0]]]]
            candidates = np.concatenate(inside)
            if len(candidates) > MOST_VISITED:
                candidates = np.sort(rng.choice(candidates, MOST_VISITED, replace=False))
            vectors = self._vectors[torch.from_numpy(candidates)]
            found, closest = exact_in(queries[rows], vectors, min(k, len(candidates)))
            places[rows, : found.shape[1]] = self._order[candidates[found]]
            similarity[rows, : found.shape[1]] = closest
        return places, similarity


def recall(found: np.ndarray, truth: np.ndarray, itself: bool = False) -> float:
    """Share of the true neighbours that were found: as similar as the last true one, so that ties are no misses.

    found, truth [queries, k] similarities, best first. With ``itself`` the first is the query and does not count.
    """
    hits = (found >= truth[:, -1:]).sum(axis=1) - itself
    return float(np.clip(hits / max(1, truth.shape[1] - itself), 0, 1).mean())
