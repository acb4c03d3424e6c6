"""Retrieval: the same product from another photograph, and the same design in another colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.products import group_codes
from skill_fast.evaluate.similarity import similarity_blocks

RECALL_AT = (1, 5, 10)

Mask = Callable[[int], np.ndarray]
"""Place of a query in the gallery -> [gallery] bool."""


@dataclass(frozen=True)
class RetrievalScore:
    """recall[k]: share of queries with a relevant item among the first k; map: mean of their average precisions."""

    recall: Mapping[int, float]
    map: float
    queries: int
    gallery: int


def relevant_ranks(similarity: np.ndarray, relevant: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Ranks, from 1, of the relevant items of one query, best first.

    Ties count against the embedding: every irrelevant item as similar as a relevant one ranks before it, so that a
    collapsed embedding finds nothing.

    similarity [gallery]; relevant, ignored [gallery] bool (ignored items, the query itself among them, have no rank).
    """
    wanted = np.sort(similarity[relevant & ~ignored])[::-1]
    others = np.sort(similarity[~relevant & ~ignored])
    ahead = len(others) - np.searchsorted(others, wanted, side="left")
    return ahead + np.arange(1, len(wanted) + 1)


def average_precision(ranks: np.ndarray) -> float:
    """Mean over the relevant items of (relevant items up to its rank) / rank. ranks [relevant], ascending, from 1."""
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def retrieve(
    embeddings: np.ndarray,
    queries: np.ndarray,
    relevant: Mask,
    ignored: Mask,
    *,
    recall_at: tuple[int, ...] = RECALL_AT,
) -> RetrievalScore | None:
    """Each query against the whole gallery; None if there are no queries.

    embeddings [gallery, D]; queries: places in the gallery, each with at least one relevant item.
    """
    if len(queries) == 0:
        return None
    first = np.zeros(len(queries), dtype=np.int64)
    precision = np.zeros(len(queries))
    for places, block in similarity_blocks(embeddings[queries], embeddings):
        for place, similarity in zip(places, block, strict=True):
            query = int(queries[place])
            ranks = relevant_ranks(similarity, relevant(query), ignored(query))
            first[place], precision[place] = ranks[0], average_precision(ranks)
    recall = {k: float((first <= k).mean()) for k in recall_at}
    return RetrievalScore(recall, float(precision.mean()), len(queries), len(embeddings))


def same_product(embeddings: np.ndarray, product_of_image: np.ndarray) -> RetrievalScore | None:
    """Another photograph of the query's product among all other photographs.

    Queries are the photographs of products with two or more; the only photograph of a product stands in the gallery.
    embeddings [images, D]; product_of_image [images] int64. None if every product has one photograph.
    """
    _, of_image, photographs = np.unique(product_of_image, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(photographs[of_image] > 1)
    places = np.arange(len(embeddings))
    return retrieve(
        embeddings,
        queries,
        relevant=lambda query: product_of_image == product_of_image[query],
        ignored=lambda query: places == query,
    )


def same_design_other_color(
    embeddings: np.ndarray, variant_group: np.ndarray, color: np.ndarray
) -> RetrievalScore | None:
    """A product of the query's variant group in another colour among all other products.

    Relevant: same group, another colour (where either colour is unknown: any other product of the group). A product of
    the same group in the same colour is neither right nor wrong and has no rank.
    embeddings [products, D] product means; variant_group, color [products] str, "" where unknown. None without a query.
    """
    places, groups = np.arange(len(embeddings)), group_codes(variant_group)
    _, colors = np.unique(color, return_inverse=True)
    unknown = color == ""

    def relevant(query: int) -> np.ndarray:
        differs = (colors != colors[query]) | unknown | unknown[query]
        return (groups == groups[query]) & differs & (places != query)

    def ignored(query: int) -> np.ndarray:
        return (groups == groups[query]) & ~relevant(query)

    queries = np.array([query for query in range(len(places)) if relevant(query).any()], dtype=np.int64)
    return retrieve(embeddings, queries, relevant, ignored)
