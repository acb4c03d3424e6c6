"""Embeddings as Parquet: a row per photograph and, beside it, a row per product; written as they come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skill_fast.data.index import CatalogueIndex
from skill_fast.evaluate.products import product_means

LABELS = ("product_type", "color", "pattern", "variant_group", "split", "attributes")
"""Columns of products.parquet; ``attributes`` is a JSON object of the catalogue's own, as it stands there."""


def write_embeddings(
    path: Path,
    index: CatalogueIndex,
    image_rows: np.ndarray,
    chunks: Iterable[np.ndarray],
    width: int,
    metadata: Mapping[str, str],
) -> Path:
    """Write a row per photograph to ``path`` and a row per product to ``products_path(path)``, which is returned.

    image_rows [images]: rows of images.parquet, ascending by product; chunks: their embeddings [some, width] float32 in
    that order, each a row group. Columns: product_id, key, view (photographs) or images (products), product_type,
    color, pattern, variant_group, split, attributes (JSON object), embedding (fixed-size list of float32).
    ``metadata`` stands in both schemas.
    Both files take their places when both are whole; one chunk and one product's photographs are held at a time.
    """
    products = np.asarray(index.product[image_rows])
    texts = {name: index.column(name) for name in ("product_id", "key", *LABELS)}
    targets = path, products_path(path)
    temporary = [target.with_name(target.name + ".tmp") for target in targets]
    with ExitStack() as files:
        kinds = [("view", width), ("images", width)]
        writers = [
            files.enter_context(pq.ParquetWriter(name, _schema(*kind, metadata)))
            for name, kind in zip(temporary, kinds)
        ]

        def by_photograph() -> Iterator[np.ndarray]:
            start = 0
            for chunk in chunks:
                rows = slice(start, start + len(chunk))
                views = np.asarray(index.view[image_rows[rows]])
                writers[0].write_table(_table(writers[0].schema, texts, products[rows], views, chunk))
                yield chunk
                start = rows.stop

        for embeddings, of_image in whole_products(by_photograph(), products):
            here, counts = np.unique(of_image, return_counts=True)
            means = product_means(embeddings, of_image)
            writers[1].write_table(_table(writers[1].schema, texts, here, counts, means))
    for name, target in zip(temporary, targets):
        with name.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(name, target)
    return targets[1]


def products_path(path: Path) -> Path:
    """FILE.parquet -> FILE.products.parquet."""
    return path.with_name(path.name.removesuffix(".parquet") + ".products.parquet")


def whole_products(chunks: Iterable[np.ndarray], products: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut chunks anew so that no product's rows are divided: (embeddings, their products), in order.

    chunks [some, D] of all rows in order; products [rows] int, ascending.
    """
    held: list[np.ndarray] = []
    first = end = 0
    for chunk in chunks:
        held.append(chunk)
        end += len(chunk)
        cut = end if end == len(products) else int(np.searchsorted(products, products[end]))
        if cut > first:
            rows = np.concatenate(held)
            yield rows[: cut - first], products[first:cut]
            held, first = [rows[cut - first :]], cut


def _schema(number: str, width: int, metadata: Mapping[str, str]) -> pa.Schema:
    fields = [("product_id", pa.string()), ("key", pa.string()), (number, pa.int32())]
    fields += [(name, pa.string()) for name in LABELS]
    return pa.schema([*fields, ("embedding", pa.list_(pa.float32(), width))], metadata=dict(metadata))


def _table(
    schema: pa.Schema,
    texts: Mapping[str, np.ndarray],
    products: np.ndarray,
    numbers: np.ndarray,
    embeddings: np.ndarray,
) -> pa.Table:
    columns = {name: pa.array(values[products].tolist(), pa.string()) for name, values in texts.items()}
    columns[schema.names[2]] = pa.array(numbers.astype(np.int32))
    flat = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).ravel())
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    return pa.table([columns[name] for name in schema.names], schema=schema)
