"""Products into shards, their rows into the journal, and at the end the tables out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from shards.counting import Progress
from shards.in_order import Arrived, dumped
from shards.keys import key_of
from shards.lookalikes import Lookalikes
from shards.normalize import Jpeg
from shards.output import Output
from shards.parts import Covered, Part, PartWriter, frames, rows_name
from shards.places import Place
from shards.rejects import Reject
from shards.sources.product import Product
from shards.table_files import TABLES, TableWriter
from shards.writer import Member, Shard, ShardWriter, index_name, shard_name


class Packing:
    """Takes entries with their outcomes, in order; a shard that is finished is published with its part.

    parts: what is finished already, of the entries ``covered``; both and ``done`` are counted on.
    cap_per_type: products of each type that are written; one of which nothing is left is none of them.
    """

    def __init__(
        self,
        output: Output,
        shard_bytes: int,
        drop: Collection[str],
        done: Progress,
        parts: Sequence[Part],
        covered: Covered,
        cap_per_type: int | None = None,
    ) -> None:
        self.finished = [part.shard for part in parts]
        self._output, self._done, self._covered = output, done, covered
        self._cap = cap_per_type
        self._rows = [output.journal / rows_name(part.number) for part in parts]
        self._bytes_before = done.bytes_written
        self._shards = ShardWriter(
            output.staging, shard_bytes, first=len(parts), on_finished=lambda shard: self._publish(shard, last=False)
        )
        self._part = PartWriter(output.staging_journal, len(parts), covered)
        self._lookalikes = Lookalikes(output.staging_journal, drop, self._read)
        self._lookalikes.refill(parts, self._rows)

    def put(self, arrived: Arrived) -> None:
        """Write what is left of an entry, and count it."""
        if isinstance(arrived.entry, Reject):
            self._reject(arrived.entry)
        else:
            self._product(arrived.entry, arrived)
        self._part.cover(arrived.identity)

    def is_full(self, product_type: str) -> bool:
        """Whether as many products of a type are written as there may be."""
        return self._cap is not None and self._done.by_type[product_type] >= self._cap

    def close(self) -> None:
        """Finish the last shard; then everything is where it belongs but the tables."""
        self._shards.on_finished = lambda shard: self._publish(shard, last=True)
        self._shards.close()
        self._output.wait()

    def write_tables(self) -> dict[str, dict[str, Any]]:
        """Put the tables together from the journal; their lines for dataset.json."""
        if self._part.entries:
            # Rejects behind the last shard of an earlier build whose catalogue has become shorter.
            self._part.finish()
            self._rows.append(self._part.path)
        return write_tables(self._output.folder, self._rows)

    def abandon(self) -> None:
        """Drop what is unfinished; does nothing after ``close``."""
        self._shards.abandon()
        self._part.abandon()
        self._lookalikes.close()

    def _publish(self, shard: Shard, *, last: bool) -> None:
        index_bytes = (self._output.staging / index_name(shard.name)).stat().st_size
        part = self._part.close(shard, index_bytes, last=last, done=self._done.saved())
        self._output.publish(part)
        self.finished.append(shard)
        self._rows.append(self._output.journal / rows_name(part.number))
        self._part = PartWriter(self._output.staging_journal, part.number + 1, self._covered)

    def _product(self, product: Product, arrived: Arrived) -> None:
        if self.is_full(product.product_type):
            # Whether its photographs were decoded by now hangs on the workers, and must not show.
            why = f"product type '{product.product_type}'"
            self._reject(Reject(product.product_id, "", "over_cap", why))
            return
        key = key_of(product.product_id)
        kept = self._lookalikes.sort_out(product, key, arrived.outcomes)
        # This may finish a shard and its part, to which nothing of this product belongs.
        members = self._shards.add(key, arrived.meta, kept.jpegs) if kept.jpegs else []
        for reject in kept.rejects:
            self._reject(reject)
        if not members:
            why = f"all {len(arrived.outcomes)} were rejected" if arrived.outcomes else "the catalogue names none"
            reason = "no_good_photographs" if arrived.outcomes else "no_photographs"
            self._reject(Reject(product.product_id, "", reason, why))
            return
        self._add_rows(product, key, members[1:], kept.jpegs)
        for view, kind, of_key, of_view, distance in kept.duplicates:
            self._part.add("duplicates.parquet", (key, view, kind, of_key, of_view, distance))
            self._done.duplicates[kind] += 1
        repeats = {row.view for row in kept.duplicates if row.kind == "exact"}
        for view, (_, offset, size, crc32) in enumerate(members[1:]):
            if view not in repeats:
                self._lookalikes.remember(self._shards.shard, offset, size, crc32)

    def _add_rows(self, product: Product, key: str, members: Sequence[Member], jpegs: Sequence[Jpeg]) -> None:
        done, part, shard = self._done, self._part, self._shards.shard
        labels = (product.product_type, product.color, product.pattern, product.variant_group, product.split)
        attributes = dumped(product.attributes) if product.attributes else "{}"
        row = (key, product.product_id, *labels, attributes, done.images_written, len(jpegs))
        part.add("products.parquet", row)
        for view, ((_, offset, size, crc32), jpeg) in enumerate(zip(members, jpegs, strict=True)):
            part.add("images.parquet", (key, view, shard, offset, size, crc32, jpeg.height, jpeg.width))
            done.bytes_read += jpeg.source_bytes
        done.bytes_written = self._bytes_before + self._shards.bytes
        done.images_seen += len(jpegs)
        done.images_written += len(jpegs)
        done.products += 1
        if self._cap is not None:
            done.by_type[product.product_type] += 1

    def _reject(self, reject: Reject) -> None:
        self._done.reject(reject)
        self._part.add("rejected.parquet", (reject.product_id, reject.image_path, reject.reason, reject.detail))

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        if shard == self._shards.open_shard:
            return self._shards.read_at(offset, size)
        return self._output.read_at(shard_name(shard), offset, size)


def write_tables(folder: Place, rows: Iterable[Place]) -> dict[str, dict[str, Any]]:
    """All tables from the rows of parts, in one pass and in memory that does not grow; their lines for dataset.json."""
    with ExitStack() as stack:
        writers = {name: TableWriter(folder, name) for name in TABLES}
        for writer in writers.values():
            stack.callback(writer.abandon)
        for path in rows:
            for table, batch in frames(path):
                writers[table].add_batch(batch)
        for writer in writers.values():
            writer.close()
        return {name: writer.line for name, writer in writers.items()}
