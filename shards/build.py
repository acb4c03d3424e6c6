"""Catalogue -> shards: the whole way, in order.

for each product, in the order of the source:
    its photographs become JPEGs in worker processes; what can not is a reject with a reason
    KEY.json and the JPEGs go to the shard, a row each to the tables
dataset.json is written last: a folder without it is no data set.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.engines import Engine, Outcome, Task, open_engine
from shards.errors import BadData, BadUsage
from shards.index import DATASET, TableWriter, write_dataset
from shards.keys import key_of
from shards.normalize import PREPROCESS, Jpeg, Normalization
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS, Reject
from shards.sources.catalogue import choose_format, open_catalogue
from shards.sources.drawing import Drawing
from shards.sources.folder import text_of
from shards.sources.product import Catalogue, Photograph, Product
from shards.writer import PARTIAL_SUFFIX, ShardWriter

OWN_NAMES = re.compile(
    rf"(shard-\d{{6,}}\.(tar|idx)|(images|products|rejected)\.parquet|{re.escape(DATASET)})({re.escape(PARTIAL_SUFFIX)})?"
)
"""The files that a build writes; nothing else in its folder is ever touched."""


@dataclass
class Progress:
    """What a build has done so far; handed to ``progress`` after each product."""

    images_total: int = 0
    images_seen: int = 0
    images_written: int = 0
    products: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Reason -> its first case."""
    resumed: int = 0
    """Of images_seen, those that an interrupted run had done."""
    bytes_read: int = 0
    bytes_written: int = 0
    duplicates: int = 0
    """Of images_written, those that look like others."""

    @property
    def images_rejected(self) -> int:
        return sum(self.rejected[reason] for reason in IMAGE_REASONS)


def build(
    source: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    preprocess: str = "catalog",
    max_side: int = 512,
    jpeg_quality: int = 90,
    shard_mib: float = 256,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    **demo_options: int,
) -> dict[str, Any]:
    """Build the shards of ``source`` in folder ``out`` and return dataset.json as a dict.

    source: a folder, a manifest, or "demo"; ``format`` names the adapter where its choice is not clear.
    max_side: pixels; shard_mib: MiB that a shard may have; workers: processes, by default one a CPU.
    overwrite: take an ``out`` that holds a finished data set or foreign files; only a build's own files are replaced.
    demo_options: designs, photo_side, seed.

    The same source and options give the same bytes, whatever the number of workers. Raises BadUsage, BadData (nothing
    to read, nothing written) or OSError; the folder then holds no dataset.json.
    """
    how = _normalization(preprocess, max_side, jpeg_quality)
    if not shard_mib > 0:
        raise BadUsage(f"shard_mib is {shard_mib}", allowed="more than 0")
    if workers is not None and workers < 0:
        raise BadUsage(f"workers is {workers}", allowed="1 or more; 0 decodes in this process, without protection")
    taken = format or choose_format(str(source))
    catalogue = open_catalogue(str(source), taken, **demo_options)
    folder = Path(out)
    _prepare(folder, overwrite)
    options: dict[str, Any] = {
        "source_format": taken,
        "preprocess": preprocess,
        "max_side": max_side,
        "jpeg_quality": jpeg_quality,
        "shard_mib": shard_mib,
    }
    if catalogue.options:
        options[taken] = catalogue.options
    done = Progress(images_total=catalogue.images)
    with ExitStack() as stack:
        engine = open_engine("local", how, workers=workers)
        stack.callback(engine.close)
        files = _Files(folder, round(shard_mib * 2**20))
        stack.callback(files.abandon)
        for entry, outcomes in _in_order(catalogue, engine):
            _write(entry, outcomes, files, done)
            if progress is not None:
                progress(done)
        _check_something_written(str(source), done)
        files.close()
    return write_dataset(folder, options=options, counts=_counts(done), shards=files.shards.finished)


def default_workers() -> int:
    return len(os.sched_getaffinity(0))


def _normalization(preprocess: str, max_side: int, jpeg_quality: int) -> Normalization:
    if preprocess not in PREPROCESS:
        raise BadUsage(f"unknown preprocess {preprocess!r}", allowed=", ".join(PREPROCESS))
    if not 16 <= max_side <= 8192:
        raise BadUsage(f"max_side is {max_side}", allowed="16 to 8192 pixels")
    if not 1 <= jpeg_quality <= 100:
        raise BadUsage(f"jpeg_quality is {jpeg_quality}", allowed="1 to 100")
    return Normalization(preprocess, max_side, jpeg_quality)


