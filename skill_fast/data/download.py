"""One file out of object storage: in parts, several at a time, verified while it is written."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from shards.places import reaching, size_of
from skill_fast.errors import BadData, StorageFailure

if TYPE_CHECKING:
    from upath import UPath

PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 4
ATTEMPTS = 3
FIRST_WAIT_S = 0.5
TIMEOUT_S = 60.0
"""For PARTS_AT_ONCE parts; a storage that is slower than half a MiB a second counts as failing."""


class Stopped(Exception):
    """Whoever wanted the file does not want it any more."""


def download(
    source: UPath, size: int, sha256: str, descriptor: int, going_on: Callable[[], bool] = lambda: True
) -> None:
    """Write a file of ``size`` bytes to an open descriptor, from its start.

        for each group of parts: fetch them at once (three tries, with waits), hash, write
        another sha256: all of it once more, then BadData

    Raises BadData where the file is gone or holds other bytes, StorageFailure where fetching failed three times,
    Stopped where ``going_on`` says no, asked before each group.
    """
    found = ""
    for _ in range(2):
        found = _copy(source, size, descriptor, going_on)
        if found == sha256:
            return
    raise BadData(
        f"'{source}' holds other bytes than dataset.json says: sha256 {found}, twice",
        allowed=f"sha256 {sha256}",
        change="copy or build the data set again; skill-shards verify names all such files",
    )


def _copy(source: UPath, size: int, descriptor: int, going_on: Callable[[], bool]) -> str:
    """Fetch and write everything; the sha256 of what was written."""
    digest, step = hashlib.sha256(), PART_BYTES * PARTS_AT_ONCE
    for start in range(0, size, step):
        if not going_on():
            raise Stopped
        at = start
        for part in _parts(source, start, min(start + step, size), size):
            digest.update(part)
            _write(descriptor, part, at)
            at += len(part)
    return digest.hexdigest()


def _parts(source: UPath, start: int, end: int, size: int) -> list[bytes]:
    failure: StorageFailure | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        try:
            return _fetch(source, start, end)
        except FileNotFoundError as error:
            raise BadData(
                f"'{source}' vanished while it was in use",
                allowed="shards that stay where they are for the whole run",
                change="bring it back, then resume from the last checkpoint",
            ) from error
        except StorageFailure as error:
            failure = error
    raise _lost(source, size, failure) from failure


def _fetch(source: UPath, start: int, end: int) -> list[bytes]:
    starts = list(range(start, end, PART_BYTES))
    ends = [min(first + PART_BYTES, end) for first in starts]
    with reaching(source):
        paths = [source.path] * len(starts)
        parts = source.fs.cat_ranges(paths, starts, ends, on_error="raise", timeout=TIMEOUT_S)
    for first, last, part in zip(starts, ends, parts):
        if len(part) != last - first:
            raise StorageFailure(f"{len(part)} bytes came for bytes {first} to {last}")
    return parts


def _lost(source: UPath, size: int, failure: StorageFailure | None) -> BadData | StorageFailure:
    try:
        found = size_of(source)
    except StorageFailure:
        found = size
    if found != size:
        return BadData(
            f"'{source}' has {found} bytes, dataset.json says {size} bytes",
            allowed="the files exactly as skill-shards build wrote them",
            change="copy the data set again, or build it again",
        )
    return StorageFailure(
        f"'{source}' could not be read, {ATTEMPTS} times: {failure.came if failure else ''}",
        change="look at the storage (docs/object_storage.md), then resume from the last checkpoint",
    )


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
