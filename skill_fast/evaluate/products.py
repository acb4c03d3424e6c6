"""Which products and photographs are scored, which ones may vote for them, and what the catalogue says about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skill_fast.data.index import CatalogueIndex
from skill_fast.errors import BadUsage
from skill_fast.evaluate.similarity import unit_rows

SPLITS = ("all", "train", "test")
CORE_ATTRIBUTES = {"type": "product_type", "color": "color", "pattern": "pattern"}


@dataclass(frozen=True)
class ProductSet:
    """The products of one evaluation. Places count within this set, rows within the data set's tables.

    Retrieval and colour are measured on ``queries`` alone; for kNN the products of ``bank`` vote. Labels are [products]
    str, lower case, "" where unknown.
    """

    split: str
    protocol: str
    rows: np.ndarray
    """[products] int64: rows of products.parquet."""
    images: np.ndarray
    """[images] int64: rows of images.parquet, each product's photographs together."""
    product_of_image: np.ndarray
    """[images] int64: place of its product."""
    queries: np.ndarray
    """Places of the evaluated products."""
    bank: np.ndarray
    """Places of the products that vote."""
    attributes: dict[str, np.ndarray]
    """type, color, pattern, then the catalogue's own attributes by name."""
    groups: np.ndarray
    """[products] str: variant group."""


def choose_split(index: CatalogueIndex, split: str | None) -> str:
    """``split``, or "test" where the data set holds products out, else "all".

    Raises BadUsage for an unknown split or one without products.
    """
    present = sorted(set(index.column("split").tolist()))
    if split is None:
        return "test" if "test" in present else "all"
    if split not in SPLITS:
        raise BadUsage(f"split '{split}' is not known", allowed=", ".join(SPLITS), change="--split NAME")
    if split != "all" and split not in present:
        raise BadUsage(
            f"the data set has no product of split '{split}'",
            allowed=", ".join(["all", *present]),
            change="--split all",
        )
    return split


def product_rows(index: CatalogueIndex, split: str) -> np.ndarray:
    """[products] int64: rows of products.parquet in ``split``, or all of them."""
    return index.select(None if split == "all" else split)


def select_products(index: CatalogueIndex, split: str | None = None, at_most: int | None = None) -> ProductSet:
    """Choose queries and bank.

    The test split is asked and the train split votes where the data set has both and "test" is evaluated; otherwise
    every product of the split is asked and all the others vote (leave-one-out). ``at_most``: of either split as many
    products at most, drawn by whole variant groups with a fixed seed.
    """
    split = choose_split(index, split)
    asked = product_rows(index, split)
    held_out = split == "test" and "train" in index.column("split")
    voters = product_rows(index, "train") if held_out else asked
    protocol = "queries: test, bank: train" if held_out else f"leave one out of {split}"
    if at_most is not None and at_most < max(len(asked), len(voters)):
        asked = _some_groups(index, asked, at_most)
        voters = _some_groups(index, voters, at_most) if held_out else asked
        protocol += f", at most {at_most} drawn"
    rows = np.concatenate([asked, voters]) if held_out else asked
    queries = np.arange(len(asked))
    return ProductSet(
        split=split,
        protocol=protocol,
        rows=rows,
        images=index.images_of(rows),
        product_of_image=np.repeat(np.arange(len(rows)), index.images_per_product[rows]),
        queries=queries,
        bank=np.arange(len(asked), len(rows)) if held_out else queries,
        attributes=_attributes(index, rows),
        groups=index.column("variant_group")[rows],
    )


def _some_groups(index: CatalogueIndex, rows: np.ndarray, at_most: int) -> np.ndarray:
    """Rows of variant groups drawn until the next one would be too many; at least one group. Ascending."""
    codes = group_codes(index.column("variant_group")[rows])
    names, group, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    kept = order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), at_most, side="right")))]
    return rows[np.isin(group, kept)]


def product_means(embeddings: np.ndarray, product_of_image: np.ndarray) -> np.ndarray:
    """A product's embedding: the L2-normalised mean of its photographs', in ascending order of ``product_of_image``.

    embeddings [images, D] float32, product_of_image [images] int -> [products, D] float32. (METHOD: evaluation.)
    """
    products, place = np.unique(product_of_image, return_inverse=True)
    sums = np.zeros((len(products), embeddings.shape[1]), dtype=np.float64)
    np.add.at(sums, place, embeddings)
    return unit_rows(sums / np.bincount(place)[:, None])


def group_codes(names: np.ndarray) -> np.ndarray:
    """Code of each product's group; a product without a group ("") is a group of its own. [n] str -> [n] int64."""
    _, codes = np.unique(names, return_inverse=True)
    unknown = np.asarray(names) == ""
    codes[unknown] = len(names) + np.arange(int(unknown.sum()))
    return codes.astype(np.int64)


def _attributes(index: CatalogueIndex, rows: np.ndarray) -> dict[str, np.ndarray]:
    columns = {name: index.column(column) for name, column in CORE_ATTRIBUTES.items()}
    for name in index.attribute_names():
        columns[f"attributes.{name}" if name in columns else name] = index.attribute(name)
    return {name: np.char.lower(np.char.strip(values[rows].astype(str))) for name, values in columns.items()}
