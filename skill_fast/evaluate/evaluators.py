"""The evaluators: each takes the product set and one embedding and yields (name, value), and knows nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from skill_fast.evaluate.bootstrap import mean_of
from skill_fast.evaluate.color import ColorFloor, color_entropy, usable_design_labels, why_no_color_entropy
from skill_fast.evaluate.color_names import BASIC_NAMES, catalogue_color
from skill_fast.evaluate.knn import knn_scores, why_not_scorable
from skill_fast.evaluate.orientation import TurnedSample, orientation_scores, why_no_orientation
from skill_fast.evaluate.probe import probe_scores, probe_split
from skill_fast.evaluate.products import ProductSet, group_codes, product_means
from skill_fast.evaluate.retrieval import RetrievalScore, same_design_other_color, same_product
from skill_fast.evaluate.variants import blocks, variant_scores

Value = tuple[str, float]
MIN_VARIANT_GROUPS = 4
"""Variant groups of two or more, on either side, under which a grouping is not scored."""
VARIANT_VALIDATION = "every other variant group of the evaluated split, by the sha256 of its name; not scored"
"""Where the threshold of the colour variants is chosen; stands in the result."""


@dataclass(frozen=True)
class Vectors:
    """One embedding of a product set: images [images, D] as the embedder gave them, products [products, D] means."""

    images: np.ndarray
    products: np.ndarray
    notes: dict[str, str] = field(default_factory=dict)
    """Filled by the evaluators: score -> what was approximated, and the recall that it was measured at."""
    turned: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Turn -> [sample, D], where orientation is scored."""


@dataclass(frozen=True)
class ColorLabels:
    """What the colour entropy compares, over the evaluated products."""

    names: np.ndarray
    """[queries] str, "" where unknown."""
    source: str
    design: dict[str, np.ndarray]
    """Usable design labels: pattern, variant_group -> [queries] str."""


def knn_values(products: ProductSet, vectors: Vectors) -> Iterator[Value]:
    """Accuracy, majority rate and counts of every attribute that can be scored."""
    groups = group_codes(products.groups)
    for name, score in knn_scores(vectors.products, products.attributes, groups, products.queries, products.bank):
        for part in ("accuracy", "majority", "queries", "bank", "classes"):
            yield f"knn/{name}/{part}", getattr(score, part)
        if score.how:
            vectors.notes[f"knn/{name}"] = score.how


def probe_values(products: ProductSet, vectors: Vectors) -> Iterator[Value]:
    """Linear and non-linear probes of every attribute that can be scored."""
    train, test = probe_split(products.groups, products.queries, products.bank)
    for name, values in products.attributes.items():
        if not why_not_scorable(values, test, train):
            for part, value in probe_scores(vectors.products, values, train, test, products.groups):
                yield f"probe/{name}/{part}", value


def variant_values(products: ProductSet, vectors: Vectors) -> Iterator[Value]:
    """Groups of colour variants among the products whose group is known, beside what they are scored on."""
    validation, asked = variant_places(products)
    block = blocks(products.attributes)
    scores = variant_scores(vectors.products, block, products.groups, validation, asked, vectors.notes)
    yield from ((f"variants/{name}", value) for name, value in scores)


def variant_places(products: ProductSet) -> tuple[np.ndarray, np.ndarray]:
    """(validation, asked): the queries with a known group, every other group of them on either side.

    Never the bank: a supervised method has trained on its groups, they are closer together than new ones are, and a
    threshold chosen on them is too small. A group's place is that of its name's sha256, first among the groups of two
    or more, then among the lone products, so that either half has its share of both.
    """
    asked = products.queries[products.groups[products.queries] != ""]
    names, sizes = np.unique(products.groups[asked], return_counts=True)
    hashes = np.array([hashlib.sha256(name.encode()).hexdigest() for name in names.tolist()], dtype=str)
    order = np.lexsort((hashes, sizes < 2))
    chosen = np.isin(products.groups[asked], names[order[::2]])
    return asked[chosen], asked[~chosen]