def _prepare(folder: Path, overwrite: bool) -> None:
    """Make ``folder`` ready: leftovers of an unfinished build go, anything else needs ``overwrite``."""
    if folder.exists() and not folder.is_dir():
        raise BadUsage(f"'{folder}' is not a folder", allowed="a folder that is empty or does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(os.listdir(folder))
    foreign = [name for name in names if not OWN_NAMES.fullmatch(name)]
    if (foreign or DATASET in names) and not overwrite:
        held = "a finished data set" if DATASET in names else f"other things: {', '.join(foreign[:5])}"
        raise BadUsage(
            f"folder '{folder}' holds {held}",
            allowed="a folder that is empty, does not exist yet or was left by an unfinished build",
            change="take another folder, or pass --overwrite: it replaces the shards and leaves other files alone",
        )
    # dataset.json first: at no instant does it describe files that are gone.
    for name in sorted((name for name in names if OWN_NAMES.fullmatch(name)), key=lambda name: name != DATASET):
        (folder / name).unlink()


class _Files:
    """The shards and the three tables of a data set that is being written."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.shards = ShardWriter(folder, shard_bytes)
        self.images = TableWriter(folder, "images.parquet")
        self.products = TableWriter(folder, "products.parquet")
        self.rejected = TableWriter(folder, "rejected.parquet")
        self._parts = (self.shards, self.images, self.products, self.rejected)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def abandon(self) -> None:
        """Drop what is unfinished; does nothing after ``close``."""
        for part in self._parts:
            part.abandon()


def _in_order(
    catalogue: Catalogue, engine: Engine
) -> Iterator[tuple[Product | Reject, list[tuple[Photograph, Future[list[Outcome]]]]]]:
    """Entries with the outcomes of their photographs, in the source's order, while later ones are being worked on."""
    waiting: deque[tuple[Product | Reject, list[tuple[Photograph, Future[list[Outcome]]]]]] = deque()
    ahead = 0
    for entry in catalogue.entries:
        photographs = entry.photographs if isinstance(entry, Product) else ()
        waiting.append((entry, [(photograph, engine.submit([Task(photograph)])) for photograph in photographs]))
        ahead += len(photographs)
        while waiting and ahead > engine.ahead:
            ahead -= len(waiting[0][1])
            yield waiting.popleft()
    yield from waiting


def _write(
    entry: Product | Reject, outcomes: list[tuple[Photograph, Future[list[Outcome]]]], files: _Files, done: Progress
) -> None:
    if isinstance(entry, Reject):
        done.images_seen += 1
        _reject(entry, files, done)
        return
    jpegs: list[Jpeg] = []
    for photograph, future in outcomes:
        (outcome,) = future.result()
        done.images_seen += 1
        if isinstance(outcome, Jpeg):
            jpegs.append(outcome)
        else:
            name = photograph.name if isinstance(photograph, Drawing) else text_of(photograph)
            _reject(Reject(entry.product_id, name, *outcome), files, done)
    if not jpegs:
        why = f"all {len(outcomes)} were rejected" if outcomes else "the catalogue names none"
        reason = "no_good_photographs" if outcomes else "no_photographs"
        _reject(Reject(entry.product_id, "", reason, why), files, done)
        return
    _write_product(entry, jpegs, files)
    done.images_written += len(jpegs)
    done.products += 1


def _write_product(product: Product, jpegs: list[Jpeg], files: _Files) -> None:
    key = key_of(product.product_id)
    labels = (product.product_type, product.color, product.pattern, product.variant_group, product.split)
    attributes = json.dumps(product.attributes, ensure_ascii=False, allow_nan=False)
    members = files.shards.add(key, product_json(product), jpegs)
    files.products.add(key, product.product_id, *labels, attributes, files.images.rows, len(jpegs))
    for view, (member, jpeg) in enumerate(zip(members[1:], jpegs, strict=True)):
        place = (files.shards.shard, member.offset, member.size, member.crc32)
        files.images.add(key, view, *place, jpeg.height, jpeg.width)


def product_json(product: Product) -> bytes:
    """The content of KEY.json."""
    names = ("product_id", "product_type", "color", "pattern", "variant_group", "split", "attributes")
    record = {name: getattr(product, name) for name in names}
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _reject(reject: Reject, files: _Files, done: Progress) -> None:
    done.rejected[reject.reason] += 1
    done.examples.setdefault(reject.reason, f"{reject.image_path or reject.product_id}: {reject.detail}")
    files.rejected.add(reject.product_id, reject.image_path, reject.reason, reject.detail)


def _check_something_written(source: str, done: Progress) -> None:
    if done.images_written:
        return
    reasons = [f"{count} {reason} ({done.examples[reason]})" for reason, count in done.rejected.most_common(4)]
    raise BadData(
        f"none of the {done.images_seen} photographs of '{source}' could be used: {'; '.join(reasons)}",
        allowed="at least one photograph that can be decoded",
        change="check the paths and the files named here",
    )


def _counts(done: Progress) -> dict[str, Any]:
    return {
        "products": done.products,
        "images_seen": done.images_seen,
        "images_written": done.images_written,
        "images_rejected": {reason: done.rejected[reason] for reason in IMAGE_REASONS if done.rejected[reason]},
        "products_rejected": {reason: done.rejected[reason] for reason in PRODUCT_REASONS if done.rejected[reason]},
    }
