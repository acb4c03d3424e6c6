"""Photographs -> JPEGs in child processes of this one.

A child is a fresh interpreter that speaks over its pipes: nothing of the caller, neither its threads nor its imports,
is carried over, so a training process that holds a GPU may build shards too. A chunk of tasks goes to a child in one
message:

    the child ends:     the photograph in work is the first of a new child; if that ends too, it is `decoder_died`
    no answer in time:  the same, but `decoder_timeout`
    can not be read:    nor in ten minutes: a StorageFailure, which ends the build and is laid on no photograph
    `out_of_memory`:    believed of a new child's first photograph, else it becomes one
    the others of the chunk go on in a new child

So what becomes of a photograph does not depend on those before it, and a child that someone kills costs nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial

from shards.engines import Outcome, Task
from shards.engines.child import Child, Lost
from shards.engines.worker import outcome_of
from shards.normalize import Normalization

TIMEOUT_S = 60.0
"""For one photograph to be decoded; the slowest healthy ones, JPEG 2000 of 50 megapixels, took 9 s."""
READING_S = 600.0
"""For one to be read; the client of S3, whose errors say more, gives up by itself, after 407 s without an answer."""
MEMORY_BYTES = 2 << 30
"""Data that a child may hold; the heaviest of 50 megapixels, lossless WebP with alpha, took 1.28 GiB."""
CHUNK = 16
CHUNK_PIXELS = CHUNK * 1024**2
"""Of the JPEGs that a chunk may become: large ones come in smaller chunks."""
CHUNKS_AHEAD = 3
"""For each child: one in work, one that waits for it, one that is done and waits to be written."""


class LocalEngine:
    """Up to ``workers`` children, started when there is work for them; 0 works in this process, unprotected.

    workers: None is one a CPU. timeout_s, reading_s: for one photograph to be decoded, and to be read before that;
    memory_bytes: data that a child may hold.
    """

    def __init__(
        self,
        how: Normalization,
        *,
        workers: int | None = None,
        timeout_s: float = TIMEOUT_S,
        reading_s: float = READING_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.workers = workers if workers is not None else len(os.sched_getaffinity(0))
        self.chunk = chunk_of(how)
        self.ahead = self.chunk * CHUNKS_AHEAD * self.workers
        self.lost: list[str] = []
        """How children were lost, in the order of time."""
        self._new_child = partial(Child, how, reading_s=reading_s, decoding_s=timeout_s, memory_bytes=memory_bytes)
        self._how = how
        self._threads = ThreadPoolExecutor(self.workers, "shards-child") if self.workers else None
        self._mine = threading.local()
        self._children: set[Child] = set()
        self._closed = False

    def submit(self, tasks: Sequence[Task]) -> Future[list[Outcome]]:
        if self._threads is not None:
            return self._threads.submit(self._in_child, tasks)
        done: Future[list[Outcome]] = Future()
        done.set_result([outcome_of(task, self._how) for task in tasks])
        return done

    def close(self) -> None:
        if self._threads is None:
            return
        self._closed = True
        for child in tuple(self._children):
            child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in tuple(self._children):
            child.close()

    def _in_child(self, tasks: Sequence[Task]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        suspect: tuple[int, Lost] | None = None
        groups = [list(range(len(tasks)))] if tasks else []
        while groups:
            places = groups.pop()
            child = self._child()
            alone = places[0] if child.fresh else None
            try:
                for place, outcome in zip(places, child.ask([tasks[place] for place in places])):
                    outcomes[place] = outcome
            except Lost as lost:
                culprit = self._note(lost, places)
                if suspect is not None and culprit == alone == suspect[0] and culprit not in outcomes:
                    # A kill from outside looks like a crash, but nothing looks like a hang.
                    told = suspect[1] if suspect[1].reason == "decoder_timeout" else lost
                    outcomes[culprit] = (told.reason, told.detail)
                suspect = culprit, lost
                rest = [place for place in places if place not in outcomes]
                groups += [sorted(rest, key=lambda place: place != culprit)] if rest else []
                self._drop(child)
            except BaseException:
                # The rest of its answers is still on the way, and would be taken for those of the next chunk.
                self._drop(child)
                raise
            unsure = [place for place in places if place != alone and _is_out_of_memory(outcomes.get(place))]
            groups += [[place] for place in unsure]
            for place in unsure:
                # The verdict is the next child's, also where that one is killed and yet another asked.
                del outcomes[place]
            if unsure:
                self._drop(child)
        return [outcomes[place] for place in range(len(tasks))]

    def _note(self, lost: Lost, places: Sequence[int]) -> int:
        if self._closed:
            raise CancelledError from lost
        self.lost.append(lost.detail)
        return places[lost.place]

    def _child(self) -> Child:
        """The child of this thread."""
        child: Child | None = getattr(self._mine, "child", None)
        if child is not None and not child.alive:
            self._drop(child)
            child = None
        if child is None:
            if self._closed:
                raise CancelledError
            child = self._mine.child = self._new_child()
            self._children.add(child)
        return child

    def _drop(self, child: Child) -> None:
        self._mine.child = None
        self._children.discard(child)
        child.close()


def chunk_of(how: Normalization) -> int:
    """Photographs a chunk: fewer where each may become a large JPEG."""
    return max(1, min(CHUNK, CHUNK_PIXELS // how.max_side**2))


def _is_out_of_memory(outcome: Outcome | None) -> bool:
    return isinstance(outcome, tuple) and outcome[0] == "out_of_memory"
