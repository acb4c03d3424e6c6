"""Colour entropy: how mixed the colours are within clusters of an embedding; higher is more colour-agnostic.

SkiLL reports the mean entropy of colours over clusters. Its clustering, colour names and averaging are not published:
products / 10 clusters, about 20 names and the unweighted mean are this project's choices. A collapsed or a random
embedding has the highest entropy of all, so ``ColorEntropy`` can not be made without what the same clusters say about
design.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.bootstrap import Estimate, centred, draws, mean_of, ratio_of
from skill_fast.evaluate.clusters import (
    cluster,
    contingency,
    entropy_nats,
    most_frequent,
    nmi_of_table,
    purity,
    row_entropies,
)
from skill_fast.evaluate.neighbors import Neighbors, nearest
from skill_fast.evaluate.similarity import similarity_blocks

PRODUCTS_A_CLUSTER = 10
NEAREST = 10
SHUFFLES = 20
MIN_PRODUCTS = 20
LISTED = 4096
"""Products above which the nearest come from ``neighbors.nearest`` instead of a sort of every similarity."""


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
    how: Mapping[str, str]
    """What was approximated: "clusters", "nearest" -> how; empty where nothing was."""

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


def partition_entropy(clusters: np.ndarray, colors: np.ndarray, *, replicates: bool = False) -> PartitionEntropy:
    """Entropy of ``colors`` within ``clusters``, both [n] codes of any kind.

    H(cluster) = - sum over colours of p ln p; mean over clusters of >= 2 products, and the same weighted by size.
    Without such a cluster the entropy is 0. ``replicates``: all three are ``Estimate``s over those clusters.
    """
    table = contingency(clusters, colors)
    sizes, entropies = np.asarray(table.sum(axis=1)), row_entropies(table)
    shared, vocabulary = sizes >= 2, table.shape[1]
    if not shared.any():
        return PartitionEntropy(0.0, 0.0, 0.0)
    entropies, sizes = entropies[shared], sizes[shared]
    most = float(np.log(vocabulary)) if vocabulary > 1 else np.inf
    if not replicates:
        mean, weighted = float(entropies.mean()), float((entropies * sizes).sum() / sizes.sum())
        return PartitionEntropy(mean, weighted, mean / most)
    drawn = mean_of(entropies)
    normalised = Estimate(drawn / most, drawn.replicates / most)
    return PartitionEntropy(drawn, ratio_of(entropies * sizes, sizes), normalised)


def nearest_entropy(
    embeddings: np.ndarray, colors: np.ndarray, k: int = NEAREST, *, found: Neighbors | None = None
) -> tuple[Estimate, str]:
    """(mean over products of the entropy of the colours of their k nearest others in nats, what was approximated).

    Ties are taken in the products' order up to ``LISTED`` products. ``found``: lists of k + 1 or more of all products
    among themselves, where they are there already.
    """
    names, codes = np.unique(colors, return_inverse=True)
    k = min(k, len(embeddings) - 1)
    entropies, how = np.empty(len(embeddings)), ""
    if found is None and len(embeddings) > LISTED:
        found = nearest(embeddings, embeddings, k + 1)
    if found is not None:
        how = found.how
        for start in range(0, len(embeddings), 1 << 16):
            places = found.places[start : start + (1 << 16), : k + 1]
            itself = places == start + np.arange(len(places))[:, None]
            # Where ties or the approximation left the product itself out, the last of the list is one too many.
            itself[:, -1] |= ~itself.any(axis=1)
            near = places[~itself].reshape(len(places), k)
            entropies[start : start + len(places)] = _color_entropies(np.where(near >= 0, codes[near], -1), len(names))
        return mean_of(entropies), how
    for places, block in similarity_blocks(embeddings, embeddings):
        block[np.arange(len(places)), places] = -np.inf
        near = np.argsort(-block, axis=1, kind="stable")[:, :k]
        entropies[places] = _color_entropies(codes[near], len(names))
    return mean_of(entropies), how


def _color_entropies(codes: np.ndarray, names: int) -> np.ndarray:
    """Entropy of each row of codes, -1 not counted: [n, k] -> [n]."""
    counts = np.zeros((len(codes), names + 1), dtype=np.int64)
    np.add.at(counts, (np.arange(len(codes))[:, None], codes), 1)
    return entropy_nats(counts[:, :names])


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
    clusters = cluster(histograms, _cluster_count(colors), seed=seed).labels
    return ColorFloor(partition_entropy(clusters, colors), float(nearest_entropy(histograms, colors)[0]))


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
    clustering = cluster(embeddings, k, seed=seed)
    clusters = clustering.labels
    nearest_others, how_nearest = nearest_entropy(embeddings, colors)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(clusters) for _ in range(SHUFFLES)]
    at_random = [partition_entropy(partition, colors) for partition in shuffled]
    hows = {"clusters": clustering.how, "nearest": how_nearest}
    return ColorEntropy(
        clusters=partition_entropy(clusters, colors, replicates=True),
        ceiling=PartitionEntropy(*(float(np.mean(values)) for values in zip(*(vars(e).values() for e in at_random)))),
        floor=floor.clusters,
        nearest=nearest_others,
        nearest_floor=floor.nearest,
        design={name: design_agreement(clusters, shuffled, values) for name, values in design.items()},
        products=len(colors),
        k=int(clusters.max()) + 1 if clustering.how else k,
        colors=len(np.unique(colors)),
        how={part: how for part, how in hows.items() if how},
    )


def _cluster_count(colors: np.ndarray) -> int:
    return max(2, round(len(colors) / PRODUCTS_A_CLUSTER))


def design_agreement(clusters: np.ndarray, shuffled: Sequence[np.ndarray], labels: np.ndarray) -> DesignAgreement:
    """Purity and NMI of ``clusters`` with replicates over clusters; chance is the mean over ``shuffled`` (0 of none).

    clusters [products] int, labels [products] str, "" where unknown.
    """
    known = labels != ""
    table = contingency(clusters[known], labels[known])
    drawn = (row for block in draws(table.shape[0]) for row in block)
    return DesignAgreement(
        purity=ratio_of(most_frequent(table), np.asarray(table.sum(axis=1))),
        purity_by_chance=_mean([purity(partition[known], labels[known]) for partition in shuffled]),
        nmi=centred(nmi_of_table(table, None), np.array([nmi_of_table(table, row) for row in drawn])),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
