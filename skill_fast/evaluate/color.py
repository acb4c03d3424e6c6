"""Colour entropy: how mixed the colours are within clusters of an embedding; higher is more colour-agnostic.

SkiLL reports the mean entropy of colours over clusters. Its clustering, colour names and averaging are not published:
products / 10 clusters, about 20 names and the unweighted mean are this project's choices. A collapsed or a random
embedding has the highest entropy of all, so ``ColorEntropy`` can not be made without what the same clusters say about
design.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.clusters import (
    contingency,
    entropy_nats,
    normalised_mutual_information,
    purity,
    spherical_kmeans,
)
from skill_fast.evaluate.similarity import similarity_blocks

PRODUCTS_A_CLUSTER = 10
NEAREST = 10
SHUFFLES = 20
MIN_PRODUCTS = 20


@dataclass(frozen=True)
class PartitionEntropy:
    """Entropy of colours, in nats, over the clusters of two products or more."""

    mean: float
    """Unweighted mean over clusters: the headline."""
    size_weighted: float
    normalised: float
    """mean / ln(number of colours), in [0, 1]."""


@dataclass(frozen=True)
class ColorFloor:
    """What clusters and neighbours of a colour histogram reach on the same products."""

    clusters: PartitionEntropy
    nearest: float


@dataclass(frozen=True)
class DesignAgreement:
    """What the clusters of the entropy say about one design label (products without the label left out)."""

    purity: float
    purity_by_chance: float
    """Of random partitions with the same cluster sizes."""
    nmi: float


@dataclass(frozen=True)
class ColorEntropy:
    """The entropy with everything that it may not be read without.

    ceiling: the same cluster sizes filled at random, mean of 20. floor: clusters of a colour histogram. nearest: mean
    entropy of the colours of each product's 10 nearest others, nats. design: design label -> agreement, never empty.
    """

    clusters: PartitionEntropy
    ceiling: PartitionEntropy
    floor: PartitionEntropy
    nearest: float
    nearest_floor: float
    design: Mapping[str, DesignAgreement]
    products: int
    k: int
    colors: int

    def __post_init__(self) -> None:
        if not self.design:
            raise ValueError("a colour entropy without design labels is misleading: a collapsed embedding would win")

    def items(self) -> Iterator[tuple[str, float]]:
        """(name, value) of every part, names as "ceiling/mean" or "design/pattern/purity"."""
        for part in ("clusters", "ceiling", "floor"):
            for name, value in vars(getattr(self, part)).items():
                yield f"{part}/{name}", value
        yield "nearest", self.nearest
        yield "nearest_floor", self.nearest_floor
        for label, agreement in self.design.items():
            for name, value in vars(agreement).items():
                yield f"design/{label}/{name}", value
        yield from (("products", self.products), ("k", self.k), ("colors", self.colors))


def partition_entropy(clusters: np.ndarray, colors: np.ndarray) -> PartitionEntropy:
    """Entropy of ``colors`` within ``clusters``, both [n] codes of any kind.

    H(cluster) = - sum over colours of p ln p; mean over clusters of >= 2 products, and the same weighted by size.
    Without such a cluster the entropy is 0.
    """
    table = contingency(clusters, colors)
    sizes = table.sum(axis=1)
    table, sizes = table[sizes >= 2], sizes[sizes >= 2]
    if len(table) == 0:
        return PartitionEntropy(0.0, 0.0, 0.0)
    entropies, vocabulary = entropy_nats(table), table.shape[1]
    mean = float(entropies.mean())
    weighted = float((entropies * sizes).sum() / sizes.sum())
    return PartitionEntropy(mean, weighted, mean / float(np.log(vocabulary)) if vocabulary > 1 else 0.0)


def nearest_entropy(embeddings: np.ndarray, colors: np.ndarray, k: int = NEAREST) -> float:
    """Mean over products of the entropy of the colours of their k nearest others, nats; ties in the products' order."""
    names, codes = np.unique(colors, return_inverse=True)
    total = 0.0
    for places, block in similarity_blocks(embeddings, embeddings):
        block[np.arange(len(places)), places] = -np.inf
        near = np.argsort(-block, axis=1, kind="stable")[:, : min(k, len(embeddings) - 1)]
        counts = np.stack([np.bincount(row, minlength=len(names)) for row in codes[near]])
        total += float(entropy_nats(counts).sum())
    return total / len(embeddings)


def why_no_color_entropy(colors: np.ndarray, design: Mapping[str, np.ndarray]) -> str:
    """Why the score can not be had, or "" if it can. colors [products] str; design from ``usable_design_labels``."""
    if not design:
        return "no design labels (pattern, variant_group), and without them a collapsed embedding would win"
    known = int((colors != "").sum())
    if known < MIN_PRODUCTS:
        return f"only {known} products have a colour; {MIN_PRODUCTS} are needed"
    if len(np.unique(colors[colors != ""])) < 2:
        return "all products have the same colour"
    return ""


def usable_design_labels(labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those labels ([products] str, "" where unknown) that name two designs or more, one of them twice or more."""
    usable = {}
    for name, values in labels.items():
        _, counts = np.unique(values[values != ""], return_counts=True)
        if len(counts) >= 2 and counts.max() >= 2:
            usable[name] = values
    return usable


def color_floor(histograms: np.ndarray, colors: np.ndarray, *, seed: int = 0) -> ColorFloor:
    """Entropies of an embedding that sees nothing but colour. histograms [products, H]; colors [products] str."""
    known = colors != ""
    histograms, colors = histograms[known], colors[known]
    clusters = spherical_kmeans(histograms, _cluster_count(colors), seed=seed)
    return ColorFloor(partition_entropy(clusters, colors), nearest_entropy(histograms, colors))


def color_entropy(
    embeddings: np.ndarray,
    colors: np.ndarray,
    design: Mapping[str, np.ndarray],
    floor: ColorFloor,
    *,
    seed: int = 0,
) -> ColorEntropy:
    """Cluster the products that have a colour into products / 10 clusters and measure colour and design within them.

    embeddings [products, D]; colors and every design label [products] str; floor from ``color_floor`` of the same
    products. Raises ValueError without design labels.
    """
    known = colors != ""
    embeddings, colors = embeddings[known], colors[known]
    design = {name: values[known] for name, values in design.items()}
    k = _cluster_count(colors)
    clusters = spherical_kmeans(embeddings, k, seed=seed)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(clusters) for _ in range(SHUFFLES)]
    at_random = [partition_entropy(partition, colors) for partition in shuffled]
    return ColorEntropy(
        clusters=partition_entropy(clusters, colors),
        ceiling=PartitionEntropy(*(float(np.mean(values)) for values in zip(*(vars(e).values() for e in at_random)))),
        floor=floor.clusters,
        nearest=nearest_entropy(embeddings, colors),
        nearest_floor=floor.nearest,
        design={name: _agreement(clusters, shuffled, values) for name, values in design.items()},
        products=len(colors),
        k=k,
        colors=len(np.unique(colors)),
    )


def _cluster_count(colors: np.ndarray) -> int:
    return max(2, round(len(colors) / PRODUCTS_A_CLUSTER))


def _agreement(clusters: np.ndarray, shuffled: list[np.ndarray], labels: np.ndarray) -> DesignAgreement:
    known = labels != ""
    return DesignAgreement(
        purity=purity(clusters[known], labels[known]),
        purity_by_chance=float(np.mean([purity(partition[known], labels[known]) for partition in shuffled])),
        nmi=normalised_mutual_information(clusters[known], labels[known]),
    )
