"""One build at a time: a lock on a file that the kernel frees however the process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from shards.errors import BadUsage
from shards.places import Place

LOCK = "lock"
GRACE_S = 0.5
"""A child that a killed build was just about to start holds its lock until it is another program."""
_UNKNOWN = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""A file system that knows no locks: then nothing keeps two builds apart."""


class Lock:
    """Holds ``folder/lock``, from ``take`` to ``release``."""

    def __init__(self, folder: Path, held_for: Place) -> None:
        self._folder, self._held_for = folder, held_for
        self._descriptor = -1

    def take(self) -> None:
        """Raises BadUsage where another process holds it."""
        path = self._folder / LOCK
        give_up = time.monotonic() + GRACE_S
        while self._descriptor < 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                continue  # the folder was just removed by the build that held it
            try:
                self._lock(descriptor, give_up)
                # Who waited here may hold a file that has no name any more.
                if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                    self._descriptor, descriptor = descriptor, -1
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def check(self) -> None:
        """Raises BadUsage where another process holds it; takes and makes nothing."""
        try:
            descriptor = os.open(self._folder / LOCK, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self._lock(descriptor, time.monotonic() + GRACE_S)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self, descriptor: int, give_up: float) -> None:
        try:
            while not _locked(descriptor):
                if time.monotonic() > give_up:
                    raise self._held(os.pread(descriptor, 20, 0).decode("ascii", "replace"))
                time.sleep(0.02)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise

    def _held(self, pid: str) -> BadUsage:
        return BadUsage(
            f"another process builds '{self._held_for}': pid {pid or 'unknown'}",
            allowed="one build a folder",
            change="wait for it, or end it and give the command again",
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
