"""The cache of shards in object storage: bounded, shared, verified, and never wrong after a kill.

Whole data sets that are read through it are in test_cached_data_sets.py.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skill_fast.data import download
from skill_fast.data.shard_cache import NoRoom, ShardCache, Stored
from skill_fast.errors import BadData, StorageFailure
from tests.data.stored_objects import SIZE, change, content, held, no_long_waits, put, take  # noqa: F401  # a fixture

KILLS = 40 if os.environ.get("SKILL_FAST_LONG") == "1" else 4


def test_copies_are_exact_and_fetched_once(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PART_BYTES", 7000)  # 15 parts, the last one shorter, in four groups
    cache = ShardCache(tmp_path / "a" / "cache", 10 * SIZE)
    stored = put(s3, "shard", 1)
    for _ in range(2):
        descriptor = cache.open(stored)
        assert content(descriptor) == stored.sha256
        os.close(descriptor)
    assert (cache.counts.fetched, cache.counts.fetched_bytes, cache.counts.hits) == (1, SIZE, 1)
    assert held(cache) == {stored.sha256}


def test_the_least_recently_used_goes_first_and_nothing_that_is_open(s3, tmp_path):
    files = [put(s3, f"shard-{i}", i) for i in range(5)]
    cache = ShardCache(tmp_path, 3 * SIZE + 10)
    in_use = cache.open(files[0])
    take(cache, files[1], files[2], files[1])
    take(cache, files[3])
    assert held(cache) == {files[i].sha256 for i in (0, 1, 3)}
    take(cache, files[4], files[2])
    assert held(cache) == {files[i].sha256 for i in (0, 2, 4)} and content(in_use) == files[0].sha256
    os.close(in_use)
    assert cache.counts.fetched == 6
    take(cache, files[1])
    assert files[0].sha256 not in held(cache)


def test_a_cache_full_of_files_in_use_says_so_with_numbers(s3, tmp_path):
    files = [put(s3, f"shard-{i}", i) for i in range(3)]
    cache = ShardCache(tmp_path, 2 * SIZE)
    in_use = [cache.open(stored) for stored in files[:2]]
    with pytest.raises(NoRoom, match=rf"{2 * SIZE} of {2 * SIZE} bytes; 'shard-2' needs {SIZE}"):
        cache.open(files[2])
    assert held(cache) == {stored.sha256 for stored in files[:2]}
    os.close(in_use[0])
    take(cache, files[2])
    os.close(in_use[1])


def test_a_copy_of_another_size_is_fetched_again(s3, tmp_path):
    cache = ShardCache(tmp_path, 10 * SIZE)
    stored = put(s3, "shard", 1)
    take(cache, stored)
    os.truncate(tmp_path / stored.sha256, 10)
    descriptor = cache.open(stored)
    assert content(descriptor) == stored.sha256 and cache.counts.fetched == 2
    os.close(descriptor)


def test_an_object_with_other_bytes_is_named_and_not_kept(s3, tmp_path, monkeypatch):
    cache = ShardCache(tmp_path, 10 * SIZE)
    stored = put(s3, "shard-000007.tar", 1)
    good = s3.local(str(stored.place)).read_bytes()
    change(s3, stored, bytes([good[0] ^ 1]) + good[1:])
    fetched = []
    real = download._fetch
    monkeypatch.setattr(download, "_fetch", lambda *where: fetched.append(where) or real(*where))
    with pytest.raises(BadData, match=rf"shard-000007\.tar' holds other bytes(?s:.*)sha256 {stored.sha256}"):
        cache.open(stored)
    assert len(fetched) == 2 and held(cache) == set()
    change(s3, stored, good + b"more")
    take(cache, stored)  # the first bytes are what dataset.json promised
    for damage, said in ((good[:-1], f"has {SIZE - 1} bytes, dataset.json says {SIZE}"), (None, "vanished")):
        os.unlink(tmp_path / stored.sha256)
        change(s3, stored, damage)
        with pytest.raises(BadData, match=rf"shard-000007\.tar' {said}"):
            cache.open(stored)
        change(s3, stored, good)
        take(cache, stored)


def test_one_bad_transfer_is_made_good(s3, tmp_path, monkeypatch):
    stored = put(s3, "shard", 1)
    real, fetched = download._fetch, []

    def once_wrong(*where):
        fetched.append(where)
        parts = real(*where)
        return [parts[0][::-1], *parts[1:]] if len(fetched) == 1 else parts

    monkeypatch.setattr(download, "_fetch", once_wrong)
    descriptor = ShardCache(tmp_path, 10 * SIZE).open(stored)
    assert content(descriptor) == stored.sha256 and len(fetched) == 2
    os.close(descriptor)


def test_a_storage_that_refuses_is_tried_thrice(s3, tmp_path, monkeypatch):
    stored = put(s3, "shard", 1)
    refusing = type(stored.place)(str(stored.place), key="tester", secret="wrong", use_listings_cache=False)
    tries, real = [], download._fetch
    monkeypatch.setattr(download, "_fetch", lambda *where: tries.append(where) or real(*where))
    with pytest.raises(StorageFailure, match=r"shard' could not be read, 3 times: .*PermissionError") as failed:
        ShardCache(tmp_path, 10 * SIZE).open(Stored(refusing, stored.bytes, stored.sha256))
    assert len(tries) == 3 and "wrong" not in str(failed.value)


def test_a_stuck_storage_ends_in_time(s3, tmp_path, monkeypatch):
    cache, stored = ShardCache(tmp_path, 10 * SIZE), put(s3, "shard", 1)
    take(cache, stored)  # connected
    os.unlink(tmp_path / stored.sha256)
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "size_of", lambda source: SIZE)
    start = time.monotonic()
    with s3.stuck(), pytest.raises(StorageFailure, match=r"could not be read, 3 times: .*Timeout"):
        cache.open(stored)
    assert time.monotonic() - start < 5 and held(cache) == set()
    take(cache, stored)


def test_a_full_disk_is_named_with_needed_and_free_bytes(s3, tmp_path, monkeypatch):
    files = [put(s3, f"shard-{i}", i) for i in range(3)]
    cache = ShardCache(tmp_path, 10 * SIZE)
    room = 2 * SIZE

    def fallocate(descriptor, offset, size):
        if sum(path.stat().st_size for path in tmp_path.iterdir()) + size > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.truncate(descriptor, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    take(cache, *files)  # what is out of use makes room on a full disk too
    assert held(cache) == {stored.sha256 for stored in files[1:]}
    room = SIZE // 2
    free = os.statvfs(tmp_path).f_frsize
    assert free
    with pytest.raises(StorageFailure, match=rf"no space left.*'shard-0' needs {SIZE} bytes, \d+ are free"):
        cache.open(files[0])
    assert held(cache) == set()


@pytest.mark.parametrize("folder", ["/proc/skill-fast-cache", "/dev/null/cache"])
def test_a_folder_that_can_not_be_made_is_named(folder):
    with pytest.raises(StorageFailure, match=rf"the cache '{folder}' can not be written"):
        ShardCache(Path(folder), SIZE)


def test_a_read_only_cache_serves_what_it_has(s3, tmp_path, monkeypatch):
    files = [put(s3, f"shard-{i}", i) for i in range(2)]
    cache = ShardCache(tmp_path, 10 * SIZE)
    take(cache, files[0])
    real = os.open

    def read_only(path, flags, *mode, **more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *mode, **more)

    def refused(path, *times, **more):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "utime", refused)
    take(cache, files[0])
    with pytest.raises(StorageFailure, match=rf"the cache '{tmp_path}' can not be written: Read-only file system"):
        cache.open(files[1])


SLOW_FETCH = """
import sys, time
from pathlib import Path
from shards.places import place
from skill_fast.data import download
from skill_fast.data.shard_cache import ShardCache, Stored

