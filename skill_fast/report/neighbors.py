"""What an embedding takes for alike: a photograph and the nearest photographs of other products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from skill_fast.data.index import CatalogueIndex
from skill_fast.evaluate.similarity import similarity_blocks
from skill_fast.report.contact_sheet import Rgb, contact_sheet, photographs

NEIGHBORS = 6
QUERIES = 6
SAME_DESIGN: Rgb = (30, 150, 70)
QUERY: Rgb = (90, 90, 90)


@dataclass(frozen=True)
class NeighborRow:
    """A query photograph and its neighbours, nearest first; places count within the embeddings."""

    query: int
    neighbors: np.ndarray
    """[up to 6] int64, of as many products."""
    same_design: np.ndarray
    """[up to 6] bool: of the query's variant group."""


def choose_queries(product_of_image: np.ndarray, groups: np.ndarray, count: int = QUERIES) -> np.ndarray:
    """First photographs of ``count`` products spread evenly over those that have a colour variant, else over all.

    product_of_image [images] int64, groups [images] str (variant group of its product) -> [<= count] places.
    """
    _, first = np.unique(product_of_image, return_index=True)
    group_of_product = groups[first]
    names, sizes = np.unique(group_of_product[group_of_product != ""], return_counts=True)
    with_variant = first[np.isin(group_of_product, names[sizes > 1])]
    chosen = with_variant if len(with_variant) else first
    return chosen[np.unique(np.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().astype(int))]


def neighbor_rows(
    embeddings: np.ndarray,
    product_of_image: np.ndarray,
    groups: np.ndarray,
    queries: np.ndarray,
    count: int = NEIGHBORS,
) -> list[NeighborRow]:
    """The nearest photograph of each of the ``count`` nearest other products, for every query.

    embeddings [images, D]; product_of_image [images] int64; groups [images] str; queries: places.
    """
    rows = []
    for places, block in similarity_blocks(embeddings[queries], embeddings):
        for place, similarity in zip(places, block, strict=True):
            query = int(queries[place])
            order = np.argsort(-similarity, kind="stable")
            order = order[product_of_image[order] != product_of_image[query]]
            _, first = np.unique(product_of_image[order], return_index=True)
            near = order[np.sort(first)[:count]]
            rows.append(NeighborRow(query, near, (groups[near] == groups[query]) & (groups[query] != "")))
    return rows


def neighbor_strip(index: CatalogueIndex, image_rows: np.ndarray, row: NeighborRow, side: int) -> Image.Image:
    """The query framed grey, then its neighbours, those of the same design framed green.

    image_rows [images]: row of images.parquet of each place.
    """
    shown = np.concatenate([[row.query], row.neighbors])
    frames: list[Rgb | None] = [QUERY, *(SAME_DESIGN if same else None for same in row.same_design)]
    return contact_sheet(photographs(index, image_rows[shown], side), len(shown), frames)
