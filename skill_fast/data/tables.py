"""Reads images.parquet and products.parquet piece by piece into narrow columns, and holds them against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skill_fast.data.columns import Column, GrowingColumn, Owner, Within
from skill_fast.errors import BadData

ROWS_AT_ONCE = 65_536
STORED = ("offset", "size", "crc32", "height", "width")
"""Columns of images.parquet that are kept; product, view and shard follow from where products and shards start."""


class Broken(Exception):
    """A law between the tables does not hold; the message says which."""


@dataclass(frozen=True, eq=False)
class Products:
    """products.parquet without its texts."""

    first_image: Column
    images_per_product: Column
    product_types: list[str]
    product_type: Column

    @property
    def images(self) -> int:
        return self.first_image[-1] + self.images_per_product[-1] if len(self.first_image) else 0


@dataclass(frozen=True, eq=False)
class Images:
    """images.parquet: columns that are kept by name, and those that are worked out."""

    stored: dict[str, Column]
    product: Owner
    view: Within
    shard: Owner
    first_of_shard: Column


@contextmanager
def table(path: str, shown: str, texts: tuple[str, ...] = ()) -> Iterator[pq.ParquetFile]:
    """An open table, ``texts`` as dictionaries; raises BadData where it can not be read, with ``shown`` as its name."""
    try:
        # Without pre_buffer the file is not held as a whole.
        with pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"'{shown}' can not be read: {error}", change="build the folder again") from error


def pieces_of(file: pq.ParquetFile, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A table in pieces of at most ``ROWS_AT_ONCE`` rows; raises Broken where it lacks a column."""
    if missing := [column for column in columns if column not in file.schema_arrow.names]:
        raise Broken(f"{name} lacks the column {', '.join(missing)}")
    return file.iter_batches(ROWS_AT_ONCE, columns=list(columns))


def read_products(file: pq.ParquetFile) -> Products:
    """Products that tile the photographs without a gap; raises Broken where they do not."""
    first, counts, codes = (GrowingColumn(file.metadata.num_rows) for _ in range(3))
    types: dict[str, int] = {}
    images = 0
    for piece in pieces_of(file, "products.parquet", ["product_type", "first_image", "images"]):
        found_first, found_counts = numbers(piece, "first_image"), numbers(piece, "images")
        ends = images + np.cumsum(found_counts)
        if np.any(found_counts < 1) or not np.array_equal(found_first, ends - found_counts):
            raise Broken("products.parquet: first_image and images do not follow one another")
        images = int(ends[-1]) if len(ends) else images
        first.extend(found_first)
        counts.extend(found_counts)
        codes.extend(_codes(piece.column("product_type"), types))
    return Products(first.column(largest=images), counts.column(), list(types), codes.column())


def read_images(file: pq.ParquetFile, products: Products, shard_bytes: np.ndarray) -> Images:
    """Photographs that lie inside their shards, in their order; raises Broken where they do not."""
    rows = file.metadata.num_rows
    if products.images != rows:
        raise Broken(f"products.parquet counts {products.images} photographs, images.parquet has {rows}")
    product = Owner(products.first_image, rows)
    view = Within(product, products.first_image)
    columns = {name: GrowingColumn(rows) for name in STORED}
    per_shard = np.zeros(len(shard_bytes), dtype=np.int64)
    start, last_shard = 0, 0
    for piece in pieces_of(file, "images.parquet", [*STORED, "view", "shard"]):
        found = {name: numbers(piece, name) for name in (*STORED, "view", "shard")}
        _check_images(found, last_shard, shard_bytes)
        if not np.array_equal(found["view"], view[start : start + len(piece)]):
            raise Broken("images.parquet: the views of a product are not 0, 1, 2 ...")
        for name, column in columns.items():
            column.extend(found[name])
        per_shard += np.bincount(found["shard"], minlength=len(shard_bytes))
        start, last_shard = start + len(piece), int(found["shard"][-1])
    starts = np.cumsum(per_shard) - per_shard
    if np.any(view[starts[starts < rows]]):
        raise Broken("images.parquet has a product in two shards")
    first_of_shard = Column(starts.astype(np.min_scalar_type(rows)))
    stored = {name: column.column() for name, column in columns.items()}
    return Images(stored, product, view, Owner(first_of_shard, rows), first_of_shard)


def numbers(piece: pa.RecordBatch, name: str) -> np.ndarray:
    """A column as int64; raises Broken where it holds nulls or anything but whole numbers that fit."""
    column = piece.column(name)
    if column.null_count or not pa.types.is_integer(column.type):
        raise Broken(f"the column {name} has nulls or is of type {column.type}")
    try:
        return column.cast(pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise Broken(f"the column {name}: {error}") from error


def _codes(texts: pa.Array, known: dict[str, int]) -> np.ndarray:
    """The place of each text in ``known``, which takes up new ones in the order of their first row."""
    if texts.null_count:
        raise Broken("products.parquet has nulls")
    encoded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    # The order of a file's own dictionary is the writer's; the order of rows is the same for every reader.
    used = pc.unique(encoded.indices).to_numpy()
    names = encoded.dictionary.to_pylist()
    places = np.zeros(len(names), dtype=np.int64)
    for code in used.tolist():
        places[code] = known.setdefault(names[code], len(known))
    return places[encoded.indices.to_numpy()]


def _check_images(found: dict[str, np.ndarray], last_shard: int, shard_bytes: np.ndarray) -> None:
    shard = found["shard"]
    if shard.min(initial=0) < 0 or shard.max(initial=-1) >= len(shard_bytes):
        raise Broken("images.parquet names a shard that dataset.json does not list")
    if np.any(np.diff(shard, prepend=last_shard) < 0):
        raise Broken("images.parquet is not in the order of the shards")
    if min(found[name].min(initial=1) for name in ("size", "height", "width")) < 1:
        raise Broken("images.parquet has an empty photograph")
    if found["offset"].min(initial=0) < 0 or np.any(found["offset"] > shard_bytes[shard] - found["size"]):
        raise Broken("images.parquet points beyond the end of a shard")
