"""The catalogue's tables in memory: where every photograph lies, which product it shows, what is known of that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skill_fast.errors import BadData, BadUsage

FORMAT, VERSION = "skill-shards", 1
IMAGE_COLUMNS = {
    "view": np.int32,
    "shard": np.int32,
    "offset": np.int64,
    "size": np.int64,
    "crc32": np.uint32,
    "height": np.int32,
    "width": np.int32,
}


@dataclass(frozen=True, eq=False)
class CatalogueIndex:
    """A finished folder of shards, opened: numpy columns of its photographs and products.

    The first block has one value a photograph (row of images.parquet), the second one a product (row of
    products.parquet). Text columns of the products are read from the table when they are asked for, and not kept.
    """

    folder: Path
    fingerprint: str
    shard_names: tuple[str, ...]
    shard_bytes: np.ndarray

    product: np.ndarray
    """[images] int64: row of the product that the photograph shows."""
    view: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    """[images] int64: first byte of the JPEG within its shard."""
    size: np.ndarray
    """[images] int64: bytes of the JPEG."""
    crc32: np.ndarray
    height: np.ndarray
    width: np.ndarray

    first_image: np.ndarray
    """[products] int64: row of the product's first photograph; the others follow it."""
    images_per_product: np.ndarray
    product_types: list[str]
    product_type: np.ndarray
    """[products] int32: place of the product's type in ``product_types``."""

    @property
    def images(self) -> int:
        return len(self.product)

    @property
    def products(self) -> int:
        return len(self.first_image)

    def column(self, name: str) -> np.ndarray:
        """One text column of products.parquet, [products] str; BadUsage where there is no such column."""
        path = self.folder / "products.parquet"
        names = pq.read_schema(path).names
        if name not in names:
            raise BadUsage(f"'{path}' has no column '{name}'", allowed=", ".join(names))
        return np.array(pq.read_table(path, columns=[name])[name].to_pylist(), dtype=str)

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
        splits = self.column("split")
        rows = np.flatnonzero(splits == split)
        if len(rows) == 0:
            raise BadUsage(
                f"no product of '{self.folder}' is in the split '{split}'",
                allowed=", ".join(sorted(set(splits.tolist()))) or "the catalogue has no products",
            )
        return rows

    def images_of(self, products: np.ndarray) -> np.ndarray:
        """Rows of all photographs of the given products, [n] int64, product by product."""
        counts = self.images_per_product[products]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.first_image[products], counts) + within

    def describe(self, image: int) -> str:
        """A photograph's place in words, for messages."""
        place = f"'{self.shard_path(image)}' at byte {int(self.offset[image])}"
        return f"photograph {int(self.view[image])} of product row {int(self.product[image])} in {place}"

    def shard_path(self, image: int) -> Path:
        return self.folder / self.shard_names[int(self.shard[image])]


def open_index(folder: str | Path) -> CatalogueIndex:
    """Open a folder that ``skill-shards build`` finished.

    Sizes of all files are held against dataset.json first, so that a half-copied folder is named before training
    starts. Raises BadData naming the file, with expected and found bytes.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    shards: list[dict[str, Any]] = manifest["shards"]
    for name, entry in [(s["name"], s) for s in shards] + list(manifest["tables"].items()):
        _check_bytes(folder / name, int(entry["bytes"]))
    images = _read_table(folder / "images.parquet", list(IMAGE_COLUMNS))
    columns = {name: images[name].to_numpy().astype(dtype, copy=False) for name, dtype in IMAGE_COLUMNS.items()}
    products = _read_table(folder / "products.parquet", ["product_type", "first_image", "images"])
    first_image = products["first_image"].to_numpy().astype(np.int64, copy=False)
    images_per_product = products["images"].to_numpy().astype(np.int64, copy=False)
    types = products["product_type"].combine_chunks().dictionary_encode()
    shard_bytes = np.array([s["bytes"] for s in shards], dtype=np.int64)
    _check_tables(folder, columns, first_image, images_per_product, shard_bytes)
    return CatalogueIndex(
        folder=folder,
        fingerprint=str(manifest["fingerprint"]),
        shard_names=tuple(s["name"] for s in shards),
        shard_bytes=shard_bytes,
        product=np.repeat(np.arange(len(first_image), dtype=np.int64), images_per_product),
        first_image=first_image,
        images_per_product=images_per_product,
        product_types=types.dictionary.to_pylist(),
        product_type=types.indices.to_numpy().astype(np.int32, copy=False),
        **columns,
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    rebuild = "build the folder again with skill-shards build: it writes dataset.json last, when all else is on disk"
    if not path.is_file():
        raise BadData(
            f"'{folder}' holds no dataset.json", allowed="a folder that skill-shards build finished", change=rebuild
        )
    try:
        manifest = json.loads(path.read_bytes())
        missing = {"format", "version", "shards", "tables", "fingerprint"} - set(manifest)
    except (ValueError, TypeError) as error:
        raise BadData(f"'{path}' is not the JSON object it should be: {error}", change=rebuild) from error
    if missing:
        raise BadData(f"'{path}' lacks {', '.join(sorted(missing))}", change=rebuild)
    if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
        raise BadData(
            f"'{path}' says format '{manifest['format']}' version {manifest['version']}",
            allowed=f"format '{FORMAT}' version {VERSION}",
            change=rebuild,
        )
    absent = {"images.parquet", "products.parquet"} - set(manifest["tables"])
    if absent:
        raise BadData(f"'{path}' lists no {', '.join(sorted(absent))}", change=rebuild)
    return manifest


def _check_bytes(path: Path, expected: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != expected or not found:
        state = "is missing" if found is None else f"has {found} bytes"
        raise BadData(
            f"'{path}' {state}, dataset.json says {expected} bytes",
            allowed="the files exactly as skill-shards build wrote them",
            change="copy the folder again, or build it again",
        )


def _read_table(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"'{path}' can not be read: {error}", change="build the folder again") from error


def _check_tables(
    folder: Path,
    columns: dict[str, np.ndarray],
    first_image: np.ndarray,
    images_per_product: np.ndarray,
    shard_bytes: np.ndarray,
) -> None:
    """The laws that the loader relies on: products tile the photographs, photographs lie inside their shards."""
    images = len(columns["shard"])
    broken = None
    if not np.array_equal(first_image, np.cumsum(images_per_product) - images_per_product):
        broken = "products.parquet: first_image and images do not follow one another"
    elif images_per_product.sum() != images:
        broken = f"products.parquet counts {images_per_product.sum()} photographs, images.parquet has {images}"
    elif images and not (columns["shard"].min() >= 0 and columns["shard"].max() < len(shard_bytes)):
        broken = "images.parquet names a shard that dataset.json does not list"
    elif np.any(columns["offset"] + columns["size"] > shard_bytes[columns["shard"]]):
        broken = "images.parquet points beyond the end of a shard"
    elif images and min(columns[name].min() for name in ("size", "height", "width")) < 1:
        broken = "images.parquet has an empty photograph"
    elif np.any(np.diff(columns["shard"]) < 0):
        broken = "images.parquet is not in the order of the shards"
    if broken:
        raise BadData(f"'{folder}': {broken}", change="build the folder again, or run skill-shards verify on it")
