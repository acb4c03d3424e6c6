"""The tables of a data set, read in batches: memory does not grow with their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.errors import BadData
from shards.places import Place, check_is_file, reaching
from shards.table_files import TABLES

BATCH_ROWS = 8192


def batches(
    folder: Place, name: str, columns: Sequence[str] | None = None, first: int = 0, count: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Rows ``first`` to ``first + count`` of table ``name``; only the row groups that hold them are read.

    Raises BadData where the file is no Parquet or its columns are not those of the format.
    """
    check_is_file(folder / name)
    with reaching(folder / name), (folder / name).open("rb") as stream:
        try:
            table = pq.ParquetFile(stream)
            if fault := schema_fault(table.schema_arrow, name):
                raise BadData(f"'{folder / name}': {fault}", change="skill-shards repair makes the tables again")
            yield from _of_rows(table, columns, first, count)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BadData(
                f"'{folder / name}' can not be read: {error}", change="skill-shards repair makes the tables again"
            ) from error


def schema_fault(found: pa.Schema, name: str) -> str:
    """How a table's columns differ from the format's; "" where they do not."""
    expected = {field.name: str(field.type) for field in TABLES[name]}
    columns = {field.name: str(field.type) for field in found}
    if columns == expected and found.names == TABLES[name].names:
        return ""
    wrong = [f"{column} {kind}" for column, kind in columns.items() if expected.get(column) != kind]
    lacking = [f"{column} {kind}" for column, kind in expected.items() if columns.get(column) != kind]
    return f"columns: lacks {', '.join(lacking) or 'none'}; has {', '.join(wrong) or 'them in another order'}"


class Cursor:
    """Takes the rows of a table in runs, from the first on."""

    def __init__(self, folder: Place, name: str) -> None:
        self._parts = batches(folder, name)
        self._part: pa.RecordBatch | None = None

    def take(self, count: int) -> Iterator[pa.RecordBatch]:
        """The next ``count`` rows, fewer at the end of the table; all of them are to be taken."""
        while count > 0:
            if self._part is None or not self._part.num_rows:
                self._part = next(self._parts, None)
                if self._part is None:
                    return
            part, self._part = self._part.slice(0, count), self._part.slice(count)
            count -= part.num_rows
            yield part


def rows(folder: Place, name: str, first: int = 0, count: int | None = None) -> Iterator[dict[str, Any]]:
    """As ``batches``, a dict a row."""
    for batch in batches(folder, name, None, first, count):
        yield from batch.to_pylist()


def row_count(folder: Place, name: str) -> int:
    check_is_file(folder / name)
    with reaching(folder / name), (folder / name).open("rb") as stream:
        return int(pq.ParquetFile(stream).metadata.num_rows)


def count_values(folder: Place, name: str, column: str) -> Counter[Any]:
    """Value -> rows, the first value of equals first; memory grows with the different values only."""
    counts: Counter[Any] = Counter()
    for batch in batches(folder, name, [column]):
        for pair in pc.value_counts(batch[column]).to_pylist():
            counts[pair["values"]] += pair["counts"]
    return counts


def gather(folder: Place, name: str, columns: Sequence[str] | None, wanted: np.ndarray) -> pa.Table:
    """The given rows, ascending and each at most once, of some columns; None is all of them."""
    parts, place = [], 0
    for batch in batches(folder, name, columns):
        low, high = np.searchsorted(wanted, [place, place + batch.num_rows])
        if low < high:
            parts.append(batch.take(pa.array(wanted[low:high] - place)))
        place += batch.num_rows
    schema = pa.schema([TABLES[name].field(column) for column in columns or TABLES[name].names])
    return pa.Table.from_batches(parts, schema=schema)


def _of_rows(
    table: pq.ParquetFile, columns: Sequence[str] | None, first: int, count: int | None
) -> Iterable[pa.RecordBatch]:
    last = table.metadata.num_rows if count is None else min(first + count, table.metadata.num_rows)
    groups, place, skip = [], 0, first
    for group in range(table.num_row_groups):
        end = place + table.metadata.row_group(group).num_rows
        if end <= first:
            skip = first - end
        elif place < last:
            groups.append(group)
        place = end
    left = last - first
    for batch in table.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns) if left > 0 else ():
        part = batch.slice(skip, left)
        skip = max(0, skip - batch.num_rows)
        left -= part.num_rows
        if part.num_rows:
            yield part
        if left <= 0:
            return
