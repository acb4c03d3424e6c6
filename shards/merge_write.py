"""What a merge writes: tars as they are, tars with fewer or richer products, and the duplicates that remain."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from shards.errors import BadData
from shards.jpeg import read_header
from shards.merge_repeats import Later, Move, Repeats
from shards.new_file import NewFile, write_new
from shards.normalize import Jpeg
from shards.places import Place, reaching, size_of
from shards.tar_reading import LABELS, TarStream, json_of, stored_products
from shards.writer import Member, Shard, ShardWriter, index_name, shard_name

_READ_BYTES = 1 << 20


def copy_shard(source: Place, line: dict[str, Any], out: Place, number: int) -> Shard:
    """Copy a tar and its index under another number; raises BadData where the tar is not the one of ``line``."""
    path, goal = source / line["name"], NewFile(out / shard_name(number))
    try:
        with reaching(path), path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                goal.write(data)
        if goal.sha256 != line["sha256"]:
            raise _changed(path, line["sha256"], goal.sha256)
        index = path.with_name(index_name(line["name"]))
        with reaching(index):
            write_new(out / index_name(shard_name(number)), index.read_bytes())
        goal.commit()
    except BaseException:
        goal.abandon()
        raise
    return Shard(shard_name(number), goal.bytes, goal.sha256, line["products"], line["images"])


def _changed(path: Place, expected: str, found: str) -> BadData:
    return BadData(f"'{path}' has sha256 {found}, by its dataset.json {expected}", change="copy it again, or repair it")


class Written(NamedTuple):
    """Rows of the tables for one product: the cells before ``first_image``, and a row a photograph."""

    product: list[str]
    images: list[tuple[Any, ...]]


def write_shard(
    source: Place, line: dict[str, Any], out: Place, number: int, repeats: Repeats, row: int
) -> tuple[Shard | None, list[Written]]:
    """Write the products of one tar anew, as shard ``number``: without those that are left out, with what is added.

    row: of its first product, counted through all sources. No product may be left: then there is no shard.
    """
    path, written = source / line["name"], []
    writer = ShardWriter(out, sys.maxsize, first=number)
    try:
        with reaching(path), path.open("rb") as file:
            tar = TarStream(file, size_of(path) or 0)
            for place, product in enumerate(stored_products(tar, str(path))):
                if row + place not in repeats.left_out:
                    record, images = product.record(), product.images
                    for later in repeats.gains.get(row + place, ()):
                        record, images = joined(record, later.record), [*images, *photographs(later)]
                    written.append(_add(writer, product.key, record, images))
            if (found := tar.finish()) != line["sha256"]:
                raise _changed(path, line["sha256"], found)
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    return (writer.finished[0] if writer.finished else None), written


def _add(writer: ShardWriter, key: str, record: dict[str, Any], images: Sequence[bytes]) -> Written:
    headers = [read_header(data) for data in images]
    jpegs = [Jpeg(data, head.height, head.width) for data, head in zip(images, headers, strict=True)]
    members = writer.add(key, json_of(record), jpegs)
    return Written(product_cells(key, record), image_rows(key, writer.shard, members, jpegs))


def product_cells(key: str, record: dict[str, Any]) -> list[str]:
    """A row of products.parquet up to ``attributes``."""
    attributes = json.dumps(record["attributes"], ensure_ascii=False, allow_nan=False)
    return [key, *(record[name] for name in LABELS), attributes]


def image_rows(key: str, shard: int, members: Sequence[Member], jpegs: Sequence[Jpeg]) -> list[tuple[Any, ...]]:
    """Rows of images.parquet; ``members`` begin with KEY.json."""
    return [
        (key, view, shard, member.offset, member.size, member.crc32, jpeg.height, jpeg.width)
        for view, (member, jpeg) in enumerate(zip(members[1:], jpegs, strict=True))
    ]


def joined(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The first's labels and attributes, where they are empty the later's; the split is the first's."""
    labels = {name: first[name] or later[name] for name in LABELS}
    return {**labels, "attributes": {**first["attributes"], **_lacking(first["attributes"], later["attributes"])}}


def _lacking(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in later.items() if first.get(name) in (None, "")}


def photographs(later: Later) -> Iterator[bytes]:
    for name, offset, size, crc32 in later.images:
        path = later.source / name
        with reaching(path), path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size or zlib.crc32(data) != crc32:
            raise BadData(f"'{path}' holds another photograph at byte {offset}", change="skill-shards verify --full")
        yield data


def moved_duplicates(batch: pa.RecordBatch, number: int, repeats: Repeats) -> Iterator[tuple[Any, ...]]:
    """Rows of a source's duplicates.parquet as they are after the merge; those of products that are left out go.

    Photographs that moved to an earlier product come before those that they were duplicates of: the two change places.
    """
    nowhere = object()
    for row in batch.to_pylist():
        ends = [(row["key"], row["view"]), (row["of_key"], row["of_view"])]
        moves = [repeats.moves.get((number, key), nowhere) for key, _ in ends]
        if None in moves:
            continue
        views = [
            view + move.views if isinstance(move, Move) else view for (_, view), move in zip(ends, moves, strict=True)
        ]
        here = [
            (move.row, view) if isinstance(move, Move) else (sys.maxsize, 0)
            for move, view in zip(moves, views, strict=True)
        ]
        pairs = list(zip((key for key, _ in ends), views, strict=True))
        if here[0] < here[1]:
            pairs.reverse()
        (key, view), (of_key, of_view) = pairs
        yield key, view, row["kind"], of_key, of_view, row["distance"]
