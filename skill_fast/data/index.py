"""The catalogue's tables in memory: where every photograph lies, which product it shows, what is known of that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.places import Place, place
from skill_fast.data.cache_config import CacheConfig
from skill_fast.data.columns import Column, Owner, Within
from skill_fast.data.dataset_manifest import check_bytes, check_tables, listed, read_manifest
from skill_fast.data.shard_files import CachedFiles, LocalFiles
from skill_fast.data.tables import Broken, pieces_of, read_images, read_products, table
from skill_fast.errors import BadData, BadUsage


@dataclass(frozen=True, eq=False)
class CatalogueIndex:
    """A finished folder of shards, opened: columns of its photographs and products, indexed by row.

    The first block has one value a photograph (row of images.parquet), the second one a product (row of
    products.parquet); values come out as int or int64 (``columns.py``). 4 million photographs of 1 million products
    take 76 MB. Text columns of the products are read from the table when they are asked for, and not kept.
    """

    folder: Place
    files: LocalFiles | CachedFiles
    """Where the bytes are read: the folder itself, or a cache of it."""
    fingerprint: str
    shard_names: tuple[str, ...]
    shard_bytes: np.ndarray
    """[shards] int64."""

    product: Owner
    """Row of the product that the photograph shows."""
    view: Within
    shard: Owner
    offset: Column
    """First byte of the JPEG within its shard."""
    size: Column
    """Bytes of the JPEG."""
    crc32: Column
    height: Column
    width: Column

    first_image: Column
    """Row of the product's first photograph; the others follow it."""
    images_per_product: Column
    product_types: list[str]
    product_type: Column
    """Place of the product's type in ``product_types``."""
    first_of_shard: Column
    """[shards]: row of the first photograph in each shard, or of what follows where it has none."""

    @property
    def images(self) -> int:
        return len(self.product)

    @property
    def products(self) -> int:
        return len(self.first_image)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Column | np.ndarray))

    def column(self, name: str) -> np.ndarray:
        """One text column of products.parquet, [products] str; BadUsage where there is no such column."""
        pieces = [np.array(piece.to_pylist(), dtype=str) for piece in self._texts(name)]
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=str)

    def product_id(self, product: int) -> str:
        """The catalogue's own id of one product; read from the table, a piece at a time, for messages."""
        for piece in self._texts("product_id"):
            if product < len(piece):
                return str(piece[product].as_py())
            product -= len(piece)
        raise IndexError(product)

    def attribute(self, name: str) -> np.ndarray:
        """One of the catalogue's own attributes, [products] str, "" where a product lacks it."""
        return np.array([str(json.loads(row or "{}").get(name, "")) for row in self.column("attributes")], dtype=str)

    def attribute_names(self) -> list[str]:
        """Every attribute that some product has, sorted."""
        return sorted({name for row in self.column("attributes") for name in json.loads(row or "{}")})

    def select(self, split: str | None) -> np.ndarray:
        """Rows of a split's products (all of them for None), [n] int64, ascending; BadUsage where there are none."""
        if split is None:
            return np.arange(self.products, dtype=np.int64)
        found, start, splits = [], 0, set()
        for piece in self._texts("split"):
            splits |= set(pc.unique(piece).to_pylist())
            found.append(start + np.flatnonzero(pc.equal(piece, split).to_numpy(zero_copy_only=False)))
            start += len(piece)
        if split not in splits:
            raise BadUsage(
                f"no product of '{self.folder}' is in the split '{split}'",
                allowed=", ".join(sorted(splits)) or "the catalogue has no products",
            )
        return np.concatenate(found)

    def images_of(self, products: np.ndarray) -> np.ndarray:
        """Rows of all photographs of the given products, [n] int64, product by product."""
        counts = self.images_per_product[products]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.first_image[products], counts) + within

    def describe(self, image: int) -> str:
        """A photograph's place in words, for messages."""
        place = f"'{self.shard_path(image)}' at byte {self.offset[image]}"
        return f"photograph {self.view[image]} of product row {self.product[image]} in {place}"

    def shard_path(self, image: int) -> Place:
        return self.folder / self.shard_names[self.shard[image]]

    def _texts(self, name: str) -> Iterator[pa.Array]:
        """A text column in pieces."""
        with _open_table(self.folder, self.files, "products.parquet") as file:
            names = file.schema_arrow.names
            if name not in names:
                path = self.folder / "products.parquet"
                raise BadUsage(f"'{path}' has no column '{name}'", allowed=", ".join(names))
            for piece in pieces_of(file, "products.parquet", [name]):
                yield piece.column(0)


def open_index(folder: str | Place, cache: CacheConfig | None = None) -> CatalogueIndex:
    """Open a folder that ``skill-shards build`` finished; one in object storage is read through a cache folder.

    Sizes of all files are held against dataset.json first, and the tables' sha256, so that a half-copied folder and
    tables of another data set are named before training starts. Raises BadData naming the file, BadUsage for a name
    that is no UTF-8.
    """
    folder = place(folder)
    _check_name(folder)
    manifest = read_manifest(folder)
    shards: list[dict[str, Any]] = manifest["shards"]
    check_bytes(folder, {name: int(entry["bytes"]) for name, entry in listed(manifest).items()})
    files = _files(folder, manifest, cache or CacheConfig())
    shard_bytes = np.array([s["bytes"] for s in shards], dtype=np.int64)
    check_tables(folder, manifest["tables"])
    try:
        with _open_table(folder, files, "products.parquet", texts=("product_type",)) as file:
            products = read_products(file)
        with _open_table(folder, files, "images.parquet") as file:
            images = read_images(file, products, shard_bytes)
    except Broken as broken:
        change = "build the folder again, or run skill-shards verify on it"
        raise BadData(f"'{folder}': {broken}", change=change) from broken
    return CatalogueIndex(
        folder=folder,
        files=files,
        fingerprint=str(manifest["fingerprint"]),
        shard_names=tuple(s["name"] for s in shards),
        shard_bytes=shard_bytes,
        first_image=products.first_image,
        images_per_product=products.images_per_product,
        product_types=products.product_types,
        product_type=products.product_type,
        product=images.product,
        view=images.view,
        shard=images.shard,
        first_of_shard=images.first_of_shard,
        **images.stored,
    )


def _check_name(folder: Place) -> None:
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError as error:
        # Arrow opens no such path; skill-shards reads and writes it.
        change = "rename the folder, or name it by a link"
        raise BadUsage(f"'{folder}' is no UTF-8", allowed="a path in UTF-8", change=change) from error


@contextmanager
def _open_table(
    folder: Place, files: LocalFiles | CachedFiles, name: str, texts: tuple[str, ...] = ()
) -> Iterator[pq.ParquetFile]:
    with files.readable(name) as path, table(path, shown=str(folder / name), texts=texts) as file:
        yield file


def _files(folder: Place, manifest: dict[str, Any], cache: CacheConfig) -> LocalFiles | CachedFiles:
    return LocalFiles(folder) if isinstance(folder, Path) else CachedFiles(folder, listed(manifest), cache)
