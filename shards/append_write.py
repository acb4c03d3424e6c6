"""What an append moves into a data set: tables and dataset.json of the whole, out of the old and the new ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.counting import with_notes
from shards.index import write_dataset
from shards.lacking import KnownRejects
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.table_files import LATER_TABLES, TABLES, TableWriter
from shards.tables import batches
from shards.writer import Shard, index_name, shard_name

ALREADY_THERE, BUILD, ALL_TABLES = "already_there.json", "build", "tables"
"""Within OUT/.append."""


def _write_tables(folder: Path, staging: Path, dataset: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """The tables of the whole: their lines, and how many rejects of each reason the data set has listed before."""
    shift = {"shard": len(dataset["shards"]), "first_image": dataset["counts"]["images_written"]}
    lines: dict[str, Any] = {}
    again = Counter[str]()
    (staging / ALL_TABLES).mkdir(exist_ok=True)
    for name in TABLES:
        if name in LATER_TABLES and name not in dataset["tables"]:
            continue
        table = TableWriter(staging / ALL_TABLES, name)
        for batch in batches(folder, name):
            table.add_batch(batch)
        for batch in _arriving(folder, staging / BUILD, name, again):
            table.add_batch(_shifted(batch, shift))
        table.close()
        lines[name] = table.line
    return lines, again


def _arriving(folder: Path, built: Path, name: str, again: Counter[str]) -> Iterator[pa.RecordBatch]:
    """Rows of the new products; rejects that the data set lists already are left out and counted."""
    if name != "rejected.parquet":
        yield from batches(built, name)
        return
    with KnownRejects(folder) as known:
        for batch in batches(built, name):
            new, reasons = known.new_rows(batch)
            again.update(reasons)
            yield new


def prepare(folder: Path, staging: Path, dataset: dict[str, Any], built: dict[str, Any]) -> list[tuple[str, str]]:
    """Write tables and dataset.json of the whole to ``staging``; what is to be moved, and its names there."""
    there = json.loads((staging / ALREADY_THERE).read_bytes())
    there = {name: count for name, count in there.items() if count or name == "already_there"}
    first = len(dataset["shards"])
    lines, again = _write_tables(folder, staging, dataset)
    moves = [(f"{ALL_TABLES}/{name}", name) for name in lines]
    shards = [Shard(**line) for line in dataset["shards"]]
    for number, line in enumerate(built["shards"], first):
        name = shard_name(number)
        shards.append(Shard(**{**line, "name": name}))
        moves += [(f"{BUILD}/{line['name']}", name), (f"{BUILD}/{index_name(line['name'])}", index_name(name))]
    appended = {"source_format": built["options"]["source_format"], **there}
    appended |= {name: built["counts"][name] for name in ("products", "images_written")}
    options = {**dataset["options"], "appended": [*dataset["options"].get("appended", ()), appended]}
    counts = _sum(dataset["counts"], built["counts"], again)
    write_dataset(staging, options=options, counts=counts, shards=shards, tables=lines)
    return moves


def _shifted(batch: pa.RecordBatch, shift: dict[str, int]) -> pa.RecordBatch:
    """Rows of the new products, as they count behind the old ones."""
    columns = [
        pc.add(batch[field.name], pa.scalar(shift[field.name], field.type))
        if field.name in shift
        else batch[field.name]
        for field in batch.schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _sum(old: dict[str, Any], new: dict[str, Any], again: Counter[str]) -> dict[str, Any]:
    counts = {name: old[name] + new[name] for name in ("products", "images_seen", "images_written")}
    counts["images_seen"] -= sum(again[reason] for reason in IMAGE_REASONS)
    for name, reasons in (("images_rejected", IMAGE_REASONS), ("products_rejected", PRODUCT_REASONS)):
        both = Counter(old[name]) + (Counter(new[name]) - again)
        counts[name] = {reason: both[reason] for reason in reasons if both[reason]}
    return with_notes(counts, (old, new))
