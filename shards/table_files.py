"""The four tables beside the tars: their columns, and a writer in bounded memory. See docs/shard_format.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.new_file import NewFile
from shards.places import Place

IMAGES = pa.schema(
    [
        ("key", pa.string()),
        ("view", pa.int32()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
    ]
)
PRODUCTS = pa.schema(
    [
        ("key", pa.string()),
        ("product_id", pa.string()),
        ("product_type", pa.string()),
        ("color", pa.string()),
        ("pattern", pa.string()),
        ("variant_group", pa.string()),
        ("split", pa.string()),
        ("attributes", pa.string()),
        ("first_image", pa.int64()),
        ("images", pa.int32()),
    ]
)
REJECTED = pa.schema(
    [("product_id", pa.string()), ("image_path", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)
DUPLICATES = pa.schema(
    [
        ("key", pa.string()),
        ("view", pa.int32()),
        ("kind", pa.string()),
        ("of_key", pa.string()),
        ("of_view", pa.int32()),
        ("distance", pa.int32()),
    ]
)
TABLES = {
    "images.parquet": IMAGES,
    "products.parquet": PRODUCTS,
    "rejected.parquet": REJECTED,
    "duplicates.parquet": DUPLICATES,
}
LATER_TABLES = {"duplicates.parquet"}
"""Data sets that were built before they existed lack them."""
ROW_GROUP = 16_384


class TableWriter:
    """Appends rows to one table, in bounded memory; the file takes its name when it is complete.

    All row groups but the last have ``ROW_GROUP`` rows, so that the bytes depend on the rows alone.
    """

    def __init__(self, folder: Place, name: str) -> None:
        self.path, self.schema = folder / name, TABLES[name]
        self.rows = 0
        self._file = NewFile(self.path)
        self._writer = pq.ParquetWriter(self._file, self.schema, compression="zstd")
        self._rows: list[Sequence[Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._gathered = 0

    @property
    def line(self) -> dict[str, Any]:
        """What dataset.json says of the finished table."""
        return {"bytes": self._file.bytes, "sha256": self._file.sha256}

    def add(self, *row: Any) -> None:
        self._rows.append(row)
        self.rows += 1
        if len(self._rows) == ROW_GROUP:
            self._gather_rows()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Append many rows at once; the batch has the columns of the table."""
        self._gather_rows()
        self.rows += batch.num_rows
        self._gather(batch)

    def close(self) -> None:
        self._gather_rows()
        self._write(self._gathered)
        self._writer.close()
        self._file.commit()

    def abandon(self) -> None:
        self._file.abandon()
        self._writer.close()

    def _gather_rows(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._gather(batch_of(rows, self.schema))

    def _gather(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._gathered += batch.num_rows
        while self._gathered >= ROW_GROUP:
            self._write(ROW_GROUP)

    def _write(self, rows: int) -> None:
        # In one piece: a page ends where a piece does.
        table = pa.Table.from_batches(self._batches, schema=self.schema).combine_chunks()
        self._writer.write_table(table.slice(0, rows), row_group_size=ROW_GROUP)
        self._batches = table.slice(rows).to_batches()
        self._gathered -= rows


def batch_of(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as columns."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
