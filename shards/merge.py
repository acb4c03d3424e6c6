"""Several data sets -> one: their tars byte for byte under new numbers, their tables one behind the other.

for each source, for each of its shards:
    no product of it is in two sources: the tar and its index are copied, held against the sha256 while they pass
    else: its products are written anew, without those that an earlier source had, or with what later ones add
dataset.json is written last: a folder without it is no data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from shards.counting import with_notes
from shards.errors import BadUsage
from shards.index import DATASET, read_dataset, write_dataset
from shards.merge_rejects import Outdone
from shards.merge_repeats import Repeats, find_repeats, written_products
from shards.merge_sources import check_apart, merged_options, opened
from shards.merge_write import copy_shard, moved_duplicates, write_shard
from shards.merged_before import merged_before, tidy
from shards.output import Output, open_output
from shards.own_files import OWN_FOLDERS, OWN_NAMES
from shards.parts import IDENTITY
from shards.places import Place
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.resume import unowned_files
from shards.table_files import LATER_TABLES, TABLES, TableWriter
from shards.tables import Cursor, batches
from shards.torn_groups import check_groups
from shards.writer import Shard

ON_DUPLICATE = ("error", "first", "merge")


def merge(
    out: Place,
    sources: Sequence[Place],
    *,
    on_duplicate: str = "error",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the data sets ``sources`` as one to ``out`` and return its dataset.json.

    on_duplicate: what to do with a product id that two sources have: "error"; "first", the later product is left out
    and counts as `duplicate_product`; or "merge", its photographs follow those of the first, whose labels win where
    they are not empty. overwrite: take an ``out`` that holds a finished data set. progress: (bytes, bytes in all).

    The order is that of the sources. Photographs of two sources are not compared with each other. Memory does not grow
    but by 8 bytes a product, 16 for each that a source left out, and with the products that are in two sources.
    After an interruption the same call starts over; where ``out`` holds what it would write, nothing is to do and
    ``progress`` is told nothing. Raises BadUsage where the options of the sources differ, BadData where one is damaged,
    where a variant group would be in two splits or, with "error", where they share a product.
    """
    if on_duplicate not in ON_DUPLICATE:
        raise BadUsage(f"unknown on_duplicate {on_duplicate!r}", allowed=", ".join(ON_DUPLICATE))
    check_apart(out, sources)
    datasets = [opened(source) for source in sources]
    options = merged_options(sources, datasets)
    repeats = find_repeats(sources, datasets, on_duplicate)
    # Also where all have one --split: a product without a group was put by its own id and may gain one here, and data
    # sets from before this was asked may bring torn groups with them.
    check_groups(
        lambda: written_products(sources, repeats),
        "the data sets",
        "give their products the same groups, and build them again with one and the same --split, as in "
        "--split train=0.9,test=0.1",
    )
    outdone = Outdone(sources)
    output = open_output(out)
    images = sum(dataset["counts"]["images_written"] for dataset in datasets) - repeats.images_left_out
    products = sum(dataset["counts"]["products"] for dataset in datasets) - len(repeats.left_out)
    counts = _counts(datasets, products, images, repeats, outdone)
    if not overwrite and merged_before(output, options, counts, _tables(datasets)):
        tidy(output)
        return read_dataset(out)
    with ExitStack() as stack:
        stack.enter_context(_cleared(output, overwrite))
        merged = _Merged(out, _tables(datasets), stack)
        total, done = sum(shard["bytes"] for dataset in datasets for shard in dataset["shards"]), 0
        for number, (source, dataset) in enumerate(zip(sources, datasets, strict=True)):
            cursors = {name: Cursor(source, name) for name in ("products.parquet", "images.parquet")}
            for line in dataset["shards"]:
                merged.add(source, line, cursors, repeats)
                done += line["bytes"]
                if progress is not None:
                    progress(done, total)
            merged.add_rejected(source, repeats, outdone, number)
        merged.add_duplicates(sources, repeats)
        return merged.finish(options, counts)


@contextmanager
def _cleared(output: Output, overwrite: bool) -> Iterator[None]:
    """Hold the place, without what an interrupted merge left there; no build may go on in it."""
    found = output.sizes()
    foreign = sorted(name for name in found if not OWN_NAMES.fullmatch(name) and name not in OWN_FOLDERS)
    held = "a finished data set" if DATASET in found else ""
    held = held or ("an unfinished build" if IDENTITY in output.journal_sizes() else "")
    foreign += unowned_files(output)
    held = held or (f"other things: {', '.join(foreign[:5])}" if foreign else "")
    if held and not overwrite:
        raise BadUsage(
            f"'{output.folder}' holds {held}",
            allowed="a place that is empty, does not exist yet, or was left or written by this merge",
            change="take another one, or pass --overwrite: it replaces shards and tables and leaves other files alone",
        )
    output.take()
    try:
        # dataset.json first: at no instant does it describe files that are gone.
        output.remove(sorted((name for name in found if OWN_NAMES.fullmatch(name)), key=lambda name: name != DATASET))
        output.remove_append()
        yield
        output.remove_journal()
    finally:
        output.release()


