"""Nearest neighbours of many vectors: exact by blocks, or approximate by FAISS with the recall that it was measured at.

Exact search is torch's matrix product and top-k, which on a busy CPU took a quarter of the time of FAISS's flat index.
Where that takes too long, an inverted file of FAISS visits the vectors of a few cells only.
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
"""Cells visited a query: the fewest that reach ``RECALL_GOAL`` on the sample, at most the last."""
MOST_VISITED = 20_000
"""Vectors visited a query at most: a collapsed embedding lies in one cell."""
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
    return _inverted_file(faiss, queries, gallery, k, itself)


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
    places, similarity = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    columns = torch.from_numpy(gallery).T
    rows = max(1, BLOCK_VALUES // max(1, len(gallery)))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        found = torch.topk(torch.from_numpy(queries[part]) @ columns, k, dim=1)
        places[part], similarity[part] = found.indices.numpy(), found.values.numpy()
    return places, np.round(similarity, TIE_DECIMALS)


def _inverted_file(faiss: Any, queries: np.ndarray, gallery: np.ndarray, k: int, itself: bool) -> Neighbors:
    cells = int(2 ** round(np.log2(4 * np.sqrt(len(gallery)))))
    quantizer = faiss.IndexFlatIP(gallery.shape[1])
    index = faiss.IndexIVFFlat(quantizer, gallery.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.spherical, index.cp.seed = ITERATIONS, True, 0
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = TRAINING_A_CELL, 1
    index.train(gallery)
    index.add(gallery)
    index.max_codes = MOST_VISITED
    chosen = np.sort(np.random.default_rng(0).choice(len(queries), min(SAMPLED, len(queries)), replace=False))
    wanted = min(k, RECALL_AT + itself)
    truth = exact(queries[chosen], gallery, wanted)[1]
    for probes in PROBES:
        index.nprobe = probes
        reached = recall(_search(index, queries[chosen], wanted)[1], truth, itself)
        if reached >= RECALL_GOAL:
            break
    places, similarity = _search(index, queries, k)
    how = f"approximate, faiss ivf{cells} nprobe {probes}, recall@{wanted - itself} {reached:.3f}"
    return Neighbors(places, similarity, f"{how} on {len(chosen):,} sampled queries")


def _search(index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    similarity, places = index.search(queries, k)
    similarity[places < 0] = -np.inf
    return places, np.round(similarity, TIE_DECIMALS, out=similarity)


def recall(found: np.ndarray, truth: np.ndarray, itself: bool = False) -> float:
    """Share of the true neighbours that were found: as similar as the last true one, so that ties are no misses.

    found, truth [queries, k] similarities, best first. With ``itself`` the first is the query and does not count.
    """
    hits = (found >= truth[:, -1:]).sum(axis=1) - itself
    return float(np.clip(hits / max(1, truth.shape[1] - itself), 0, 1).mean())
