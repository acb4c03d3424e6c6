"""Catalogue -> shards: the whole way, in order.

what an interrupted build has finished is taken over, as far as catalogue and options are what they were
for each product behind that, in the order of the source:
    its photographs become JPEGs in an engine; what can not is a reject with a reason
    KEY.json and the JPEGs go to the shard, a row each to the journal
the tables are put together from the journal
dataset.json is written last: a folder without it is no data set
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.build_options import checked_options
from shards.counting import Progress
from shards.engines import Engine, Task, open_engine
from shards.errors import BadData, BadUsage, Failure
from shards.finished import already_finished, note_built
from shards.identity import Identity
from shards.in_order import in_order, product_json
from shards.index import DATASET, read_dataset, write_dataset
from shards.new_file import FULL, READ_ONLY, NoRoom
from shards.normalize import Jpeg
from shards.output import Output, open_output
from shards.own_files import OWN_NAMES, refuse_overlap
from shards.packing import Packing
from shards.parts import is_head
from shards.places import Place, place, source_name
from shards.resume import begin, finished, prepare
from shards.selection import Selection, select
from shards.sources.catalogue import choose_format, open_catalogue
from shards.sources.product import Catalogue, Product, name_of
from shards.stopping import stoppable

__all__ = ["OWN_NAMES", "Progress", "build", "default_workers", "product_json"]


def build(
    source: str | Place,
    out: str | Place,
    *,
    format: str | None = None,
    preprocess: str = "catalog",
    max_side: int = 512,
    jpeg_quality: int = 90,
    shard_mib: float = 256,
    crop_to_item: Sequence[str] = (),
    drop_duplicates: Sequence[str] = (),
    selection: Selection | None = None,
    on_duplicate: str = "error",
    workers: int | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    overwrite: bool = False,
    narrow: Callable[[Catalogue], Catalogue] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **demo_options: int,
) -> dict[str, Any]:
    """Build the shards of ``source`` in folder ``out`` and return dataset.json as a dict.

    source: a place, or "demo"; ``format`` names the adapter where its choice is not clear.
    max_side: pixels; shard_mib: MiB that a shard may have.
    crop_to_item: product types, or "all"; drop_duplicates: of "near" and "exact"; selection: see there.
    workers: processes, by default one a CPU; 0 decodes in this process, without protection. engine: "local" or "ray".
    overwrite: take an ``out`` that holds a finished data set or foreign files; only a build's own files are replaced.
    narrow: leaves out entries of the catalogue before anything is opened or counted, for ``append``.
    demo_options: designs, photo_side, seed.

    The same source and options give the same bytes, whatever engine and workers, and however often it was interrupted:
    the same call goes on behind the last finished shard, and has nothing to do where all are finished. Raises BadUsage,
    BadData (nothing to read, nothing written), StorageFailure (no room), Stopped (SIGINT, SIGTERM) or OSError; the
    folder then holds no new dataset.json.
    """
    selection = selection or Selection()
    chosen = checked_options(
        preprocess=preprocess,
        max_side=max_side,
        jpeg_quality=jpeg_quality,
        shard_mib=shard_mib,
        crop_to_item=crop_to_item,
        drop_duplicates=drop_duplicates,
        selection=selection,
        on_duplicate=on_duplicate,
    )
    if workers is not None and workers < 0:
        raise BadUsage(f"workers is {workers}", allowed="1 or more; 0 decodes in this process, without protection")
    output = open_output(place(out))
    taken = format or choose_format(source)
    if taken != "demo":
        refuse_overlap(output.folder, source)
    prepare(output, overwrite)
    catalogue = open_catalogue(source, taken, on_duplicate=on_duplicate, **demo_options)
    # The types of a data set that is appended to were typed long ago: what arrives need not have each of them.
    catalogue = select(catalogue, chosen.selection, types_are_there=narrow is None)
    catalogue = narrow(catalogue) if narrow is not None else catalogue
    identity = Identity(source_name(source), chosen.noted(taken, catalogue.options))
    done = Progress(images_total=catalogue.images)
    with ExitStack() as stack:
        stack.enter_context(_explained(output, done))
        stack.enter_context(_system_memory_pool())
        try:
            output.take()
        except OSError as error:
            # Nobody can write there; but where all is finished there is nothing to write.
            if overwrite or error.errno not in READ_ONLY or not already_finished(output, identity, catalogue):
                raise
            return read_dataset(output.folder)
        stack.callback(output.release)
        stack.enter_context(_without_trace_of_nothing(output))
        if not overwrite and already_finished(output, identity, catalogue):
            output.remove_journal()
            return read_dataset(output.folder)
        working = open_engine(engine, chosen.how, workers=workers, ray_address=ray_address)
        stack.callback(working.close)
        if finished(output):
            _check_one_is_good(str(source), catalogue, working)
        parts, covered, entries = begin(output, identity, catalogue, done, progress)
        packing = Packing(
            output, round(shard_mib * 2**20), chosen.drop_duplicates, done, parts, covered, selection.cap_per_type
        )
        stack.callback(packing.abandon)
        for arrived in in_order(entries, working, chosen.selection.crops, packing.is_full):
            packing.put(arrived)
            if progress is not None:
                progress(done)
        _check_something_written(str(source), done)
        packing.close()
        tables = packing.write_tables()
        done.notes = dict(catalogue.notes)
        note_built(output, identity, covered, packing.finished)
        dataset = write_dataset(
            output.folder, options=identity.options, counts=done.counts(), shards=packing.finished, tables=tables
        )
        if progress is not None:
            progress(done)
        output.remove_journal()
        return dataset


def _check_one_is_good(source: str, catalogue: Catalogue, engine: Engine) -> None:
    """Raise BadData before a finished data set is replaced by a catalogue that has nothing to put in its place."""
    seen, reasons = 0, dict[str, str]()
    for entry in catalogue.entries:
        for photograph in entry.photographs if isinstance(entry, Product) else ():
            (outcome,) = engine.submit([Task(photograph)]).result()
            if isinstance(outcome, Jpeg):
                return
            seen += 1
            reasons.setdefault(outcome[0], f"{outcome[0]} (first: {name_of(photograph)})")
    raise BadData(
        f"none of the {seen} photographs of '{source}' could be used: {'; '.join(reasons.values())}",
        allowed="at least one photograph that can be decoded",
        change="check the paths; the data set that was to be replaced is as it was",
    )


def default_workers() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _explained(output: Output, done: Progress) -> Iterator[None]:
    """Says of whatever stops a build from outside how it can go on."""

    def stand() -> tuple[str, str]:
        return (
            f"{done.images_seen:,} of {done.images_total:,} photographs were seen",
            f"give the same command again: it goes on behind the last finished shard of '{output.folder}'",
        )

    with stoppable(stand):
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise NoRoom(Path(error.filename or output.staging), 0, error) from error
        except NoRoom as full:
            left = max(done.images_total - done.images_seen, 0) / max(done.images_seen, 1)
            more = f"about {done.bytes_written * left / 2**20:,.1f} MiB more of shards are to come; " if left else ""
            full.change = (
                f"{more}{full.remedy} and give the same command again: it goes on behind the last finished shard"
            )
            raise


@contextmanager
def _system_memory_pool() -> Iterator[None]:
    """pyarrow's own pool keeps what it once had: at the end of a build three times of what is in use."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


@contextmanager
def _without_trace_of_nothing(output: Output) -> Iterator[None]:
    """After an error before the first shard counts there is nothing to go on behind: what was begun goes, too."""
    try:
        yield
    except BaseException:
        with suppress(Failure, OSError):
            if not any(map(is_head, output.journal_sizes())):
                # A shard whose part found no room; without the journal it would pass for one of a lost data set.
                names = output.sizes()
                output.remove(name for name in names if OWN_NAMES.fullmatch(name) and DATASET not in names)
                output.remove_journal()
        raise


class NothingWritten(BadData):
    """All that was seen was rejected."""


def _check_something_written(source: str, done: Progress) -> None:
    if done.images_written:
        return
    reasons = [f"{count} {reason} ({done.examples[reason]})" for reason, count in done.rejected.most_common(4)]
    raise NothingWritten(
        f"none of the {done.images_seen} photographs of '{source}' could be used: {'; '.join(reasons)}",
        allowed="at least one photograph that can be decoded",
        change="check the paths and the files named here",
    )
