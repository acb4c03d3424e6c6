"""Data sets in object storage, read through the cache: by one process or several, fetched ahead and let go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from skill_fast.data.cache_config import GIB, CacheConfig
from skill_fast.data.index import open_index
from skill_fast.data.reader import Reader
from skill_fast.data.shard_cache import NoRoom
from skill_fast.errors import BadData, BadUsage
from tests.data.stored_objects import held, no_long_waits  # noqa: F401  # a fixture


@pytest.fixture
def remote(s3, folder) -> str:
    """The address of the data set ``folder`` in object storage."""
    shutil.copytree(folder, s3.local(s3.url))
    return s3.url


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
