"""Objects of random bytes in object storage, and what a cache holds of them; with waits that a test can afford."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np
import pytest

from shards.places import place
from skill_fast.data import download, open_shards, shard_cache
from skill_fast.data.shard_cache import ShardCache, Stored

SIZE = 100_000


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(open_shards, "POLL_S", 0.01)


def put(s3, name: str, seed: int, size: int = SIZE) -> Stored:
    """An object of random bytes."""
    data = np.random.default_rng(seed).bytes(size)
    path = s3.local(f"{s3.url}/{name}")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return Stored(place(s3.url) / name, size, hashlib.sha256(data).hexdigest())


def change(s3, stored: Stored, data: bytes | None) -> None:
    """Other bytes under the same address, at once, or none; returns when the server no longer knows the old ones.

    It keeps what it has listed for some milliseconds, and on a busy machine for longer.
    """
    path, spare = s3.local(str(stored.place)), s3.folder / "spare"
    if data is None:
        path.unlink()
    else:
        spare.write_bytes(data)
        os.replace(spare, path)
    give_up = time.monotonic() + 20
    while served(stored) != data:
        assert time.monotonic() < give_up, f"the server still has other bytes of {stored.place}"
        time.sleep(0.01)


def served(stored: Stored) -> bytes | None:
    try:
        return stored.place.fs.cat_file(stored.place.path)
    except FileNotFoundError:
        return None


def take(cache: ShardCache, *files: Stored) -> None:
    """Open and close each: used, and in use no more."""
    for stored in files:
        os.close(cache.open(stored))


def held(cache: ShardCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()} - {shard_cache.ROOM}


def content(descriptor: int) -> str:
    return hashlib.sha256(os.pread(descriptor, 2 * SIZE, 0)).hexdigest()
