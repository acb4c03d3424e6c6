"""New products of a catalogue into a finished data set: built as it was built, moved in as new shards."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.arrival import ARRIVAL, arrive, held, prepared
from shards.build import NothingWritten, build
from shards.counting import Progress, with_notes
from shards.errors import BadData, BadUsage
from shards.index import APPEND_FOLDER, DATASET, LATER_TABLES, TABLES, TableWriter, read_dataset, write_dataset
from shards.lacking import KnownProducts, KnownRejects, Lacking, NothingNew
from shards.lock import LOCK
from shards.new_file import write_new
from shards.output import JOURNAL
from shards.places import Place, place
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.selection import Selection
from shards.sources.catalogue import choose_format
from shards.sources.product import Catalogue
from shards.tables import batches
from shards.verify import verify
from shards.writer import Shard, index_name, shard_name

ON_DUPLICATE = ("error", "first")
REQUEST, ALREADY_THERE, BUILD, ALL_TABLES = "request.json", "already_there.json", "build", "tables"


def append(
    source: str | Place,
    out: str | Place,
    *,
    format: str | None = None,
    on_duplicate: str = "first",
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    **demo_options: int,
) -> dict[str, Any]:
    """Add the products of ``source`` that ``out`` lacks, in new shards, and return the new dataset.json.

    on_duplicate: what becomes of a product that the data set has: "first", it stays as it is, and is counted under
    "appended" in dataset.json's options; or "error". The others are those of ``build``; everything that decides bytes
    is as the data set was built.

    The new products are a build of their own in OUT/.append: the same call goes on after any interruption. Until they
    arrive (``arrival.py``) the data set is the old one. Where the source has nothing new, or nothing new can be used,
    nothing changes. What the data set lists as rejected is not listed or counted again. Photographs are not compared
    with those of older products. Raises what ``build`` raises but for that; BadData for a damaged data set; BadUsage
    for a place in object storage, a data set that was capped, and "merge", which would change finished shards.
    """
    folder = place(out)
    _check(folder, on_duplicate)
    assert isinstance(folder, Path)
    taken = format or choose_format(source)
    if (folder / APPEND_FOLDER / ARRIVAL).is_file():
        with held(folder):
            arrive(folder)
    read_dataset(folder)
    with held(folder) as staging:
        dataset = _whole(folder)
        _begin(staging, {"source": str(source), "format": taken, "demo": demo_options, "to": dataset["fingerprint"]})
        how = {"workers": workers, "engine": engine, "ray_address": ray_address, "progress": progress}
        try:
            with KnownProducts(folder) as known:
                narrow = _noted(Lacking(known, on_duplicate, folder), staging)
                built = _build(staging / BUILD, source, dataset, narrow, format=taken, **how, **demo_options)
        except (NothingNew, NothingWritten):
            shutil.rmtree(staging)
            return dataset
        except BadData:
            if not any((staging / BUILD).glob("*.tar")):
                shutil.rmtree(staging)
            raise
        prepared(folder, _prepare(folder, staging, dataset, built))
        arrive(folder)
    return read_dataset(folder)


def _noted(narrow: Lacking, staging: Path) -> Callable[[Catalogue], Catalogue]:
    """Keeps how many products are there already, for a build that goes on in another process."""

    def noted(catalogue: Catalogue) -> Catalogue:
        try:
            left = narrow(catalogue)
        finally:
            _say_what_is_not_added(narrow.photographs_not_added)
        found = {"already_there": narrow.already_there, "photographs_not_added": narrow.photographs_not_added}
        write_new(staging / ALREADY_THERE, json.dumps(found).encode())
        return left

    return noted


def _say_what_is_not_added(photographs: int) -> None:
    if photographs:
        print(
            f"products that are there already have {photographs:,} more photographs in the source, which are not "
            "added: build these products apart and merge --on-duplicate merge",
            file=sys.stderr,
        )


def _check(folder: Place, on_duplicate: str) -> None:
    if on_duplicate not in ON_DUPLICATE:
        raise BadUsage(
            f"on_duplicate is {on_duplicate!r}",
            allowed=", ".join(ON_DUPLICATE),
            change="to add photographs to products that are there, build them apart, then merge --on-duplicate merge"
            if on_duplicate == "merge"
            else "",
        )
    if not isinstance(folder, Path):
        raise BadUsage(
            f"'{folder}' is in object storage",
            allowed="a local folder",
            change="build the new products apart and merge",
        )


def _whole(folder: Path) -> dict[str, Any]:
    dataset = read_dataset(folder)
    if findings := verify(folder).findings:
        raise BadData(f"'{folder}' is damaged: {findings[0]}", change="skill-shards repair, then the same command")
    if cap := dataset["options"].get("cap_per_type"):
        raise BadUsage(
            f"'{folder}' was built with at most {cap} products of each type",
            allowed="data sets without a cap: nobody can say which of the new products are within it",
            change="build it again from the whole catalogue",
        )
    return dataset


def _begin(staging: Path, request: dict[str, Any]) -> None:
    """What another append, or one to another state of the data set, has prepared goes."""
    text = json.dumps(request, indent=1, sort_keys=True).encode()
    path = staging / REQUEST
    if path.is_file() and path.read_bytes() == text:
        return
    for old in staging.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name != LOCK:
            old.unlink()
    write_new(path, text)


def _build(
    out: Path, source: str | Place, dataset: dict[str, Any], narrow: Callable[[Catalogue], Catalogue], **how: Any
) -> dict[str, Any]:
    """The new products as a data set of their own; one that was finished before is taken as it is."""
    options = dataset["options"]
    same = {name: options[name] for name in ("preprocess", "max_side", "jpeg_quality", "shard_mib")}
    if (out / DATASET).is_file() and not (out / JOURNAL).exists():
        return read_dataset(out)
    selection = Selection(types=tuple(options.get("types", ())), split=tuple(options.get("split", {}).items()))
    return build(
        source,
        out,
        **same,
        crop_to_item=options.get("crop_to_item", ()),
        drop_duplicates=options.get("drop_duplicates", ()),
        on_duplicate=options.get("on_duplicate", "error"),
        selection=selection,
        narrow=narrow,
        **how,
    )


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


def _prepare(folder: Path, staging: Path, dataset: dict[str, Any], built: dict[str, Any]) -> list[tuple[str, str]]:
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