def _tables(datasets: Sequence[dict[str, Any]]) -> list[str]:
    """What is not recorded of one source is not recorded of the whole."""
    return [name for name in TABLES if name not in LATER_TABLES or all(name in found["tables"] for found in datasets)]


def _counts(
    datasets: Sequence[dict[str, Any]], written_products: int, written_images: int, repeats: Repeats, outdone: Outdone
) -> dict[str, Any]:
    """Products that were left out count as such, and their photographs as not seen."""
    counts = [dataset["counts"] for dataset in datasets]
    images, products = Counter[str](), Counter[str]()
    for found in counts:
        images.update(found["images_rejected"])
        products.update(found["products_rejected"])
    products -= outdone.counts
    products["duplicate_product"] += repeats.products_left_out
    merged = {
        "products": written_products,
        "images_seen": sum(found["images_seen"] for found in counts) - repeats.images_left_out,
        "images_written": written_images,
        "images_rejected": {reason: images[reason] for reason in IMAGE_REASONS if images[reason]},
        "products_rejected": {reason: products[reason] for reason in PRODUCT_REASONS if products[reason]},
    }
    return with_notes(merged, counts)


class _Merged:
    """The data set that is being written."""

    def __init__(self, out: Place, tables: Sequence[str], stack: ExitStack) -> None:
        self.out = out
        self.shards: list[Shard] = []
        self._tables = {name: TableWriter(out, name) for name in tables}
        for table in self._tables.values():
            stack.callback(table.abandon)
        self._row = 0
        """Of the sources' products, counted through."""

    def add(self, source: Place, line: dict[str, Any], cursors: dict[str, Cursor], repeats: Repeats) -> None:
        """One shard of a source with its rows."""
        products = pa.Table.from_batches(cursors["products.parquet"].take(line["products"]), TABLES["products.parquet"])
        images = cursors["images.parquet"].take(line["images"])
        first, self._row = self._row, self._row + line["products"]
        if repeats.touches(first, self._row):
            for _ in images:
                pass
            self._add_anew(source, line, first, repeats)
            return
        number = len(self.shards)
        self.shards.append(copy_shard(source, line, self.out, number))
        starts = np.cumsum(products["images"].to_numpy()) - products["images"].to_numpy()
        place = products.schema.get_field_index("first_image")
        moved = pa.array(starts + self._tables["images.parquet"].rows, pa.int64())
        for batch in products.set_column(place, products.schema.field(place), moved).to_batches():
            self._tables["products.parquet"].add_batch(batch)
        for batch in images:
            self._tables["images.parquet"].add_batch(_in_shard(batch, number))

    def _add_anew(self, source: Place, line: dict[str, Any], first: int, repeats: Repeats) -> None:
        images = self._tables["images.parquet"]
        shard, written = write_shard(source, line, self.out, len(self.shards), repeats, first)
        self.shards += [shard] if shard is not None else []
        for product, rows in written:
            self._tables["products.parquet"].add(*product, images.rows, len(rows))
            for row in rows:
                images.add(*row)

    def add_rejected(self, source: Place, repeats: Repeats, outdone: Outdone, number: int) -> None:
        for batch in batches(source, "rejected.parquet"):
            self._tables["rejected.parquet"].add_batch(outdone.without(batch))
        for row in repeats.rejected(number):
            self._tables["rejected.parquet"].add(*row)

    def add_duplicates(self, sources: Sequence[Place], repeats: Repeats) -> None:
        if "duplicates.parquet" not in self._tables:
            return
        for number, source in enumerate(sources):
            for batch in batches(source, "duplicates.parquet"):
                for row in moved_duplicates(batch, number, repeats):
                    self._tables["duplicates.parquet"].add(*row)

    def finish(self, options: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
        for table in self._tables.values():
            table.close()
        lines = {name: table.line for name, table in self._tables.items()}
        return write_dataset(self.out, options=options, counts=counts, shards=self.shards, tables=lines)


def _in_shard(batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
    columns = [
        pa.array(np.full(batch.num_rows, number), pa.int32()) if name == "shard" else batch[name]
        for name in batch.schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
