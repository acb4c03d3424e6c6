"""The shards that a reader has open: local ones as they are asked for, cached ones fetched ahead by a thread."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from skill_fast.data.download import Stopped
from skill_fast.data.shard_cache import NoRoom
from skill_fast.data.shard_files import CachedFiles, LocalFiles
from skill_fast.errors import Failure

MAX_OPEN = 256
POLL_S = 0.1
ROOM_S = 60.0
"""How long other processes are given to let go of shards that fill the cache."""


class OpenShards:
    """Descriptors by shard, the most recently used ones; for one thread."""

    def __init__(self, files: LocalFiles | CachedFiles, names: Sequence[str]) -> None:
        self._files, self._names = files, names
        self._open: OrderedDict[int, int] = OrderedDict()

    def descriptor(self, shard: int) -> int:
        """Of a shard, opened where need be; OSError or Failure where that fails."""
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            self._keep(shard, self._acquire(shard))
        return self._open[shard]

    def forget(self, shard: int) -> None:
        """Close a shard, so that the next access opens it again."""
        if shard in self._open:
            os.close(self._open.pop(shard))

    def want(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Say which shards are read from now on, and which will be next."""

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _acquire(self, shard: int) -> int:
        return self._files.open(self._names[shard])

    def _keep(self, shard: int, descriptor: int) -> None:
        self._open[shard] = descriptor
        if len(self._open) > MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])


class CachedShards(OpenShards):
    """Shards that come through a cache; a thread fetches what ``want`` named, in that order.

    What is open can not leave the cache, so shards that are no longer wanted are closed. Where the cache is full of
    shards in use, the reading thread gives up its own least recently used ones, then waits for other processes.
    A shard that the thread could not fetch is tried again, and its error raised, when it is read.
    """

    def __init__(self, files: CachedFiles, names: Sequence[str]) -> None:
        super().__init__(files, names)
        self._cached = files
        self._change = threading.Condition()
        self._queue: list[int] = []
        self._fetched: dict[int, int] = {}
        self._wanted: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        self._going_on = True
        self._thread: threading.Thread | None = None

    def want(self, now: Sequence[int], soon: Sequence[int]) -> None:
        if (tuple(now), tuple(soon)) == self._wanted:
            return
        self._wanted = tuple(now), tuple(soon)
        keep = {*now, *soon}
        for shard in [shard for shard in self._open if shard not in keep]:
            self.forget(shard)
        with self._change:
            for shard in [shard for shard in self._fetched if shard not in keep]:
                os.close(self._fetched.pop(shard))
            here = {*self._open, *self._fetched}
            self._queue = [shard for shard in dict.fromkeys([*now, *soon]) if shard not in here]
            self._change.notify()
        if self._thread is None:
            self._going_on = True
            self._thread = threading.Thread(target=self._work, name="shards ahead", daemon=True)
            self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            with self._change:
                self._going_on = False
                self._change.notify()
            self._thread.join()
            self._thread = None
        self._queue, self._wanted = [], ((), ())
        while self._fetched:
            os.close(self._fetched.popitem()[1])
        super().close()

    def _acquire(self, shard: int) -> int:
        with self._change:
            if shard in self._fetched:
                return self._fetched.pop(shard)
        start = time.perf_counter()
        try:
            while True:
                try:
                    return self._cached.open(self._names[shard])
                except NoRoom:
                    if not self._let_go():
                        if time.perf_counter() - start > ROOM_S:
                            raise
                        time.sleep(POLL_S)
        finally:
            self._cached.cache.counts.waited_s += time.perf_counter() - start

    def _let_go(self) -> bool:
        """Close one shard of this process: one for later, else the least recently used; whether there was any."""
        with self._change:
            later = [shard for shard in self._fetched if shard not in self._wanted[0]] or list(self._fetched)
            if later and (later[-1] not in self._wanted[0] or not self._open):
                os.close(self._fetched.pop(later[-1]))
                return True
        if self._open:
            self.forget(next(iter(self._open)))
            return True
        return False

    def _work(self) -> None:
        while (shard := self._next()) is not None:
            try:
                descriptor = self._cached.fetch(self._names[shard], lambda: self._going_on)
            except NoRoom:
                self._again(shard, first=True)
            except (Failure, Stopped):
                continue
            else:
                if descriptor is None:
                    self._again(shard, first=False)
                else:
                    self._hand_over(shard, descriptor)

    def _next(self) -> int | None:
        with self._change:
            self._change.wait_for(lambda: self._queue or not self._going_on)
            return self._queue.pop(0) if self._going_on else None

    def _again(self, shard: int, *, first: bool) -> None:
        """Later: before the others where there was no room, after them where another process is fetching it."""
        with self._change:
            if shard in self._wanted[0] + self._wanted[1] and shard not in self._queue:
                self._queue.insert(0 if first else len(self._queue), shard)
            self._change.wait(POLL_S)

    def _hand_over(self, shard: int, descriptor: int) -> None:
        with self._change:
            wanted = self._going_on and shard in self._wanted[0] + self._wanted[1]
            if wanted and shard not in self._fetched and shard not in self._open:
                self._fetched[shard] = descriptor
            else:
                os.close(descriptor)


def open_shards(files: LocalFiles | CachedFiles, names: Sequence[str]) -> OpenShards:
    return CachedShards(files, names) if isinstance(files, CachedFiles) else OpenShards(files, names)
