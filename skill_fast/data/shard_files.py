"""Where the files of a data set are read: in their folder, or in a cache of what lies in object storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skill_fast.data.cache_config import GIB, CacheConfig, default_folder
from skill_fast.data.shard_cache import ShardCache, Stored
from skill_fast.errors import BadUsage

if TYPE_CHECKING:
    from upath import UPath


class LocalFiles:
    """A folder on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def summary(self) -> str:
        """Nothing to tell of files that are read in place."""
        return ""

    def check_room(self, window_bytes: int, window_shards: int) -> None:
        """There is always room: nothing is copied."""

    def open(self, name: str) -> int:
        """A descriptor for reading."""
        return os.open(self.folder / name, os.O_RDONLY)

    @contextmanager
    def readable(self, name: str) -> Iterator[str]:
        """A path that leads to the file for as long as the context lasts."""
        yield str(self.folder / name)


class CachedFiles:
    """A folder in object storage; files come through a cache, verified by the sha256 that dataset.json has of them.

    listed: name -> its entry in dataset.json. Raises BadUsage where a file is larger than the cache may be.
    """

    def __init__(self, folder: UPath, listed: Mapping[str, Mapping[str, Any]], config: CacheConfig) -> None:
        self.stored = {
            name: Stored(folder / name, int(entry["bytes"]), str(entry["sha256"])) for name, entry in listed.items()
        }
        self.max_bytes = int(config.gib * GIB)
        largest = max(self.stored.values(), key=lambda stored: stored.bytes)
        if largest.bytes > self.max_bytes:
            raise BadUsage(
                f"'{largest.place}' has {largest.bytes} bytes, the cache may have {self.max_bytes}",
                allowed="room for at least the largest file; two windows of shards are good",
                change=f"a bound of the cache of more than {largest.bytes / GIB:.3g} GiB",
            )
        self.cache = ShardCache(Path(config.dir) if config.dir else default_folder(), self.max_bytes)

    def summary(self) -> str:
        """What this process had of the cache, one line."""
        return f"cache {self.cache.folder}: {self.cache.counts}"

    def open(self, name: str) -> int:
        """A descriptor for reading, once the file is there."""
        descriptor = self.cache.open(self.stored[name])
        assert descriptor is not None
        return descriptor

    def fetch(self, name: str, going_on: Callable[[], bool]) -> int | None:
        """Like ``open``, but None where another process is fetching the file; Stopped once ``going_on`` says no."""
        return self.cache.open(self.stored[name], wait=False, going_on=going_on)

    def check_room(self, window_bytes: int, window_shards: int) -> None:
        """Raise BadUsage where the shards that are read at the same time have no room together."""
        if window_bytes > self.max_bytes:
            raise BadUsage(
                f"a window of {window_shards} shards has up to {window_bytes} bytes, the cache may have "
                f"{self.max_bytes}",
                allowed="room for the shards of a window; two windows let the next be fetched while one is read",
                change=f"--cache.gib {2 * window_bytes / GIB:.3g}, or fewer --loader.window-shards",
            )

    @contextmanager
    def readable(self, name: str) -> Iterator[str]:
        """A path that leads to the file for as long as the context lasts."""
        descriptor = self.open(name)
        try:
            yield f"/dev/fd/{descriptor}"
        finally:
            os.close(descriptor)