def going_on():
    print("group", flush=True)
    time.sleep(0.05)
    return True

download.PART_BYTES = 3000
url, size, sha256, folder = sys.argv[1:]
ShardCache(Path(folder), 10**9).open(Stored(place(url), int(size), sha256), going_on=going_on)
print("done", flush=True)
"""


def test_a_killed_fetch_leaves_nothing_wrong(s3, tmp_path):
    """Killed after 0, 1, 2 ... groups of parts; whoever comes next has the right bytes, and the rest is swept up."""
    cache = ShardCache(tmp_path, 3 * SIZE)
    stored = put(s3, "shard", 1)
    for kill in range(KILLS):
        arguments = [str(stored.place), str(SIZE), stored.sha256, str(tmp_path)]
        with subprocess.Popen([sys.executable, "-c", SLOW_FETCH, *arguments], stdout=subprocess.PIPE) as fetching:
            for _ in range(1 + kill % 8):
                assert fetching.stdout.readline() == b"group\n"
            fetching.send_signal(signal.SIGKILL)
        assert held(cache) == {stored.sha256 + ".partial"}
        if kill % 2:
            descriptor = ShardCache(tmp_path, SIZE).open(stored)  # what is left over does not count
            assert content(descriptor) == stored.sha256
            os.close(descriptor)
        else:  # nobody wants that file again: it goes when room is needed
            take(cache, *(put(s3, f"other-{i}", 100 + i) for i in range(3)))
        assert not any(name.endswith(".partial") for name in held(cache))
        for name in held(cache):
            os.unlink(tmp_path / name)
