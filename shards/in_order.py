"""Entries of a catalogue with what became of their photographs, in its order, while later ones are worked on."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from shards.engines import Engine, Outcome, Task
from shards.rejects import Reject
from shards.sources.drawing import Drawing
from shards.sources.product import Photograph, Product

WAITING_MOST = 4096
"""Entries that may wait for a photograph before them: there may be long runs of entries without any."""
_LABELS = ("product_id", "product_type", "color", "pattern", "variant_group", "split", "attributes")
dumped = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
"""JSON as it stands in a data set."""


@dataclass(slots=True)
class Arrived:
    """An entry and the outcome of each of its photographs."""

    entry: Product | Reject
    meta: bytes
    """KEY.json; empty for a reject."""
    identity: bytes
    """What shows whether the catalogue still has the same here."""
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: bool = False
    """Its photographs were not opened: its type had all the products that it may have."""


def product_json(product: Product) -> bytes:
    """The content of KEY.json."""
    return dumped({name: getattr(product, name) for name in _LABELS}).encode("utf-8")


def arrive(entry: Product | Reject) -> Arrived:
    """The entry before any photograph was opened.

    Its identity: all fields; of each photograph its name, and of a local file size and time of its last change.
    """
    if isinstance(entry, Reject):
        fields = (entry.product_id, entry.image_path, entry.reason, entry.detail)
        return Arrived(entry, b"", json.dumps(fields).encode())
    meta = product_json(entry)
    lines = [b"%s %d" % (meta, len(entry.photographs)), *map(_photograph_identity, entry.photographs)]
    return Arrived(entry, meta, b"\n".join(lines))


def _photograph_identity(photograph: Photograph) -> bytes:
    if isinstance(photograph, Drawing):
        return photograph.name.encode()
    if not isinstance(photograph, Path):
        return str(photograph).encode()
    try:
        found = os.stat(photograph)
    except (OSError, ValueError):
        return os.fsencode(photograph) + b"\0none"
    return b"%s\0%d %d" % (os.fsencode(photograph), found.st_size, found.st_mtime_ns)


def in_order(
    entries: Iterable[Product | Reject],
    engine: Engine,
    crops: Callable[[str], bool],
    is_full: Callable[[str], bool] = lambda product_type: False,
) -> Iterator[Arrived]:
    """Submit photographs in chunks, at most ``engine.ahead`` at a time, and yield each entry when it is complete.

    crops: whether photographs of a product type are cut to the item. is_full: whether no more products of a type are
    wanted, once it is True for ever; those behind come ``skipped``, but for some that were under way by then.
    """
    work = _Work(engine)
    waiting: deque[Arrived] = deque()
    for entry in entries:
        arrived = arrive(entry)
        waiting.append(arrived)
        arrived.skipped = isinstance(entry, Product) and is_full(entry.product_type)
        if isinstance(entry, Product) and not arrived.skipped:
            crop = crops(entry.product_type)
            for photograph in entry.photographs:
                work.add(Task(photograph, crop), arrived)
        while waiting and _is_complete(waiting[0]):
            yield waiting.popleft()
        if len(waiting) > WAITING_MOST:
            work.go_on()
    while waiting:
        if _is_complete(waiting[0]):
            yield waiting.popleft()
        else:
            work.go_on()


def _is_complete(arrived: Arrived) -> bool:
    entry = arrived.entry
    return isinstance(entry, Reject) or arrived.skipped or len(arrived.outcomes) == len(entry.photographs)


class _Work:
    """Tasks on their way through the engine, each with the entry that its outcome belongs to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: list[Task] = []
        self._owners: list[Arrived] = []
        self._chunks: deque[tuple[Future[list[Outcome]], list[Arrived]]] = deque()
        self._under_way = 0

    def add(self, task: Task, owner: Arrived) -> None:
        self._tasks.append(task)
        self._owners.append(owner)
        if len(self._tasks) >= self._engine.chunk:
            self._submit()

    def go_on(self) -> None:
        """Wait for the oldest chunk and hand its outcomes to their entries; where there is none submit what waits."""
        if not self._chunks:
            self._submit()
        else:
            self._take()

    def _take(self) -> None:
        future, owners = self._chunks.popleft()
        for owner, outcome in zip(owners, future.result(), strict=True):
            owner.outcomes.append(outcome)
        self._under_way -= len(owners)

    def _submit(self) -> None:
        while self._chunks and self._under_way + len(self._tasks) > self._engine.ahead:
            self._take()
        self._chunks.append((self._engine.submit(self._tasks), self._owners))
        self._under_way += len(self._tasks)
        self._tasks, self._owners = [], []
        while self._chunks and self._chunks[0][0].done():
            self._take()