def retrieval_values(products: ProductSet, vectors: Vectors) -> Iterator[Value]:
    """Recall and mAP of both retrievals over the evaluated split."""
    asked = products.queries
    photographs = np.isin(products.product_of_image, asked)
    same = same_product(vectors.images[photographs], products.product_of_image[photographs])
    other = same_design_other_color(
        vectors.products[asked], products.groups[asked], products.attributes["color"][asked]
    )
    for name, score in (("same_product", same), ("other_color", other)):
        yield from _retrieval_parts(name, score)
        if score is not None and score.how:
            vectors.notes[f"retrieval/{name}"] = score.how


def color_values(products: ProductSet, vectors: Vectors, labels: ColorLabels, floor: ColorFloor) -> Iterator[Value]:
    """The colour entropy with its controls over the evaluated split."""
    result = color_entropy(vectors.products[products.queries], labels.names, labels.design, floor)
    for name, value in result.items():
        yield f"color/{name}", value
    vectors.notes.update((f"color/{part}", how) for part, how in result.how.items())


def orientation_values(sample: TurnedSample, vectors: Vectors) -> Iterator[Value]:
    """Similarity of turned and mirrored photographs to upright ones, with intervals over products, beside controls."""
    for name, per_product in orientation_scores(sample, vectors.images, vectors.turned):
        yield f"orientation/{name}", mean_of(per_product)
    yield "orientation/products", len(sample.first)


def why_absent(products: ProductSet, labels: ColorLabels) -> dict[str, str]:
    """What can not be scored on this data, whatever the embedding: attribute or task -> reason."""
    reasons = {
        f"knn/{name}": why_not_scorable(values, products.queries, products.bank)
        for name, values in products.attributes.items()
    }
    train, test = probe_split(products.groups, products.queries, products.bank)
    reasons |= {f"probe/{name}": why_not_scorable(values, test, train) for name, values in products.attributes.items()}
    reasons["color"] = why_no_color_entropy(labels.names, labels.design)
    reasons["variants"] = why_no_variants(products)
    reasons["orientation"] = why_no_orientation(products)
    return {name: why for name, why in reasons.items() if why}


def why_no_variants(products: ProductSet) -> str:
    """Why colour variants can not be grouped, or "" if they can."""
    for side, places in zip(("validation", "scored"), variant_places(products)):
        _, counts = np.unique(products.groups[places], return_counts=True)
        if (counts >= 2).sum() < MIN_VARIANT_GROUPS:
            return f"fewer than {MIN_VARIANT_GROUPS} variant groups of two or more among the {side} products"
    return ""


def catalogue_colors(products: ProductSet) -> np.ndarray:
    """[queries] str: the catalogue's colours of the evaluated products as one of about 20 names, "" where unknown."""
    words = products.attributes["color"][products.queries]
    named = {word: catalogue_color(word) for word in set(words.tolist())}
    return np.array([named[word] for word in words.tolist()], dtype=str)


def color_labels(products: ProductSet, shares: np.ndarray | None) -> ColorLabels:
    """The catalogue's colour, else the dominant one of the product's photographs (shares [images, 11])."""
    names, source, asked = catalogue_colors(products), "catalogue", products.queries
    if shares is not None:
        unknown = names == ""
        dominant = product_means(shares, products.product_of_image)[asked].argmax(axis=1)
        names = np.where(unknown, np.array(BASIC_NAMES)[dominant], names)
        source = f"catalogue for {int((~unknown).sum())} products, photographs for {int(unknown.sum())}"
    design = {"pattern": products.attributes["pattern"][asked], "variant_group": products.groups[asked]}
    return ColorLabels(names, source, usable_design_labels(design))


def _retrieval_parts(name: str, score: RetrievalScore | None) -> Iterator[Value]:
    if score is not None:
        yield from ((f"retrieval/{name}/recall@{k}", value) for k, value in score.recall.items())
        yield f"retrieval/{name}/map", score.map
        yield f"retrieval/{name}/queries", score.queries
        yield f"retrieval/{name}/gallery", score.gallery
