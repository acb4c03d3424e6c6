"""Orientation: how like itself a photograph stays when it is turned or mirrored. All choices [ours]."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skill_fast.data.index import CatalogueIndex
from skill_fast.evaluate.embed import Embedder, embed_all
from skill_fast.evaluate.products import ProductSet
from skill_fast.evaluate.similarity import TIE_DECIMALS, unit_rows

SAMPLE = 256
"""Products that are turned."""

TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "rotated_90": lambda images: torch.rot90(images, 1, (-2, -1)),
    "rotated_180": lambda images: torch.rot90(images, 2, (-2, -1)),
    "rotated_270": lambda images: torch.rot90(images, 3, (-2, -1)),
    "mirrored": lambda images: images.flip(-1),
}
"""Counter-clockwise, and left to right. The crop is a centred square, so turning it is turning the photograph."""


@dataclass(frozen=True)
class TurnedSample:
    """first [n], second [m]: places in the product set's photographs of the sample's first and second views.

    with_second [m]: places in the sample of the products that have two. vectors: row -> turn -> [n, D] float32.
    """

    first: np.ndarray
    second: np.ndarray
    with_second: np.ndarray
    vectors: Mapping[str, Mapping[str, np.ndarray]]


def embed_turned(
    index: CatalogueIndex, embedders: Mapping[str, Embedder], products: ProductSet, sample: int = SAMPLE, **how: Any
) -> TurnedSample:
    """Every turn of the first photograph of ``sample`` evaluated products, drawn with a fixed seed.

    ``how``: the options of ``embedding_batches``. Each photograph is decoded once.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(products.queries)[:sample])
    first = np.searchsorted(products.product_of_image, chosen)
    with_second = np.flatnonzero(np.append(products.product_of_image, -1)[first + 1] == chosen)
    both = {f"{name}/{turn}": _turned(embedder, turn) for name, embedder in embedders.items() for turn in TURNS}
    found = embed_all(index, both, products.images[first], **how)
    vectors = {name: {turn: found[f"{name}/{turn}"] for turn in TURNS} for name in embedders}
    return TurnedSample(first, first[with_second] + 1, with_second, vectors)


def _turned(embedder: Embedder, turn: str) -> Embedder:
    return lambda images: embedder(TURNS[turn](images))


def orientation_scores(
    sample: TurnedSample, images: np.ndarray, turned: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, a value per product) of every turn and of the controls that the similarities are read against.

    images [images, D]: the product set's embeddings, upright; turned: turn -> [n, D] of the sample. ::

        TURN/similarity            cos(turned, upright) of one photograph
        TURN/recall@1              the turned one is nearest to its own upright one among all n; ties lose
        same_product/similarity    cos of the product's first two photographs, where it has two
        other_product/similarity   mean cos of the photograph and every other product's
    """
    upright = unit_rows(images[sample.first])
    for turn, vectors in turned.items():
        similarity = np.round(unit_rows(vectors) @ upright.T, TIE_DECIMALS)
        own = similarity.diagonal().copy()
        np.fill_diagonal(similarity, -np.inf)
        yield f"{turn}/similarity", own
        yield f"{turn}/recall@1", (own > similarity.max(axis=1)).astype(np.float64)
    if len(sample.second):
        second = unit_rows(images[sample.second])
        yield "same_product/similarity", (upright[sample.with_second] * second).sum(axis=1)
    n = len(upright)
    yield "other_product/similarity", ((upright @ upright.sum(axis=0)) - (upright**2).sum(axis=1)) / (n - 1)


def why_no_orientation(products: ProductSet) -> str:
    """Why nothing can be said, or "" if something can."""
    return "" if len(products.queries) >= 2 else "fewer than two products to tell apart"
