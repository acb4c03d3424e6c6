"""A folder of bounded size that holds verified copies of files in object storage, shared by all processes of a node.

    <sha256>            a complete copy, verified; its time of modification is that of its last use
    <sha256>.partial    being fetched, by whoever holds an exclusive lock on it
    .room               locked while room is made

Who reads a copy holds a shared lock on it, and only copies without one are removed. The kernel frees the locks of a
process that dies, so nothing has to be cleaned up by hand: a partial file that nobody has locked is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skill_fast.data.download import download
from skill_fast.errors import Failure, StorageFailure

if TYPE_CHECKING:
    from upath import UPath

PARTIAL, ROOM = ".partial", ".room"


@dataclass(frozen=True)
class Stored:
    """A file in object storage and what dataset.json says of it."""

    place: UPath
    bytes: int
    sha256: str


@dataclass
class Counts:
    """What a process had of its cache."""

    hits: int = 0
    """Files that were there, or that another process fetched meanwhile."""
    fetched: int = 0
    fetched_bytes: int = 0
    waited_s: float = 0.0
    """Seconds for which reading stood still."""

    def __str__(self) -> str:
        fetched = f"{self.fetched} fetched ({self.fetched_bytes / 2**20:,.1f} MiB)"
        return f"{self.hits} files of the cache used, {fetched}, waited {self.waited_s:.1f} s"


class NoRoom(StorageFailure):
    """Everything in the cache is in use."""


class ShardCache:
    """Opens copies, fetching what is not there; at most ``max_bytes`` of files, least recently used ones go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes, self.counts = folder, max_bytes, Counts()
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)

    def open(self, stored: Stored, *, wait: bool = True, going_on: Callable[[], bool] = lambda: True) -> int | None:
        """A descriptor of a complete, verified copy, which stays until the descriptor is closed.

            the copy is there           -> lock it (shared)
            nobody is fetching it       -> lock the partial file, make room, download, verify, rename
            somebody else is            -> wait for their lock and look again; without ``wait``: None

        Raises NoRoom where all that could make room is in use, StorageFailure where the cache or the storage fails,
        BadData where the storage holds other bytes, Stopped where ``going_on`` says no while it is fetched.
        """
        while True:
            if (copy := self._open_copy(stored)) is not None:
                self.counts.hits += 1
                return copy
            with self._writing():
                partial = os.open(self._path(stored, PARTIAL), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not _lock(partial, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    if not wait:
                        return None
                    _lock(partial, fcntl.LOCK_SH)
                elif _is(partial, self._path(stored, PARTIAL)):
                    self._fetch(stored, partial, going_on)
                    copy, partial = partial, -1
                    return copy
            finally:
                if partial >= 0:
                    os.close(partial)

    def _path(self, stored: Stored, suffix: str = "") -> Path:
        return self.folder / (stored.sha256 + suffix)

    def _open_copy(self, stored: Stored) -> int | None:
        path = self._path(stored)
        try:
            copy = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        _lock(copy, fcntl.LOCK_SH)
        if not _is(copy, path):  # removed between the two calls
            os.close(copy)
            return None
        if os.fstat(copy).st_size != stored.bytes:  # not by this code
            os.unlink(path)
            os.close(copy)
            return None
        _touch(path)
        return copy

    def _fetch(self, stored: Stored, partial: int, going_on: Callable[[], bool]) -> None:
        """Fill the partial file, give it its name, and turn its lock into that of a copy in use."""
        path = self._path(stored, PARTIAL)
        try:
            self._make_room(stored, partial)
            with self._writing():
                download(stored.place, stored.bytes, stored.sha256, partial, going_on)
                os.fsync(partial)
            with self._room():
                os.rename(path, self._path(stored))
                _lock(partial, fcntl.LOCK_SH)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.counts.fetched += 1
        self.counts.fetched_bytes += stored.bytes

    def _make_room(self, stored: Stored, partial: int) -> None:
        """Reserve the file's bytes on disk, so that every process counts them; removes what is out of use."""
        with self._room():
            os.truncate(partial, 0)
            files = self._files()
            used = sum(size for _, _, size in files)
            removed = _remove_unused(files)
            while used + stored.bytes > self.max_bytes or not _reserved(partial, stored.bytes):
                if (size := next(removed, None)) is None:
                    raise self._no_room(stored, used)
                used -= size

    def _files(self) -> list[tuple[int, Path, int]]:
        """(order of removal, path, bytes) of all files: partial ones first, then the least recently used."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name != ROOM and entry.is_file(follow_symlinks=False):
                    about = entry.stat()
                    order = 0 if entry.name.endswith(PARTIAL) else about.st_mtime_ns
                    found.append((order, Path(entry.path), about.st_size))
        return sorted(found)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Files change their names and their sizes on disk within this alone, so that their sum can be trusted."""
        with self._writing(), (self.folder / ROOM).open("w") as room:
            fcntl.flock(room, fcntl.LOCK_EX)
            yield

    def _no_room(self, stored: Stored, used: int) -> StorageFailure:
        free = os.statvfs(self.folder)
        if used + stored.bytes <= self.max_bytes:
            return StorageFailure(
                f"no space left on the disk of the cache '{self.folder}': '{stored.place.name}' needs {stored.bytes} "
                f"bytes, {free.f_bavail * free.f_frsize} are free",
                change="make room there, or name another folder for the cache",
            )
        return NoRoom(
            f"the cache '{self.folder}' is full of shards in use: {used} of {self.max_bytes} bytes; "
            f"'{stored.place.name}' needs {stored.bytes}",
            allowed="room for the shards that are read at the same time",
            change="a larger bound of the cache in GiB, or fewer --loader.window-shards",
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of the local disk, in words."""
        try:
            yield
        except Failure:
            raise
        except OSError as error:
            raise StorageFailure(
                f"the cache '{self.folder}' can not be written: {error.strerror or error}",
                allowed="a folder on a local disk that this user may write",
                change="name another folder for the cache, or set SKILL_FAST_CACHE",
            ) from error


def _remove_unused(files: list[tuple[int, Path, int]]) -> Iterator[int]:
    """Remove one after another those that nobody has locked, and say how large each was."""
    for _, path, size in files:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                unused = _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is(descriptor, path)
                if unused:
                    path.unlink()
            finally:
                os.close(descriptor)
            if unused:
                yield size


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind)
        return True
    except BlockingIOError:
        return False


def _is(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _reserved(descriptor: int, size: int) -> bool:
    try:
        os.posix_fallocate(descriptor, 0, size)
        return True
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def _touch(path: Path) -> None:
    with suppress(OSError):  # a cache that may only be read is still good to read
        os.utime(path)
