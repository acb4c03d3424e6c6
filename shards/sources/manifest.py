"""A manifest: one row a photograph, as CSV, JSON Lines or Parquet; the general door for a catalogue.

product_id and image_path are required; product_type, color, pattern, variant_group and split are labels; every other
column is an attribute, and a column ``attributes`` or ``other_attrs`` holds a JSON object of further ones. Paths are
relative to the manifest. The rows of a product may lie anywhere; of its labels and attributes the first non-empty wins.
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from shards.errors import BadData
from shards.places import Place, size_of
from shards.sources.gathering import LABELS, Gathering, Mention
from shards.sources.parquet import read_parquet
from shards.sources.product import Catalogue
from shards.sources.rows import MAX_FIELD_CHARACTERS, BadRow, check_image_path, image_place, parse_json, shown
from shards.sources.tables import REQUIRED, Row, Rows, read_csv, read_json_lines

READERS: dict[str, Callable[..., Rows]] = {".csv": read_csv, ".jsonl": read_json_lines, ".parquet": read_parquet}
NESTED = ("attributes", "other_attrs")
_NO_ATTRIBUTES = frozenset(("", *REQUIRED, *LABELS))
SUFFIXES = tuple(READERS)
ALLOWED = ", ".join(SUFFIXES)
NAMES = tuple(f"manifest{suffix}" for suffix in SUFFIXES)


def recognizes(root: Place) -> bool:
    return within(root) is not None


def within(folder: Place) -> Place | None:
    """The manifest that a folder holds under its usual name."""
    return next((folder / name for name in NAMES if size_of(folder / name) is not None), None)


def catalogue(path: Place, on_duplicate: str = "error") -> Catalogue:
    """Read a whole manifest and gather its rows by product, in the order of first mention; bad rows lie between them.

    ``on_duplicate`` has nothing to say here: a product's rows are many by definition. Raises BadData where the file is
    missing or can not be read as a whole.
    """
    if path.is_dir():
        path = within(path) or path / NAMES[0]
    if size_of(path) is None:
        raise BadData(
            f"manifest '{path}' does not exist", allowed=f"a file ending in {ALLOWED}", change="check the path"
        )
    if path.suffix.lower() not in READERS:
        raise BadData(f"manifest '{path}' is a file of unknown kind", allowed=f"a file ending in {ALLOWED}")
    root = path.parent
    gathering = Gathering(lambda name: image_place(root, name))
    for number, row in _rows(path, gathering):
        try:
            gathering.add(_mention(row, number))
        except BadRow as error:
            product_id, image_path = (row.get(name) if isinstance(row, dict) else "" for name in REQUIRED)
            gathering.reject(product_id, image_path, "bad_row", f"row {number}: {error}")
    return gathering.catalogue(path)


def _rows(path: Place, gathering: Gathering) -> Rows:
    """Rows of the manifest; how many columns of files, or fields within columns, are left out is noted."""

    def check(found: list[str]) -> None:
        _check_columns(path, found)

    if path.suffix.lower() != ".parquet":
        return READERS[path.suffix.lower()](path, check)
    return read_parquet(path, check, lambda names: gathering.noted.update(columns_of_files=len(names)))


def _mention(row: Row | BadRow, number: int) -> Mention:
    if isinstance(row, BadRow):
        raise row
    product_id, image_path = (_text(row, name) for name in REQUIRED)
    if not product_id or not image_path:
        raise BadRow(f"{'image_path' if product_id else 'product_id'} is empty")
    check_image_path(image_path)
    labels = {name: text for name in LABELS if (text := _text(row, name))}
    return Mention(product_id, f"row {number}", [image_path], labels, _attributes(row))


def _text(row: Row, name: str) -> str:
    """A cell as text: whole numbers are written out, empty cells are ""."""
    value = row.get(name)
    if type(value) is str and len(value) <= MAX_FIELD_CHARACTERS:
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRow(f"{name} is no Unicode text: {error}") from error
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow(f"{name} is {shown(value)} of type {type(value).__name__}, allowed: text or a whole number")
    return _bounded(name, str(value)).strip()


def _bounded(name: str, text: str) -> str:
    if len(text) > MAX_FIELD_CHARACTERS:
        raise BadRow(f"{shown(name)} has {len(text)} characters, allowed: {MAX_FIELD_CHARACTERS}")
    return text


def _attributes(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name in _NO_ATTRIBUTES or _is_empty(value):
            continue
        found |= _nested(name, value) if name in NESTED else {name: _value(name, value)}
    return found


def _nested(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = parse_json(_bounded(name, value))
        except BadRow as error:
            raise BadRow(f"{name} is {error}") from error
    if not isinstance(value, dict):
        raise BadRow(f"{name} is a JSON {type(value).__name__}, allowed: an object")
    return {key: _value(key, inner) for key, inner in value.items() if not _is_empty(inner)}


def _value(name: str, value: Any) -> Any:
    """The value as JSON can hold it: dates and the like become text."""
    if isinstance(value, list | dict):
        _bounded(name, _text_of(value))
        return value
    if isinstance(value, bool | int | float):
        return value
    return _bounded(name, str(value))


def _text_of(value: Any) -> str:
    """As KEY.json will hold it; "" of what JSON can not hold, which costs the row when it is gathered."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return ""


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _check_columns(path: Place, found: Iterable[str]) -> None:
    """Raise BadData where a required column is missing, or a name stands for two columns."""
    columns = list(found)
    twice = sorted(shown(name) for name, count in Counter(columns).items() if name and count > 1)
    if twice:
        raise BadData(
            f"manifest '{path}' has the column {', '.join(repr(name) for name in twice)} more than once",
            allowed="a name a column",
            change="rename or remove one of the two",
        )
    missing = [name for name in REQUIRED if name not in columns]
    if not missing:
        return
    near = {name: difflib.get_close_matches(name, [shown(column) for column in columns], 1, 0.4) for name in missing}
    changes = [f"rename '{close[0]}' to '{name}'" if close else f"add {name}" for name, close in near.items()]
    raise BadData(
        f"manifest '{path}' has no column {' and no column '.join(missing)}; its columns are "
        + (", ".join(f"'{shown(name)}'" for name in columns[:40]) or "none"),
        allowed=f"{', '.join(REQUIRED)} (required), {', '.join(LABELS)}, and any other as an attribute",
        change=", ".join(changes),
    )
