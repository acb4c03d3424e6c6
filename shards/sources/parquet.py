"""Rows of a Parquet file, numbered, without what it holds as bytes: embedded files are no attributes.

of each column: its leaves, that is the values beneath its structs, lists and maps; read is what is no bytes
a struct loses the fields that are bytes, a list or a map of bytes goes as a whole
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import BadData
from shards.places import Place
from shards.sources.gathering import LABELS
from shards.sources.rows import BadRow, shown
from shards.sources.tables import REQUIRED, Check, Row, Rows

BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 4096
# One value that Python can not hold spoils a batch: strings that are not UTF-8, dates beyond the year 9999.
_UNREADABLE = (ValueError, TypeError, OverflowError, pa.ArrowException)


def read_parquet(path: Place, check: Check, left_out: Callable[[list[str]], None] = lambda names: None) -> Rows:
    """Rows of a Parquet file; the first is row 1. Bytes, such as embedded files, are not read but as ids and labels.

    left_out: is told, before the first row, of what is not read: a column's name, or a path within one.
    """
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened, buffer_size=1 << 20) as file:
            check(file.schema_arrow.names)
            paths = [file.schema.column(number).path for number in range(len(file.schema))]
            kept = [leaf for field in file.schema_arrow for leaf in _leaves_of(field)]
            if dropped := [path for path, keep in zip(paths, kept, strict=True) if not keep]:
                left_out(dropped)
            taken = {field.name for field in file.schema_arrow if any(_leaves_of(field))}
            number = 0
            columns = list(compress(paths, kept))
            for batch in file.iter_batches(_batch_rows(file.metadata), columns=columns):
                # pyarrow reads "a.b" where it is asked for "a", also as a column of its own.
                wanted = [place for place, field in enumerate(batch.schema) if field.name in taken and _is_clean(field)]
                for row in _rows(batch.select(wanted)):
                    number += 1
                    yield number, row
    except (OSError, RecursionError, *_UNREADABLE) as error:
        raise BadData(f"'{path}' can not be read as Parquet: {error}", change="write it again") from error


def _leaves_of(field: pa.Field) -> list[bool]:
    """Of each leaf of a column, in the order of the file, whether it is read; ids and labels may be bytes of text."""
    found = _leaves(field.type)
    return [True] * len(found) if field.name in (*REQUIRED, *LABELS) else found


def _is_clean(field: pa.Field) -> bool:
    return all(_leaves_of(field))


def _leaves(kind: pa.DataType) -> list[bool]:
    if isinstance(kind, pa.BaseExtensionType):
        # A UUID is 16 bytes to Parquet and a text to whoever reads it.
        return [True] if kind.extension_name == "arrow.uuid" else _leaves(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _leaves(kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(field.type)]
    if pa.types.is_map(kind):
        keys, items = _leaves(kind.key_type), _leaves(kind.item_type)
        # Keys alone are no map, items alone neither.
        return [*keys, *items] if all(keys) and any(items) else [False] * len([*keys, *items])
    if _is_list(kind):
        return _leaves(kind.value_type)
    return [not _is_bytes(kind)]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows that hold about BATCH_BYTES together, by what the file says of itself."""
    sizes = (metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    row_bytes = sum(sizes) / max(1, metadata.num_rows)
    return int(min(MAX_BATCH_ROWS, max(1, BATCH_BYTES // max(1, row_bytes))))


def _rows(batch: pa.RecordBatch) -> Iterable[Row | BadRow]:
    try:
        return batch.to_pylist()
    except _UNREADABLE:
        return [_row(batch, place) for place in range(batch.num_rows)]


def _row(batch: pa.RecordBatch, place: int) -> Row | BadRow:
    row: Row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[place].as_py()
        except _UNREADABLE as error:
            return BadRow(f"{shown(name)} can not be read: {error}")
    return row
