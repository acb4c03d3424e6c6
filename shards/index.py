"""The tables beside the tars and dataset.json, the authority that is written last. See docs/shard_format.md."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import BadData
from shards.places import Place, is_remote, size_of
from shards.writer import PARTIAL_SUFFIX, Shard

FORMAT, VERSION = "skill-shards", 1
DATASET = "dataset.json"
APPEND_FOLDER = ".append"
"""Within a data set: where new products are prepared, and what their arrival is rolled forward from."""
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
ROW_GROUP = 65_536
SHARD_NAME = re.compile(r"shard-\d{6,}\.tar")
COUNTS = {"products", "images_seen", "images_written"}
REASON_COUNTS = {"images_rejected", "products_rejected"}
_NO_SEAL = "0" * 64
_SEAL_LINE = re.compile(rb'\n "sha256": "([0-9a-f]{64})"\n}\n\Z')


class TableWriter:
    """Appends rows to one table, in bounded memory; the file takes its name when it is complete."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.schema = folder / name, TABLES[name]
        self._partial = folder / (name + PARTIAL_SUFFIX)
        self._writer = pq.ParquetWriter(self._partial, self.schema, compression="zstd")
        self._rows: list[Sequence[Any]] = []
        self.rows = 0

    def add(self, *row: Any) -> None:
        self._rows.append(row)
        self.rows += 1
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        sync(self._partial)
        os.replace(self._partial, self.path)

    def abandon(self) -> None:
        self._writer.close()
        self._partial.unlink(missing_ok=True)

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self.schema)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, self.schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self._rows = []


def write_dataset(folder: Path, *, options: dict[str, Any], counts: dict[str, Any], shards: Sequence[Shard]) -> dict:
    """Write dataset.json over finished shards and tables, atomically, and return it."""
    dataset: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "options": options,
        "counts": counts,
        "shards": [asdict(shard) for shard in shards],
        "tables": {
            name: describe(folder / name) for name in TABLES if name not in LATER_TABLES or (folder / name).is_file()
        },
        "fingerprint": fingerprint([asdict(shard) for shard in shards]),
    }
    partial = folder / (DATASET + PARTIAL_SUFFIX)
    sealed_text = sealed(dataset)
    partial.write_bytes(sealed_text)
    sync(partial)
    os.replace(partial, folder / DATASET)
    sync(folder)
    return json.loads(sealed_text)


def sealed(dataset: dict[str, Any]) -> bytes:
    """dataset.json as bytes: its last value is the sha256 of these bytes with 64 zeros in the place of that value."""
    open_ = {**{name: value for name, value in dataset.items() if name != "sha256"}, "sha256": _NO_SEAL}
    text = (json.dumps(open_, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    seal = hashlib.sha256(text).hexdigest().encode()
    end = text.rindex(_NO_SEAL.encode())
    return text[:end] + seal + text[end + len(seal) :]


def seal_fault(text: bytes) -> str:
    """What shows that dataset.json was changed after it was written; "" where nothing does."""
    found = _SEAL_LINE.search(text)
    if found is None:
        dataset = json.loads(text)
        # Data sets that were built before there was a seal lack the later tables too.
        sealed_once = "sha256" in dataset or LATER_TABLES & dataset["tables"].keys()
        return "no sha256 of its own at the end" if sealed_once else ""
    expected = hashlib.sha256(text[: found.start(1)] + _NO_SEAL.encode() + text[found.end(1) :]).hexdigest()
    return "" if expected.encode() == found[1] else f"sha256 of its own {found[1].decode()}, by its content {expected}"


def read_dataset(folder: Place) -> dict[str, Any]:
    """dataset.json as a dict; raises BadData where there is none or it is not one of this format and version."""
    path = folder / DATASET
    if not is_remote(folder) and not folder.is_dir():
        raise BadData(
            f"folder '{folder}' does not exist", allowed="a folder of shards", change="build one: skill-shards build"
        )
    if size_of(path) is None:
        if (folder / APPEND_FOLDER).is_dir():
            raise BadData(
                f"products are being appended to '{folder}', or that was interrupted",
                allowed="a data set that nobody writes to",
                change="wait for skill-shards append; if it is not running, start it again or run skill-shards repair",
            )
        raise BadData(
            f"'{folder}' holds no {DATASET}",
            allowed="a folder that skill-shards build has finished",
            change="run the same build again: it starts over",
        )
    try:
        dataset = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadData(f"'{path}' is not JSON: {error}", change="build the shards again") from error
    found = (dataset.get("format"), dataset.get("version")) if isinstance(dataset, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise BadData(
            f"'{path}' has format {found[0]!r}, version {found[1]!r}",
            allowed=f"format {FORMAT!r}, version {VERSION}",
            change="build the shards with this version of skill-shards",
        )
    if faults := _faults(dataset):
        raise BadData(
            f"'{path}' is not a whole {DATASET}: {', '.join(faults)}",
            allowed="the file as skill-shards build wrote it",
            change="build the shards again",
        )
    return dataset


def _faults(dataset: dict[str, Any]) -> list[str]:
    """What a reader relies on and does not find; a shard's name may not lead out of the folder."""
    counts, shards, tables = (dataset.get(name) for name in ("counts", "shards", "tables"))
    faults = []
    if not isinstance(dataset.get("options"), dict):
        faults.append("options")
    if not isinstance(dataset.get("fingerprint"), str):
        faults.append("fingerprint")
    if not isinstance(counts, dict) or not _are_counts(counts):
        faults.append("counts")
    if not isinstance(tables, dict) or not _are_tables(tables):
        faults.append("tables")
    if not isinstance(shards, list) or not all(_is_shard_line(line) for line in shards):
        faults.append("shards")
    return [f"'{name}' is missing or damaged" for name in faults]


def _are_counts(counts: dict[str, Any]) -> bool:
    by_reason = [counts.get(name) for name in REASON_COUNTS]
    return all(_is_count(counts.get(name)) for name in COUNTS) and all(
        isinstance(reasons, dict) and all(_is_count(count) for count in reasons.values()) for reasons in by_reason
    )


def _are_tables(tables: dict[str, Any]) -> bool:
    names = TABLES.keys() - LATER_TABLES <= tables.keys() <= TABLES.keys()
    return names and all(
        isinstance(line, dict) and _is_count(line.get("bytes")) and isinstance(line.get("sha256"), str)
        for line in tables.values()
    )


def _is_shard_line(line: Any) -> bool:
    wanted = {field.name for field in fields(Shard)}
    return (
        isinstance(line, dict)
        and line.keys() == wanted
        and bool(SHARD_NAME.fullmatch(str(line["name"])))
        and all(_is_count(line[name]) for name in ("bytes", "products", "images"))
        and isinstance(line["sha256"], str)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def fingerprint(shards: Iterable[dict[str, Any]]) -> str:
    """sha256 over one line "name bytes sha256" a shard, each ended by a newline."""
    lines = "".join(f"{shard['name']} {shard['bytes']} {shard['sha256']}\n" for shard in shards)
    return hashlib.sha256(lines.encode()).hexdigest()


def describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the file system write a file or a folder's names to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
