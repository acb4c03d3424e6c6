"""Rows of a table in a file, numbered: CSV, JSON Lines or Parquet, in memory that does not grow with the file.

A reader yields (row number, row as a dict or BadRow), and hands the columns to ``check`` before the first row.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import BadData
from shards.places import Place
from shards.sources.gathering import LABELS
from shards.sources.lines import open_lines
from shards.sources.rows import MAX_FIELD_CHARACTERS, BadRow, parse_json, shown

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | BadRow]]
Check = Callable[[list[str]], None]
REQUIRED = ("product_id", "image_path")
BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 4096
# One value that Python can not hold spoils a batch: strings that are not UTF-8, dates beyond the year 9999.
_UNREADABLE = (ValueError, TypeError, OverflowError, pa.ArrowException)


def read_csv(path: Place, check: Check) -> Rows:
    """Rows of a CSV; the header is row 1. Comma, semicolon or tab, whichever the header has most of."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with open_lines(path) as lines:
        try:
            first = next(lines, "")
            delimiter = max(",;\t", key=first.count)
            header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])]
        except (BadRow, csv.Error) as error:
            raise BadData(f"the header of '{path}' can not be read: {error}", change="write it again as CSV") from error
        check(header)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        number = 1
        while True:
            number += 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, BadRow) as error:
                yield number, BadRow(str(error))
                continue
            if not cells:
                number -= 1
            elif len(cells) != len(header):
                yield number, BadRow(f"{len(cells)} cells, the header has {len(header)}")
            else:
                yield number, dict(zip(header, cells, strict=True))


def read_json_lines(path: Place, check: Check) -> Rows:
    """Rows of JSON Lines; the first line is row 1, empty lines count. The columns are those of the first object."""
    checked = False
    with open_lines(path) as lines:
        while True:
            try:
                line = next(lines)
                if not line.strip():
                    continue
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise BadRow(f"a JSON {type(row).__name__}, allowed: an object")
            except StopIteration:
                return
            except BadRow as error:
                yield lines.number, error
                continue
            if not checked:
                check(list(row))
                checked = True
            yield lines.number, row


def read_parquet(path: Place, check: Check) -> Rows:
    """Rows of a Parquet file; the first is row 1. Columns of bytes other than labels, such as embedded files, are left
    out."""
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened, buffer_size=1 << 20) as file:
            check(file.schema_arrow.names)
            taken = [field.name for field in file.schema_arrow if not _holds_files(field)]
            number = 0
            for batch in file.iter_batches(_batch_rows(file.metadata), columns=taken):
                for row in _rows(batch):
                    number += 1
                    yield number, row
    except (OSError, *_UNREADABLE) as error:
        raise BadData(f"'{path}' can not be read as Parquet: {error}", change="write it again") from error


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows that hold about BATCH_BYTES together, by what the file says of itself."""
    sizes = (metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    row_bytes = sum(sizes) / max(1, metadata.num_rows)
    return int(min(MAX_BATCH_ROWS, max(1, BATCH_BYTES // max(1, row_bytes))))


def _holds_files(field: pa.Field) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        return any(_holds_files(inner) for inner in kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return is_bytes and field.name not in (*REQUIRED, *LABELS)


def _rows(batch: pa.RecordBatch) -> list[Row | BadRow]:
    try:
        rows: list[Row | BadRow] = batch.to_pylist()
    except _UNREADABLE:
        rows = [_row(batch, place) for place in range(batch.num_rows)]
    return rows


def _row(batch: pa.RecordBatch, place: int) -> Row | BadRow:
    row: Row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[place].as_py()
        except _UNREADABLE as error:
            return BadRow(f"{shown(name)} can not be read: {error}")
    return row


READERS: dict[str, Callable[[Place, Check], Rows]] = {
    ".csv": read_csv,
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
}
