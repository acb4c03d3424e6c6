"""Retrieval: the same product from another photograph, and the same design in another colour.

Ranks are counted over the whole gallery. Where that is too much work, fewer queries are asked, drawn by whole products:
mAP needs all ranks, which lists of neighbours do not have, and a mean over drawn queries has no bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.bootstrap import Estimate, ratio_of
from skill_fast.evaluate.products import group_codes
from skill_fast.evaluate.similarity import similarity_blocks

RECALL_AT = (1, 5, 10)
RANKED_PAIRS = 4_000_000_000
"""Similarities (queries x gallery) above which queries are drawn."""

Places = Callable[[int], np.ndarray]
"""Place of a query in the gallery -> places, [any] int64."""


@dataclass(frozen=True)
class RetrievalScore:
    """recall[k]: share of queries with a relevant item among the first k; map: mean of their average precisions.

    Both with replicates over the units (products). how: which queries were drawn, "" where all were asked.
    """

    recall: Mapping[int, Estimate]
    map: Estimate
    queries: int
    gallery: int
    how: str = ""


def relevant_ranks(similarity: np.ndarray, relevant: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Ranks, from 1, of the relevant items of one query, best first.

    Ties count against the embedding: every irrelevant item as similar as a relevant one ranks before it, so that a
    collapsed embedding finds nothing.

    similarity [gallery]; relevant, ignored: places (ignored items, the query itself among them, have no rank). Raises
    ValueError where one place is both.
    """
    if np.isin(relevant, ignored).any():
        raise ValueError("an item is relevant and ignored at once")
    wanted = np.sort(similarity[relevant])[::-1]
    unranked = similarity[np.concatenate([relevant, ignored])]
    ahead = np.array([np.count_nonzero(similarity >= s) - np.count_nonzero(unranked >= s) for s in wanted])
    return ahead + np.arange(1, len(wanted) + 1)


def average_precision(ranks: np.ndarray) -> float:
    """Mean over the relevant items of (relevant items up to its rank) / rank. ranks [relevant], ascending, from 1."""
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def retrieve(
    embeddings: np.ndarray,
    queries: np.ndarray,
    relevant: Places,
    ignored: Places,
    units: np.ndarray,
    *,
    recall_at: tuple[int, ...] = RECALL_AT,
) -> RetrievalScore | None:
    """Each query against the whole gallery; None if there are no queries.

    embeddings [gallery, D]; queries: places in the gallery, each with at least one relevant item; units [queries]: the
    product of each query, over which intervals are drawn.
    """
    if len(queries) == 0:
        return None
    queries, units, how = _drawn(queries, units, len(embeddings))
    first = np.zeros(len(queries), dtype=np.int64)
    precision = np.zeros(len(queries))
    for places, block in similarity_blocks(embeddings[queries], embeddings):
        for place, similarity in zip(places, block, strict=True):
            query = int(queries[place])
            ranks = relevant_ranks(similarity, relevant(query), ignored(query))
            first[place], precision[place] = ranks[0], average_precision(ranks)
    _, unit = np.unique(units, return_inverse=True)
    asked = np.bincount(unit)
    recall = {k: ratio_of(np.bincount(unit, first <= k), asked) for k in recall_at}
    return RetrievalScore(recall, ratio_of(np.bincount(unit, precision), asked), len(queries), len(embeddings), how)


def _drawn(queries: np.ndarray, units: np.ndarray, gallery: int) -> tuple[np.ndarray, np.ndarray, str]:
    """All queries, or those of as many units, drawn with a fixed seed, as ``RANKED_PAIRS`` leaves time for."""
    limit = max(1, RANKED_PAIRS // gallery)
    if len(queries) <= limit:
        return queries, units, ""
    names, sizes = np.unique(units, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    fitting = max(1, int((np.cumsum(sizes[order]) <= limit).sum()))
    chosen = np.isin(units, names[order[:fitting]])
    how = f"exact ranks of {int(chosen.sum()):,} queries drawn from {len(queries):,}"
    return queries[chosen], units[chosen], how


def same_product(embeddings: np.ndarray, product_of_image: np.ndarray) -> RetrievalScore | None:
    """Another photograph of the query's product among all other photographs.

    Queries are the photographs of products with two or more; the only photograph of a product stands in the gallery.
    embeddings [images, D]; product_of_image [images] int64. None if every product has one photograph.
    """
    members = _Members(product_of_image)
    queries = np.flatnonzero(members.sizes > 1)
    return retrieve(
        embeddings,
        queries,
        relevant=lambda query: (own := members.of(query))[own != query],
        ignored=lambda query: np.array([query]),
        units=product_of_image[queries],
    )


def same_design_other_color(
    embeddings: np.ndarray, variant_group: np.ndarray, color: np.ndarray
) -> RetrievalScore | None:
    """A product of the query's variant group in another colour among all other products.

    Relevant: same group, another colour (where either colour is unknown: any other product of the group). A product of
    the same group in the same colour is neither right nor wrong and has no rank.
    embeddings [products, D] product means; variant_group, color [products] str, "" where unknown. None without a query.
    """
    members = _Members(group_codes(variant_group))
    _, colors = np.unique(color, return_inverse=True)
    unknown = color == ""

    def differs(query: int, own: np.ndarray) -> np.ndarray:
        return ((colors[own] != colors[query]) | unknown[own] | unknown[query]) & (own != query)

    def relevant(query: int) -> np.ndarray:
        own = members.of(query)
        return own[differs(query, own)]

    def ignored(query: int) -> np.ndarray:
        own = members.of(query)
        return own[~differs(query, own)]

    grouped = np.flatnonzero(members.sizes > 1)
    queries = np.array([query for query in grouped.tolist() if len(relevant(query))], dtype=np.int64)
    return retrieve(embeddings, queries, relevant, ignored, units=queries)


class _Members:
    """The places that share a code with a place, found without a pass over all."""

    def __init__(self, codes: np.ndarray) -> None:
        _, self._code, counts = np.unique(codes, return_inverse=True, return_counts=True)
        self._order = np.argsort(self._code, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.sizes = counts[self._code]
        """[places] int64: places of the same code, itself among them."""

    def of(self, place: int) -> np.ndarray:
        code = self._code[place]
        return self._order[self._starts[code] : self._starts[code + 1]]
