"""Files that are on the disk when a call returns, and failures of the disk told as what they are."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skill_fast.errors import StorageFailure

READ_BYTES = 1 << 22
# torch.save tells a full disk as a RuntimeError, worded by where in the file it happened: "[enforce fail at
# inline_container.cc] unexpected pos 1920 vs 1814", "PytorchStreamWriter failed", "basic_ios::clear: iostream error".
TORCH_SAVE_FAILED = ("inline_container", "PytorchStreamWriter", "iostream error")


def hash_file(path: Path, fsync: bool = False) -> dict[str, Any]:
    """{"bytes", "sha256"} of a file, made durable first when ``fsync``."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        if fsync:
            os.fsync(file.fileno())
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_durably(path: Path, text: str) -> None:
    """Write a small file and wait until it is on the disk."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make names created in or renamed into a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def storage_failures(folder: Path) -> Iterator[None]:
    """Turn what the system and torch raise for a failed write below ``folder`` into a StorageFailure with the path."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in TORCH_SAVE_FAILED):
            raise
        free = shutil.disk_usage(folder).free if folder.exists() else 0
        raise StorageFailure(
            f"a checkpoint could not be written at '{getattr(error, 'filename', None) or folder}': {error} "
            f"({free} bytes free)",
            allowed="room and permission to write; older checkpoints are untouched",
            change="free space, raise the quota, or --out on another disk",
        ) from error


def no_room(folder: Path, needed: int, free: int) -> StorageFailure:
    """The failure told before anything is written."""
    return StorageFailure(
        f"no room for a checkpoint in '{folder}': {needed} bytes needed, {free} bytes free",
        allowed="room for one more checkpoint beside the kept ones, which are untouched",
        change="free space, or --out on another disk",
    )
