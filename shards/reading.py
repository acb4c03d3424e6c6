"""The bytes of one photograph, from a place that may hold anything: a FIFO, a device, a link to itself, nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from shards.places import Place, reaching
from shards.rejects import Rejected

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
_ABSENT = (FileNotFoundError, NotADirectoryError)


def read_photograph(place: Place, max_bytes: int) -> bytes:
    """Read a file of at most ``max_bytes``.

    Raises Rejected: missing_file, unreadable (the detail begins with the errno's name), empty_file, too_large_file; and
    StorageFailure where object storage can not be reached or refuses.
    """
    try:
        data = _read_local(place, max_bytes) if isinstance(place, Path) else _read_remote(place, max_bytes)
    except _ABSENT as error:
        raise Rejected("missing_file", _named(error)) from error
    except OSError as error:
        raise Rejected("unreadable", _named(error)) from error
    except ValueError as error:  # a NUL in the name
        raise Rejected("unreadable", f"EINVAL: {error}") from error
    if not data:
        raise Rejected("empty_file", "0 bytes")
    return data


def _read_local(path: Path, max_bytes: int) -> bytes:
    # Looked at first, as opening a device can set it going; and again when open, as it may be another file by now.
    _demand_regular(os.stat(path))
    # A FIFO that took the file's place does not block the opening.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _demand_regular(status)
        _demand_size(status.st_size, max_bytes)
        data = file.read(status.st_size + 1)
        if len(data) > status.st_size:
            raise Rejected("unreadable", f"EAGAIN: it grew beyond {status.st_size} bytes while it was read")
        return data


def _read_remote(place: Place, max_bytes: int) -> bytes:
    # Lost credentials or a lost endpoint end the build, which can go on later: they must not reject a whole catalogue.
    with reaching(place):
        _demand_size(place.stat().st_size, max_bytes)
        return place.read_bytes()


def _demand_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "of an unknown kind")
    number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
    raise OSError(number, f"{kind}, not a regular file")


def _demand_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise Rejected("too_large_file", f"{size} bytes, allowed {max_bytes}")


def _named(error: OSError) -> str:
    """The errno by its name, and what the system says of it."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"{name}: {error.strerror or error or 'no further word'}"
