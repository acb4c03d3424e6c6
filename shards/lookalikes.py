"""Which photographs of a product are written: those that decode, and of duplicates as many as the options ask for."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from shards.duplicates import ExactIndex, near_duplicates
from shards.engines import Outcome
from shards.errors import BadData, StorageFailure
from shards.keys import product_id_of
from shards.new_file import free_bytes
from shards.normalize import Jpeg
from shards.parts import Part, frames
from shards.places import Place
from shards.rejects import Reject
from shards.sources.product import Product, name_of
from shards.writer import BLOCK, NAME_BYTES

Read = Callable[[int, int, int], bytes]
"""(shard, offset, size) -> bytes of a shard that this build has written."""
_OFFSET_BITS = 40
"""Of a place within all shards: number of the shard, then the offset of the JPEG."""
_REMEMBERED = 4096


class Duplicate(NamedTuple):
    """A row of duplicates.parquet but for the product's own key."""

    view: int
    kind: str
    of_key: str
    of_view: int
    distance: int


@dataclass
class Kept:
    """What is left of a product's photographs."""

    jpegs: list[Jpeg] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)


class Lookalikes:
    """Finds photographs whose bytes an earlier product has, and those that look like an earlier one of their product.

    drop: "near", "exact" or both: these become rejects, the others are listed. ``read`` gives the bytes of earlier
    photographs, to be compared with: equal sums alone prove nothing.
    """

    def __init__(self, folder: Path, drop: Collection[str], read: Read) -> None:
        self._folder, self._drop = folder, drop
        try:
            self._index = ExactIndex(folder)
        except sqlite3.OperationalError as error:
            raise _no_room_for_index(folder, error) from error
        self._earlier = lru_cache(_REMEMBERED)(lambda place, size: _member(read, place, size))

    def close(self) -> None:
        self._index.close()

    def refill(self, parts: Sequence[Part], rows: Sequence[Place]) -> None:
        """Remember what finished parts hold."""
        for part, path in zip(parts, rows, strict=True):
            exact = set()
            for batch in (batch for table, batch in frames(path) if table == "duplicates.parquet"):
                columns = (batch[name].to_pylist() for name in ("key", "view", "kind"))
                exact |= {(key, view) for key, view, kind in zip(*columns, strict=True) if kind == "exact"}
            for batch in (batch for table, batch in frames(path) if table == "images.parquet"):
                columns = (batch[name].to_pylist() for name in ("key", "view", "offset", "size", "crc32"))
                for key, view, offset, size, crc32 in zip(*columns, strict=True):
                    if (key, view) not in exact:
                        self.remember(part.number, offset, size, crc32)

    def remember(self, shard: int, offset: int, size: int, crc32: int) -> None:
        """Take a photograph that was written as one that later ones may repeat."""
        try:
            self._index.add(crc32, size, shard << _OFFSET_BITS | offset)
        except sqlite3.OperationalError as error:
            raise _no_room_for_index(self._folder, error) from error

    def sort_out(self, product: Product, key: str, outcomes: Sequence[Outcome]) -> Kept:
        """Exact duplicates of other products first, then near ones among what is left."""
        kept = Kept()
        exact: list[tuple[str, int] | None] = []
        names: list[str] = []
        for photograph, outcome in zip(product.photographs, outcomes, strict=True):
            if not isinstance(outcome, Jpeg):
                kept.rejects.append(Reject(product.product_id, name_of(photograph), *outcome))
                continue
            of = self._find(outcome.data)
            if of is not None and "exact" in self._drop:
                why = f"same bytes as view {of[1]} of product {_quoted(of[0])}"
                kept.rejects.append(Reject(product.product_id, name_of(photograph), "exact_duplicate", why))
            else:
                kept.jpegs.append(outcome)
                exact.append(of)
                names.append("" if len(outcomes) == 1 else name_of(photograph))
        near = near_duplicates([jpeg.phash for jpeg in kept.jpegs]) if len(kept.jpegs) > 1 else []
        if near and "near" in self._drop:
            _drop_near(product, kept, names, exact, near)
            near = []
        kept.duplicates = [Duplicate(view, "exact", *of, 0) for view, of in enumerate(exact) if of is not None]
        kept.duplicates += [Duplicate(view, "near", key, of_view, distance) for view, of_view, distance in near]
        kept.duplicates.sort(key=lambda row: row.view)
        return kept

    def _find(self, data: bytes) -> tuple[str, int] | None:
        """Key and view of the earliest photograph with these bytes in another product."""
        try:
            candidates = self._index.find(zlib.crc32(data), len(data))
        except sqlite3.OperationalError as error:
            raise _no_room_for_index(self._folder, error) from error
        digest = hashlib.sha256(data).digest() if candidates else b""
        for place in candidates:
            key, view, found = self._earlier(place, len(data))
            if found == digest:
                return key, view
        return None


def _no_room_for_index(folder: Path, error: sqlite3.OperationalError) -> StorageFailure:
    return StorageFailure(
        f"'{folder}' can not hold the index of duplicates: {error}; {free_bytes(folder):,} bytes free",
        allowed="about 20 bytes a photograph beyond the first millions",
        change="make room and give the same command again",
    )


def _drop_near(
    product: Product,
    kept: Kept,
    names: list[str],
    exact: list[tuple[str, int] | None],
    near: list[tuple[int, int, int]],
) -> None:
    """Turn near duplicates into rejects; originals are never among them, so each has a view in what is left."""
    dropped = {view for view, _, _ in near}
    left = [view for view in range(len(kept.jpegs)) if view not in dropped]
    for view, of_view, distance in near:
        why = f"{distance} of 64 bits from view {left.index(of_view)} of product '{product.product_id}'"
        kept.rejects.append(Reject(product.product_id, names[view], "near_duplicate", why))
    kept.jpegs = [kept.jpegs[view] for view in left]
    exact[:] = [exact[view] for view in left]


def _member(read: Read, place: int, size: int) -> tuple[str, int, bytes]:
    """Key, view and sha256 of the photograph at a place, from its shard alone: its name stands in the header."""
    shard, offset = place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)
    found = read(shard, offset - BLOCK, BLOCK + size)
    name = found[:NAME_BYTES].rstrip(b"\0").decode("ascii", "replace")
    key, _, rest = name.partition(".")
    view = rest.removesuffix(".jpg")
    if len(found) != BLOCK + size or not view.isdecimal():
        raise BadData(
            f"shard {shard} holds no photograph at byte {offset}", change="remove the unfinished build and start anew"
        )
    return key, int(view), hashlib.sha256(found[BLOCK:]).digest()


def _quoted(key: str) -> str:
    return f"'{product_id_of(key) or key}'"
