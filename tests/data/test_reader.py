"""Bytes out of the shards: checks, counts, limits, and storage that fails."""

from __future__ import annotations

import json
import os

import pytest

from skill_fast.data import open_shards
from skill_fast.data import reader as reader_module
from skill_fast.data.index import open_index
from skill_fast.data.reader import Reader, SkipLimits
from skill_fast.errors import BadData, StorageFailure, TooMuchSkipped
from tests.data.conftest import flip_a_byte, some_products


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(reader_module, "FIRST_WAIT_S", 0.001)


def test_bytes_are_those_of_the_photograph(index):
    reader = Reader(index)
    for image in range(index.images):
        with open(index.shard_path(image), "rb") as file:
            file.seek(index.offset[image])
            assert reader.read(image).tobytes() == file.read(index.size[image])
    assert reader.photographs_read == index.images and not reader.counts
    reader.close()


def test_file_descriptors_are_kept_within_bounds(index, monkeypatch):
    monkeypatch.setattr(open_shards, "MAX_OPEN", 2)
    before = len(os.listdir("/proc/self/fd"))
    reader = Reader(index)
    for image in (0, 30, 60, 79, 0, 30):
        assert reader.read(image) is not None
        assert len(os.listdir("/proc/self/fd")) - before <= 2
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_damage_is_counted_each_time_and_listed_once(catalogue, tmp_path):
    index = open_index(catalogue(some_products(6), 2))
    flip_a_byte(index, 3)
    listing = tmp_path / "skipped.jsonl"
    reader = Reader(index, skipped_path=listing)
    assert [reader.read(i, epoch=2, position=9) is None for i in (2, 3, 3, 4)] == [False, True, True, False]
    reader.mark_bad(4, "undecodable", "the decoder refuses it")
    assert reader.read(4) is None
    assert reader.counts == {"crc32": 2, "undecodable": 1} and reader.photographs_read == 5
    lines = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [(line["reason"], line["image"]) for line in lines] == [("crc32", 3), ("undecodable", 4)]
    first = lines[0]
    assert (first["epoch"], first["position"], first["shard"]) == (2, 9, "shard-000000.tar")
    assert (first["product"], first["view"]) == (index.product[3], index.view[3])


def test_too_many_in_a_row_or_in_all_stop_the_run(catalogue):
    index = open_index(catalogue(some_products(10)))
    for image in range(12):
        flip_a_byte(index, image)
    reader = Reader(index, limits=SkipLimits(max_in_a_row=10))
    for image in range(10):
        assert reader.read(image) is None
    with pytest.raises(
        TooMuchSkipped, match="11 photographs in a row could not be used; found bad so far: crc32 11"
    ) as stop:
        reader.read(10)
    assert str(stop.value).count("crc32: photograph") == 10
    patient = Reader(index, limits=SkipLimits(max_in_a_row=10, max_share=0.1, judged_after=40))
    for _ in range(18):  # 2 of 40 is a twentieth
        assert patient.read(20) is not None and patient.read(21) is not None
    for image in range(4):
        assert patient.read(image) is None
    with pytest.raises(TooMuchSkipped, match="5 of 41 photographs could not be used"):
        patient.read(4)


def test_a_shard_that_shrinks_or_vanishes_is_named(catalogue):
    index = open_index(catalogue(some_products(6), 2))
    reader = Reader(index)
    last = index.images - 1
    assert reader.read(last) is not None and reader.read(0) is not None
    path = index.shard_path(last)
    size = path.stat().st_size
    os.truncate(path, int(index.offset[last]) + 10)
    with pytest.raises(BadData, match=rf"shard-000001\.tar' shrank.*(?s:.*){size} bytes, as dataset.json says"):
        reader.read(last)
    fresh = Reader(index)
    index.shard_path(0).unlink()
    with pytest.raises(BadData, match=r"shard-000000\.tar' vanished while it was in use"):
        fresh.read(0)


def test_storage_that_fails_is_tried_thrice(catalogue):
    index = open_index(catalogue(some_products(2)))
    path = index.shard_path(0)
    path.unlink()
    path.mkdir()  # opens, but every read of it is an I/O error
    with pytest.raises(StorageFailure, match=r"shard-000000\.tar' could not be read, 3 times: Is a directory"):
        Reader(index).read(0)
