"""Batches from object storage: the same as from the folder, through a cache that stays within its bound."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from skill_fast.data.cache_config import GIB, CacheConfig
from skill_fast.data.index import open_index
from skill_fast.data.loader import EvaluationLoader, Loader, LoaderConfig
from skill_fast.data.shard_cache import ShardCache
from skill_fast.data.views import ViewGroup
from skill_fast.errors import BadUsage
from tests.conftest import Trainer, metrics
from tests.data.conftest import some_products, write_catalogue

VIEWS = (ViewGroup("global", (0, 1), 16, (0.4, 1.0)),)


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> Path:
    """60 products in 12 shards."""
    return write_catalogue(tmp_path_factory.mktemp("near") / "shards", some_products(60), shards=12)


@pytest.fixture
def remote(s3, near) -> str:
    shutil.copytree(near, s3.local(s3.url))
    return s3.url


@pytest.fixture
def fullest(monkeypatch) -> list[int]:
    """Bytes of the cache's files after each change of their names or sizes."""
    seen: list[int] = []
    real = ShardCache._room

    @contextmanager
    def watched(cache: ShardCache):
        with real(cache):
            yield
            seen.append(sum(path.stat().st_size for path in cache.folder.iterdir()))

    monkeypatch.setattr(ShardCache, "_room", watched)
    return seen


def loader(index, window_shards: int = 2) -> Loader:
    config = LoaderConfig(threads=1, window_shards=window_shards)
    return Loader(index, VIEWS, global_batch=16, seed=1, config=config)


@pytest.mark.parametrize("windows", [1, 2.2])
def test_two_epochs_from_object_storage_are_those_of_the_folder(near, remote, tmp_path, fullest, windows):
    index = open_index(near)
    tables = sum((near / f"{name}.parquet").stat().st_size for name in ("images", "products"))
    bound = int(windows * 2 * index.shard_bytes.max()) + (tables if windows > 1 else 0)
    far = open_index(remote, CacheConfig(str(tmp_path), gib=(bound + 0.5) / GIB))
    with loader(index) as here, loader(far) as there:
        for _ in range(2 * here.steps_per_epoch):
            expected, found = next(here), next(there)
            assert np.array_equal(expected.images, found.images)
            assert torch.equal(expected.crops["global"], found.crops["global"])
        assert not there.skipped
    assert max(fullest) <= bound
    counts = far.files.cache.counts
    # All of it does not fit, so each of 12 shards comes twice; so does the first window for the padding of each epoch,
    # and up to three windows for the batches that are made ahead. Where but one window fits, borders cost more.
    most = 2 * (12 + 2) + 3 * 2
    assert 2 * 12 <= counts.fetched - 2 <= (most if windows > 1 else 2 * most) and counts.waited_s > 0
    assert str(tmp_path) in far.files.summary() and f"{counts.fetched} fetched" in far.files.summary()


def test_evaluation_from_object_storage_is_that_of_the_folder(near, remote, tmp_path, fullest):
    index = open_index(near)
    bound = 4 * int(index.shard_bytes.max())
    far = open_index(remote, CacheConfig(str(tmp_path), gib=(bound + 0.5) / GIB))
    rows = index.images_of(index.select(None))
    for order in (rows, rows[::-7]):
        options = {"resize": 20, "crop": 16, "batch_size": 8, "threads": 1}
        for (here, expected), (there, found) in zip(
            EvaluationLoader(index, order, **options), EvaluationLoader(far, order, **options), strict=True
        ):
            assert np.array_equal(here, there) and torch.equal(expected, found)
    assert max(fullest) <= bound


def test_a_window_that_does_not_fit_is_refused_with_numbers(remote, tmp_path):
    far = open_index(remote, CacheConfig(str(tmp_path), gib=200_000 / GIB))
    window = int(np.sort(far.shard_bytes)[-4:].sum())
    with pytest.raises(
        BadUsage, match=rf"4 shards has up to {window} bytes, the cache may have 200000(?s:.*)--cache\.gib"
    ):
        loader(far, window_shards=4)
    loader(far, window_shards=2).close()


def test_train_reads_object_storage(remote, tmp_path):
    said = Trainer(remote).run(tmp_path / "run", "--steps", "2", "--cache.dir", str(tmp_path / "cache"))
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["exit_code"] == 0
    assert f"cache {tmp_path / 'cache'}: " in said and len(metrics(tmp_path / "run")) == 2
