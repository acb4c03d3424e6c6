"""Saved embeddings, read back for evaluation: what ``skill-embed`` wrote, or anyone's Parquet of the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skill_fast.data.index import CatalogueIndex
from skill_fast.errors import BadData

COLUMNS = ("product_id", "view", "embedding")
OURS = ("dataset", "step", "pooling", "resize", "image_size")
RESIZE, CROP = 256, 224
"""Of the controls' crops, where the file does not say how its photographs were cropped."""
ALLOWED = "a Parquet file with product_id (text), view (whole number) and embedding (list of float), a row a photograph"


@dataclass(frozen=True)
class SavedEmbeddings:
    """A file of embeddings, opened; ``of`` looks photographs up in it."""

    path: Path
    metadata: Mapping[str, str]
    """What ``skill-embed`` says of the embeddings; empty for files from elsewhere."""

    @property
    def resize(self) -> int:
        return self._pixels("resize", RESIZE)

    @property
    def crop(self) -> int:
        return self._pixels("image_size", CROP)

    def _pixels(self, name: str, otherwise: int) -> int:
        told = self.metadata.get(name, "")
        return int(told) if told.isdecimal() and int(told) else otherwise

    def of(self, index: CatalogueIndex, image_rows: np.ndarray) -> np.ndarray:
        """Embeddings of photographs, found by product id and view: rows of images.parquet -> [images, D] float32.

        Rows of the file that are not asked for are passed over. Raises BadData for a photograph that the file lacks or
        has twice, for embeddings of unequal length or with values that are not finite, and for another data set's file.
        """
        told = self.metadata.get("dataset", index.fingerprint)
        if told != index.fingerprint:
            raise self._wrong(f"holds embeddings of another data set ({told[:12]}, not {index.fingerprint[:12]})")
        try:
            table = _columns(pq.read_table(self.path, columns=list(COLUMNS)))
        except pa.ArrowException as error:
            raise self._wrong(f"has damaged pages or columns of other types: {error}") from error
        except OSError as error:
            raise self._wrong(f"can not be read: {error}") from error
        rows = _places(self, table, index, image_rows)
        lists = table.column("embedding").combine_chunks().take(pa.array(rows))
        lengths = np.unique(np.diff(lists.offsets.to_numpy()))
        if lists.null_count:
            raise self._wrong(f"has no embedding for {lists.null_count:,} photographs")
        if len(lengths) != 1 or lengths[0] < 1:
            raise self._wrong(f"holds embeddings of {', '.join(map(str, lengths))} values")
        vectors = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        if not np.isfinite(vectors).all():
            raise self._wrong("holds embeddings with values that are not finite")
        return vectors

    def _wrong(self, what: str) -> BadData:
        return BadData(f"'{self.path}' {what}", allowed=ALLOWED, change="the file, or --data")


def open_saved(path: Path) -> SavedEmbeddings:
    """Open a file and look at its columns. Raises BadData for what is no such file."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"is no Parquet file: {error}"
        raise BadData(f"'{path}' {reason}", allowed=ALLOWED, change="another file") from error
    held = schema.metadata or {}
    metadata = {name: held[name.encode()].decode("utf-8", "replace") for name in OURS if name.encode() in held}
    saved = SavedEmbeddings(path, metadata)
    lacking = [name for name in COLUMNS if name not in schema.names]
    if lacking:
        raise saved._wrong(f"has no column {', '.join(lacking)}; it has {', '.join(schema.names)}")
    return saved


def _columns(table: pa.Table) -> pa.Table:
    """The same with the types that are worked with. Raises ArrowException for what can not be cast."""
    ids = table.column("product_id").cast(pa.string())
    views = table.column("view").cast(pa.int64())
    # Whole numbers beyond float32's own are rounded, as float64 is.
    lists = table.column("embedding").cast(pa.list_(pa.float32()), safe=False)
    return pa.table({"product_id": ids, "view": views, "embedding": lists})


def _places(saved: SavedEmbeddings, table: pa.Table, index: CatalogueIndex, image_rows: np.ndarray) -> np.ndarray:
    """Row of the file for each photograph."""
    names = pa.array(np.asarray(index.column("product_id")).tolist(), pa.string())
    product = pc.index_in(table.column("product_id"), value_set=names).fill_null(-1).to_numpy()
    view = table.column("view").to_numpy()
    known = (product >= 0) & (view >= 0) & (view < np.asarray(index.images_per_product)[product])
    image = np.where(known, np.asarray(index.first_image)[product] + view, -1)
    order = np.argsort(image, kind="stable")
    first, end = (np.searchsorted(image[order], image_rows, side=side) for side in ("left", "right"))
    for wrong, how in ((end == first, "lacks"), (end > first + 1, "has twice")):
        if wrong.any():
            row = int(image_rows[int(np.argmax(wrong))])
            one = f"view {index.view[row]} of product '{index.product_id(int(index.product[row]))}'"
            raise saved._wrong(f"{how} {int(wrong.sum()):,} of {len(image_rows):,} photographs, {one} first")
    return order[first]
