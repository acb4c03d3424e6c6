"""The cache of shards in object storage: bounded, shared, verified, and never wrong after a kill."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shards.places import place
from skill_fast.data import download, open_shards, shard_cache
from skill_fast.data.cache_config import GIB, CacheConfig
from skill_fast.data.index import open_index
from skill_fast.data.reader import Reader
from skill_fast.data.shard_cache import NoRoom, ShardCache, Stored
from skill_fast.errors import BadData, BadUsage, StorageFailure

KILLS = 40 if os.environ.get("SKILL_FAST_LONG") == "1" else 4
SIZE = 100_000


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(open_shards, "POLL_S", 0.01)


@pytest.fixture
def remote(s3, folder) -> str:
    """The address of the data set ``folder`` in object storage."""
    shutil.copytree(folder, s3.local(s3.url))
    return s3.url


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


READ_ALL = """
import sys
from skill_fast.data.index import open_index
from skill_fast.data.reader import Reader
from skill_fast.data.cache_config import CacheConfig
index = open_index(sys.argv[1], CacheConfig(sys.argv[2]))
print("open", flush=True)
sys.stdin.readline()
reader = Reader(index)
assert all(reader.read(image) is not None for image in range(index.images))
reader.close()
print(index.files.cache.counts.fetched, flush=True)
"""


def test_processes_that_share_a_cache_fetch_each_file_once(remote, index, tmp_path):
    start = [sys.executable, "-W", "error", "-c", READ_ALL, remote, str(tmp_path / "cache")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    ranks = [subprocess.Popen(start, text=True, **pipes) for _ in range(2)]
    for rank in ranks:
        assert rank.stdout.readline() == "open\n"
    for rank in ranks:
        rank.stdin.write("go\n")
        rank.stdin.flush()
    outputs = [rank.communicate() for rank in ranks]
    assert all(rank.returncode == 0 and not errors for rank, (_, errors) in zip(ranks, outputs)), outputs
    assert sum(int(printed) for printed, _ in outputs) == len(index.shard_names) + 2  # and two tables


def test_the_index_is_that_of_the_folder(remote, index, tmp_path):
    far = open_index(remote, CacheConfig(str(tmp_path)))
    for name in ("product", "view", "shard", "offset", "size", "crc32", "height", "width", "images_per_product"):
        assert getattr(far, name).tolist() == getattr(index, name).tolist()
    assert far.select("test").tolist() == index.select("test").tolist()
    assert far.column("color").tolist() == index.column("color").tolist()
    assert str(far.shard_path(0)) == f"{remote}/shard-000000.tar" and far.fingerprint == index.fingerprint


def test_a_data_set_that_is_not_whole_is_found_before_anything_is_fetched(remote, s3, tmp_path):
    shard = s3.local(f"{remote}/shard-000002.tar")
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    with pytest.raises(BadData, match=rf"{remote}/shard-000002\.tar' has {size - 1} bytes, dataset\.json says {size}"):
        open_index(remote, CacheConfig(str(tmp_path / "cache")))
    shard.unlink()
    with pytest.raises(BadData, match="is missing"):
        open_index(remote, CacheConfig(str(tmp_path / "cache")))
    assert not (tmp_path / "cache").exists()
    with pytest.raises(BadData, match=r"holds no dataset\.json"):
        open_index(f"{remote}/nothing", CacheConfig(str(tmp_path / "cache")))


def test_a_file_larger_than_the_cache_is_refused_with_numbers(remote, index, tmp_path):
    largest = int(index.shard_bytes.max())
    with pytest.raises(BadUsage, match=rf"shard-00000\d\.tar' has {largest} bytes, the cache may have {largest - 1}"):
        open_index(remote, CacheConfig(str(tmp_path), gib=(largest - 1) / GIB))


def test_shards_are_fetched_ahead_and_let_go(remote, index, tmp_path):
    far = open_index(remote, CacheConfig(str(tmp_path)))
    tables = held(far.files.cache)
    shards = Reader(far).shards
    shards.want([3, 1], [4])
    names = [far.files.stored[name].sha256 for name in far.shard_names]
    give_up = time.monotonic() + 20
    while held(far.files.cache) - tables != {names[i] for i in (3, 1, 4)} and time.monotonic() < give_up:
        time.sleep(0.01)
    assert held(far.files.cache) - tables == {names[i] for i in (3, 1, 4)}
    shards.descriptor(3)
    assert far.files.cache.counts.fetched == 2 + 3
    shards.want([4], [])
    far.files.cache.max_bytes = 1  # everything but what is wanted has to go
    with pytest.raises(NoRoom):
        far.files.cache.open(far.files.stored["shard-000000.tar"])
    assert held(far.files.cache) == {names[4]}
    shards.close()


def test_an_error_of_a_fetch_ahead_is_raised_when_the_shard_is_read(remote, s3, tmp_path):
    far = open_index(remote, CacheConfig(str(tmp_path)))
    s3.local(f"{remote}/shard-000001.tar").unlink()
    reader = Reader(far)
    reader.shards.want([0, 1, 2], [])
    assert reader.read(0) is not None and reader.read(int(far.first_of_shard[2])) is not None
    with pytest.raises(BadData, match=r"shard-000001\.tar' vanished"):
        reader.read(int(far.first_of_shard[1]))
    reader.close()
