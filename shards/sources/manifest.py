"""A manifest: one row a photograph, as CSV, JSON Lines or Parquet; the general door for a catalogue.

product_id and image_path are required; product_type, color, pattern, variant_group and split are labels; every other
column is an attribute, and a column ``attributes`` or ``other_attrs`` holds a JSON object of further ones. Paths are
relative to the manifest. The rows of a product may lie anywhere; of its labels and attributes the first non-empty wins.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import BadData
from shards.rejects import Reject
from shards.sources.product import Catalogue, Product

REQUIRED = ("product_id", "image_path")
LABELS = ("product_type", "color", "pattern", "variant_group", "split")
NESTED = ("attributes", "other_attrs")
MAX_FIELD_CHARACTERS = 1 << 20
Row = dict[str, Any]


class BadRow(Exception):
    """One row can not be used; the message says which column and why."""


@dataclass
class _Gathering:
    """What the rows of one product have given so far."""

    photographs: dict[Path, int] = field(default_factory=dict)
    """Path -> row number."""
    labels: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def catalogue(path: Path) -> Catalogue:
    """Read a whole manifest and gather its rows by product, in the order of first mention; bad rows come first."""
    if not path.is_file():
        raise BadData(
            f"manifest '{path}' does not exist", allowed=f"a file ending in {ALLOWED}", change="check the path"
        )
    if path.suffix.lower() not in READERS:
        raise BadData(f"manifest '{path}' is a file of unknown kind", allowed=f"a file ending in {ALLOWED}")
    gathered: dict[str, _Gathering] = {}
    rejects: list[Reject] = []
    rows = 0
    for number, row in READERS[path.suffix.lower()](path):
        rows += 1
        try:
            _take(row, number, path.parent, gathered)
        except BadRow as error:
            named = {name: _shown(row.get(name)) for name in REQUIRED} if isinstance(row, dict) else {}
            rejects.append(
                Reject(named.get("product_id", ""), named.get("image_path", ""), "bad_row", f"row {number}: {error}")
            )
    if not rows:
        raise BadData(f"manifest '{path}' has no rows", allowed="a row a photograph", change="check the file")
    return Catalogue([*rejects, *(_product(key, found) for key, found in gathered.items())], rows)


def _product(product_id: str, found: _Gathering) -> Product:
    attributes = {name: found.attributes[name] for name in sorted(found.attributes)}
    labels = {"split": "train", **found.labels}
    return Product(product_id, tuple(found.photographs), attributes=attributes, **labels)


def _take(row: Row | BadRow, number: int, root: Path, gathered: dict[str, _Gathering]) -> None:
    """Add one row to its product; raises BadRow before anything of it is taken."""
    if isinstance(row, BadRow):
        raise row
    product_id, image_path = (_text(row, name) for name in REQUIRED)
    if not product_id or not image_path:
        raise BadRow(f"{'image_path' if product_id else 'product_id'} is empty")
    photograph = _path(root, image_path)
    labels = {name: text for name in LABELS if (text := _text(row, name))}
    attributes = _attributes(row)
    product = gathered.setdefault(product_id, _Gathering())
    if photograph in product.photographs:
        raise BadRow(f"the same photograph of the same product as in row {product.photographs[photograph]}")
    product.photographs[photograph] = number
    product.labels = labels | product.labels
    product.attributes = attributes | product.attributes


def _text(row: Row, name: str) -> str:
    """A cell as text: whole numbers are written out, empty cells are ""."""
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow(f"{name} is {_shown(value)} of type {type(value).__name__}, allowed: text or a whole number")
    return _encodable(name, str(value).strip())


def _encodable(name: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(f"{name} is no Unicode text: {error.reason}") from error
    return text


def _path(root: Path, image_path: str) -> Path:
    if "\0" in image_path:
        raise BadRow("image_path holds a NUL character")
    if "://" in image_path or image_path.startswith("pipe:"):
        raise BadRow(f"image_path {image_path!r} is an address, allowed: a path of a file")
    return root / image_path


def _attributes(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in NESTED:
            found |= _nested(name, value)
        elif name not in REQUIRED and name not in LABELS and not _is_empty(value):
            found[name] = _json_value(name, value)
    return found


def _nested(name: str, value: Any) -> dict[str, Any]:
    if _is_empty(value):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRow(f"{name} is a JSON {type(value).__name__}, allowed: an object")
    return {key: _json_value(name, inner) for key, inner in value.items() if not _is_empty(inner)}


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _json_value(name: str, value: Any) -> Any:
    """The value as JSON can hold it: dates and the like become text, an infinite number is refused."""
    if not isinstance(value, str | bool | int | float | list | dict):
        value = str(value)
    try:
        _encodable(name, json.dumps(value, ensure_ascii=False, allow_nan=False, default=str))
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{name} can not be written as JSON: {error}") from error
    return value


def _shown(value: Any) -> str:
    text = "" if value is None else str(value)[:200]
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_columns(path: Path, found: Iterable[str]) -> None:
    columns = list(found)
    missing = [name for name in REQUIRED if name not in columns]
    if not missing:
        return
    near = {name: difflib.get_close_matches(name, columns, 1, 0.4) for name in missing}
    changes = [f"rename '{_shown(close[0])}' to '{name}'" if close else f"add {name}" for name, close in near.items()]
    raise BadData(
        f"manifest '{path}' has no column {' and no column '.join(missing)}; its columns are "
        + (", ".join(f"'{_shown(name)}'" for name in columns[:40]) or "none"),
        allowed=f"{', '.join(REQUIRED)} (required), {', '.join(LABELS)}, and any other as an attribute",
        change=", ".join(changes),
    )


def _lines(path: Path) -> Iterator[str]:
    """Lines of UTF-8 text with or without a byte-order mark."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise BadData(
            f"manifest '{path}' is not UTF-8: byte {error.start} of a block is 0x{error.object[error.start]:02x}",
            allowed="UTF-8, with or without a byte-order mark",
            change="convert it, for example: iconv -f latin1 -t utf-8",
        ) from error


def _read_csv(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Rows of a CSV; the header is row 1. Comma, semicolon or tab, whichever the header has most of."""
    lines = _lines(path)
    first = next(lines, "")
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    delimiter = max(",;\t", key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    _check_columns(path, header)
    reader = csv.reader(lines, delimiter=delimiter)
    number = 1
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadRow(str(error))
            continue
        if not cells:
            number -= 1
        elif len(cells) != len(header):
            yield number, BadRow(f"{len(cells)} cells, the header has {len(header)}")
        else:
            yield number, dict(zip(header, cells, strict=True))


def _read_json_lines(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Rows of JSON Lines; the first line is row 1, empty lines count. The columns are judged by the first object."""
    checked = False
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        if len(line) > 16 * MAX_FIELD_CHARACTERS:
            yield number, BadRow(f"{len(line)} characters in one line")
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadRow(f"not JSON: {error}")
            continue
        if not isinstance(row, dict):
            yield number, BadRow(f"a JSON {type(row).__name__}, allowed: an object")
            continue
        if not checked:
            _check_columns(path, row)
            checked = True
        yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Rows of a Parquet file; the first is row 1."""
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"manifest '{path}' can not be read as Parquet: {error}", change="write it again") from error


READERS = {".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
SUFFIXES = tuple(READERS)
ALLOWED = ", ".join(SUFFIXES)
