"""Colour-variant identification: group the products that differ in colour alone, and score the groups.

Products are blocked by what the catalogue gives, clustered within each block (average linkage, cosine distance), and
cut at the threshold that serves the validation groups best by adjusted Rand index. The paper's abstract fixes none of
it; all of it is this project's choice. A block too large to link is split into cells of k-means first. scipy's and
sklearn's parts are imported where they are called: together more than a second, which a training run without these
scores need not wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skill_fast.evaluate.bootstrap import centred, draws, mean_of
from skill_fast.evaluate.clusters import cells_of, contingency, most_frequent, nmi_of_table
from skill_fast.evaluate.similarity import unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BLOCKING = ("type", "brand", "gender", "usage")
"""Attributes that variants share: products that differ in one are never compared."""
THRESHOLDS = np.linspace(0.005, 1.0, 200)
"""Cosine distances that are tried on the validation groups."""
LARGEST_BLOCK = 10_000
"""Products: the distances of a block of this size take 400 MB in float64. A larger one is split."""
CELL = 2000
"""Products of a cell at most: linking costs the square of it."""
VALIDATED = 20_000
"""Validation products at most; above, groups are drawn."""
MODES = ("majority", "exact", "purity")


@dataclass(frozen=True)
class Grouping:
    """Scores of predicted groups against true ones, each in [-1, 1] (ari) or [0, 1]."""

    ari: float
    fowlkes_mallows: float
    nmi: float
    cgacc: Mapping[str, float]
    """Mode -> score."""
    groups: int
    """Predicted groups of two or more."""


def blocks(attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """[products] int: the block of each product, by every attribute of ``BLOCKING`` that the catalogue has."""
    columns = [attributes[name] for name in BLOCKING if name in attributes]
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].ravel()


def split_blocks(embeddings: np.ndarray, block: np.ndarray, truth: np.ndarray | None = None) -> tuple[np.ndarray, str]:
    """(block of each product, how): blocks above ``LARGEST_BLOCK`` become cells of ``CELL`` products at most.

    Products of two cells are never joined; with ``truth`` the text says which share of the true pairs the cells kept.
    embeddings [products, D], block, truth [products].
    """
    names, inside, sizes = np.unique(block, return_inverse=True, return_counts=True)
    large = np.flatnonzero(sizes > LARGEST_BLOCK)
    if len(large) == 0:
        return block, ""
    found, following = inside.astype(np.int64), len(names)
    for name in large:
        places = np.flatnonzero(inside == name)
        cells = cells_of(embeddings[places], CELL)
        found[places] = following + cells
        following += int(cells.max()) + 1
    count = following - len(names)
    how = f"{len(large)} blocks of over {LARGEST_BLOCK:,} split into {count:,} k-means cells of at most {CELL:,}"
    if truth is None:
        return found, how
    before, after = (_pairs(contingency(part, truth).data) for part in (inside, found))
    return found, f"{how}, {after / max(before, 1):.3f} of the true pairs kept"


def trees(embeddings: np.ndarray, block: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """(places, average-linkage tree) per block; None for a lone product.

    embeddings [products, D], block [products] int. Raises ValueError for a block above ``LARGEST_BLOCK`` products.
    """
    found: list[tuple[np.ndarray, np.ndarray | None]] = []
    vectors = unit_rows(embeddings).astype(np.float64)
    for name in np.unique(block):
        places = np.flatnonzero(block == name)
        if len(places) > LARGEST_BLOCK:
            raise ValueError(f"a block of {len(places)} products; at most {LARGEST_BLOCK} can be linked")
        found.append((places, _tree(vectors[places]) if len(places) > 1 else None))
    return found


def _tree(vectors: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import linkage

    # 1 - cosine by hand: a zero vector is at distance 1 from all, where scipy's gives NaN.
    above = np.triu_indices(len(vectors), 1)
    return linkage(np.clip(1 - (vectors @ vectors.T)[above], 0, 2), method="average")


def cut(forest: list[tuple[np.ndarray, np.ndarray | None]], threshold: float) -> np.ndarray:
    """[products] int: groups whose average cosine distance at merging is at most ``threshold``."""
    from scipy.cluster.hierarchy import fcluster

    groups = np.empty(sum(len(places) for places, _ in forest), dtype=np.int64)
    first = 0
    for places, tree in forest:
        inside = fcluster(tree, threshold, "distance") - 1 if tree is not None else np.zeros(1, dtype=np.int64)
        groups[places] = first + inside
        first += int(inside.max()) + 1
    return groups


def choose_threshold(embeddings: np.ndarray, block: np.ndarray, truth: np.ndarray) -> float:
    """The cosine distance of ``THRESHOLDS`` with the largest ARI on labelled products; of equals the smallest."""
    from sklearn.metrics import adjusted_rand_score

    forest = trees(embeddings, block)
    scores = [adjusted_rand_score(truth, cut(forest, threshold)) for threshold in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(scores))])


def cgacc(predicted: np.ndarray, truth: np.ndarray, mode: str = "majority") -> float:
    """Share of predicted groups of two or more that are right; 0 where there is none.

    majority: more than half of the members share one true group. exact: the members are one whole true group.
    purity: mean over groups of the largest share of one true group. Raises ValueError for another mode.
    """
    values = _group_values(contingency(predicted, truth), mode)
    return float(values.mean()) if len(values) else 0.0


def _group_values(table: csr_array, mode: str) -> np.ndarray:
    """[predicted groups of two or more] float64: what ``cgacc`` is the mean of."""
    if mode not in MODES:
        raise ValueError(f"mode '{mode}' is not known; allowed: {', '.join(MODES)}")
    sizes, most = np.asarray(table.sum(axis=1)), most_frequent(table)
    shared = sizes >= 2
    if mode == "purity":
        return (most / sizes)[shared]
    if mode == "majority":
        return (2 * most > sizes)[shared].astype(np.float64)
    # A group of one label is whole where that label has no member elsewhere.
    first_label = table.indices[table.indptr[:-1]]
    whole = np.asarray(table.sum(axis=0))[first_label] == sizes
    return ((most == sizes) & whole)[shared].astype(np.float64)


def score_groups(predicted: np.ndarray, truth: np.ndarray) -> Grouping:
    """Every score of a grouping. predicted, truth [products] of any kind."""
    from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score

    table = contingency(predicted, truth)
    values = {mode: _group_values(table, mode) for mode in MODES}
    return Grouping(
        ari=float(adjusted_rand_score(truth, predicted)),
        fowlkes_mallows=float(fowlkes_mallows_score(truth, predicted)),
        nmi=float(normalized_mutual_info_score(truth, predicted)),
        cgacc={mode: mean_of(found) if len(found) else 0.0 for mode, found in values.items()},
        groups=int((table.sum(axis=1) >= 2).sum()),
    )


def pair_scores(table: csr_array, drawn: np.ndarray) -> tuple[float, float, float]:
    """(ARI, Fowlkes-Mallows, NMI) with each true group drawn as often as ``drawn`` says; all 1: the scores themselves.

    Pairs of products: within one true group they count drawn times, between two groups the product of their draws;
    copies of one group are never paired with each other. For the NMI a group drawn twice has twice its products.
    table [predicted, true], drawn [true].
    """
    times = drawn.astype(np.float64)
    sizes = np.asarray(table.sum(axis=0), dtype=np.float64)
    counts, column = table.data.astype(np.float64), table.indices
    together = float((times[column] * counts * (counts - 1)).sum()) / 2
    true_pairs = float((times * sizes * (sizes - 1)).sum()) / 2
    weighted = counts * times[column]
    sums = np.add.reduceat(weighted, table.indptr[:-1])
    predicted_pairs = together + (float((sums**2).sum()) - float((weighted**2).sum())) / 2
    all_pairs = true_pairs + (float((times * sizes).sum()) ** 2 - float(((times * sizes) ** 2).sum())) / 2
    chance = predicted_pairs * true_pairs / all_pairs if all_pairs else 0.0
    most = (predicted_pairs + true_pairs) / 2
    ari = (together - chance) / (most - chance) if most > chance else 1.0
    matched = together / np.sqrt(predicted_pairs * true_pairs) if together else 0.0
    return ari, float(matched), nmi_of_table(table.T.tocsr(), times)


def _pairs(counts: np.ndarray) -> float:
    return float((counts.astype(np.float64) * (counts - 1)).sum()) / 2


def variant_scores(
    embeddings: np.ndarray,
    block: np.ndarray,
    truth: np.ndarray,
    validation: np.ndarray,
    asked: np.ndarray,
    notes: dict[str, str] | None = None,
) -> Iterator[tuple[str, float]]:
    """(name, value) of the grouping of ``asked``, with the threshold chosen on ``validation``.

    embeddings [products, D]; block, truth [products]; validation, asked: places that share no variant group. ``notes``
    gets "variants" where something was approximated. ARI, FMS and NMI have replicates over true groups, CGacc over
    predicted ones.
    """
    validation, how_validated = _fewer(validation, truth)
    block_of_validation, _ = split_blocks(embeddings[validation], block[validation])
    threshold = choose_threshold(embeddings[validation], block_of_validation, truth[validation])
    block_of_asked, how = split_blocks(embeddings[asked], block[asked], truth[asked])
    predicted = cut(trees(embeddings[asked], block_of_asked), threshold)
    found, table = score_groups(predicted, truth[asked]), contingency(predicted, truth[asked])
    replicates = np.array([pair_scores(table, row) for part in draws(table.shape[1]) for row in part])
    for place, name in enumerate(("ari", "fowlkes_mallows", "nmi")):
        yield name, centred(getattr(found, name), replicates[:, place])
    yield from ((f"cgacc_{mode}", value) for mode, value in found.cgacc.items())
    yield from (("groups", found.groups), ("threshold", threshold))
    yield from (("products", len(asked)), ("validation", len(validation)))
    if notes is not None and (how or how_validated):
        notes["variants"] = "; ".join(filter(None, (how, how_validated)))


def _fewer(places: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, str]:
    """At most ``VALIDATED`` places, whole groups drawn with a fixed seed, and what was left out."""
    if len(places) <= VALIDATED:
        return places, ""
    names, code, sizes = np.unique(truth[places], return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    kept = places[np.isin(code, order[np.cumsum(sizes[order]) <= VALIDATED])]
    return kept, f"threshold chosen on {len(kept):,} of {len(places):,} validation products"
