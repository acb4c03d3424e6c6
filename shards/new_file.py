"""A file that has its name only when it is complete, on a disk or in object storage."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from shards.errors import StorageFailure
from shards.places import Place, reaching

PARTIAL_SUFFIX = ".partial"
UPLOAD_BYTES = 16 << 20
"""Of one request of an upload; object storage allows 10,000 of them a file."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class NoRoom(StorageFailure):
    """A disk or a quota is full, or a file as large as it may be."""

    def __init__(self, path: Path, needed_bytes: int, error: OSError) -> None:
        self.path, self.needed_bytes, self.free_bytes = path, needed_bytes, free_bytes(path.parent)
        too_large = error.errno == errno.EFBIG
        self.remedy = "raise ulimit -f, the limit of a file's size," if too_large else "make room on that disk"
        super().__init__(
            f"no room for '{path}': {needed_bytes:,} bytes needed, {self.free_bytes:,} free ({error.strerror})",
            change=self.remedy.removesuffix(","),
        )


def free_bytes(folder: Path) -> int:
    """What may still be written where ``folder`` lies, or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def room_for(path: Path, needed_bytes: int) -> Iterator[None]:
    """Turns the error of a full disk into NoRoom; any other of the system's has the path, if it had none."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            # What a descriptor is refused names no file.
            error.filename = error.filename or str(path)
            raise
        raise NoRoom(path, needed_bytes, error) from error


class NewFile:
    """Is written in order, hashed on the way, and takes its name with ``commit``; until then nobody sees it.

    A local file is ``NAME.partial`` first; commit has it on disk before it is renamed. An object appears when its
    upload ends. Raises NoRoom where the disk is full.
    """

    def __init__(self, path: Place) -> None:
        self.path, self.bytes = path, 0
        self.closed = False
        self._sha256 = hashlib.sha256()
        self._partial: Path | None = None
        self._file: IO[bytes]
        if isinstance(path, Path):
            self._final, self._partial = path, path.with_name(path.name + PARTIAL_SUFFIX)
            with room_for(self._partial, 0):
                # Unbuffered: what a full disk refuses is known at once, and can be read back before commit.
                self._file = self._partial.open("w+b", buffering=0)
        else:
            with reaching(path):
                self._file = path.open("wb", block_size=UPLOAD_BYTES)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        size = len(data) if isinstance(data, bytes) else data.nbytes
        if self.closed:
            return size
        self._sha256.update(data)
        self.bytes += size
        if self._partial is None:
            with reaching(self.path):
                self._file.write(data)
            return size
        with room_for(self._partial, size):
            written = self._file.write(data)
            while written < size:
                written += self._file.write(memoryview(data).cast("B")[written:])
        return size

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        pass

    def read_at(self, offset: int, size: int) -> bytes:
        """Of what was written already, before commit."""
        return os.pread(self._file.fileno(), size, offset)

    def commit(self) -> None:
        if self._partial is None:
            with reaching(self.path):
                self._file.close()
        else:
            with room_for(self._partial, 0):
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._partial, self._final)
        self.closed = True

    def abandon(self) -> None:
        """Drop it; after ``commit`` nothing is done. Later writes are ignored."""
        if self.closed:
            return
        self.closed = True
        if self._partial is None:
            # What led here says more than what this may raise.
            with suppress(Exception):
                self._file.discard()  # type: ignore[attr-defined]  # of fsspec's files
            # Else fsspec uploads what it has when the object is collected.
            self._file.closed = True  # type: ignore[misc]
        else:
            self._file.close()
            self._partial.unlink(missing_ok=True)


def write_new(path: Place, data: bytes) -> None:
    """Write a whole file, which is complete under its name or not there."""
    file = NewFile(path)
    try:
        file.write(data)
        file.commit()
    except BaseException:
        file.abandon()
        raise


def sync(path: Path) -> None:
    """Have the file system write a file or a folder's names to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with room_for(path, 0):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
