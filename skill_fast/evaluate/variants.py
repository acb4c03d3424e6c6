"""Colour-variant identification: group the products that differ in colour alone, and score the groups.

Products are blocked by what the catalogue gives, clustered within each block (average linkage, cosine distance), and
cut at the threshold that serves the validation groups best by adjusted Rand index. The paper's abstract fixes none of
it; all of it is this project's choice. scipy's and sklearn's parts are imported where they are called: together more
than a second, which a training run without these scores need not wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.similarity import unit_rows

BLOCKING = ("type", "brand", "gender", "usage")
"""Attributes that variants share: products that differ in one are never compared."""
THRESHOLDS = np.linspace(0.005, 1.0, 200)
"""Cosine distances that are tried on the validation groups."""
LARGEST_BLOCK = 10_000
"""Products: the distances of a block of this size take 400 MB in float64."""
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
    if mode not in MODES:
        raise ValueError(f"mode '{mode}' is not known; allowed: {', '.join(MODES)}")
    sizes = dict(zip(*(part.tolist() for part in np.unique(truth, return_counts=True))))
    values = []
    for group in np.unique(predicted):
        members, counts = np.unique(truth[predicted == group], return_counts=True)
        size, most = int(counts.sum()), int(counts.max())
        if size < 2:
            continue
        whole = most == size and sizes[members[counts.argmax()].item()] == size
        values.append({"majority": float(2 * most > size), "exact": float(whole), "purity": most / size}[mode])
    return float(np.mean(values)) if values else 0.0


def score_groups(predicted: np.ndarray, truth: np.ndarray) -> Grouping:
    """Every score of a grouping. predicted, truth [products] of any kind."""
    from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score

    return Grouping(
        ari=float(adjusted_rand_score(truth, predicted)),
        fowlkes_mallows=float(fowlkes_mallows_score(truth, predicted)),
        nmi=float(normalized_mutual_info_score(truth, predicted)),
        cgacc={mode: cgacc(predicted, truth, mode) for mode in MODES},
        groups=int((np.unique(predicted, return_counts=True)[1] >= 2).sum()),
    )


def variant_scores(
    embeddings: np.ndarray, block: np.ndarray, truth: np.ndarray, validation: np.ndarray, asked: np.ndarray
) -> Iterator[tuple[str, float]]:
    """(name, value) of the grouping of ``asked``, with the threshold chosen on ``validation``.

    embeddings [products, D]; block, truth [products]; validation, asked: places that share no variant group.
    """
    threshold = choose_threshold(embeddings[validation], block[validation], truth[validation])
    found = score_groups(cut(trees(embeddings[asked], block[asked]), threshold), truth[asked])
    yield from (("ari", found.ari), ("fowlkes_mallows", found.fowlkes_mallows), ("nmi", found.nmi))
    yield from ((f"cgacc_{mode}", value) for mode, value in found.cgacc.items())
    yield from (("groups", found.groups), ("threshold", threshold), ("products", len(asked)))
