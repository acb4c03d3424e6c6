"""What a large catalogue costs to open: bytes a photograph and seconds, on tables without tars behind them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skill_fast.data.index import open_index
from skill_fast.data.sampler import Sampler

PRODUCTS, VIEWS, SHARDS = 200_000, 4, 40
IMAGE, BLOCK = 20_000, 20_480
OPENED = """
import re, sys, time
from skill_fast.data.index import open_index
from skill_fast.data.sampler import Sampler
def peak_kib():  # of this program alone: ru_maxrss begins with the peak of whoever started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, start = peak_kib(), time.process_time()
index = open_index(sys.argv[1])
sampler = Sampler(index, index.select("train"), 4096, 0)
sampler.images_at(0, sampler.rank_positions(0))
after = peak_kib()
print((after - before) / 1024, time.process_time() - start)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """200,000 products of 4 photographs in 40 shards, which are holes on disk."""
    folder = tmp_path_factory.mktemp("large")
    number = np.arange(PRODUCTS)
    keys = pa.array([f"P{i:07d}" for i in number])
    rows = np.arange(PRODUCTS * VIEWS)
    in_shard = rows % (PRODUCTS * VIEWS // SHARDS)
    images = {
        "key": keys.take(pa.array(rows // VIEWS)),
        "view": pa.array((rows % VIEWS).astype(np.int32)),
        "shard": pa.array((rows // (PRODUCTS * VIEWS // SHARDS)).astype(np.int32)),
        "offset": pa.array(in_shard * BLOCK + 512),
        "size": pa.array(np.full(len(rows), IMAGE)),
        "crc32": pa.array(np.random.default_rng(0).integers(0, 2**32, len(rows), dtype=np.uint32)),
        "height": pa.array(np.full(len(rows), 512, dtype=np.int32)),
        "width": pa.array(np.full(len(rows), 384, dtype=np.int32)),
    }
    texts = {"key": keys, "product_id": keys, "variant_group": keys, "attributes": pa.array(["{}"] * PRODUCTS)}
    texts |= {name: pa.array(np.array(["a", "b", "c"])[number % 3]) for name in ("product_type", "color", "pattern")}
    texts["split"] = pa.array(np.where(number % 20 == 0, "test", "train"))
    counted = {"first_image": pa.array(number * VIEWS), "images": pa.array(np.full(PRODUCTS, VIEWS, dtype=np.int32))}
    for name, columns in (("images", images), ("products", texts | counted)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=65_536, compression="zstd")
    shard_bytes = PRODUCTS * VIEWS // SHARDS * BLOCK + 10_240
    lines = [{"name": f"shard-{i:06d}.tar", "bytes": shard_bytes, "sha256": ""} for i in range(SHARDS)]
    for line in lines:
        with open(folder / line["name"], "wb") as tar:
            tar.truncate(shard_bytes)
    tables = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in folder.glob("*.parquet")
    }
    manifest = {"format": "skill-shards", "version": 1, "shards": lines, "tables": tables, "fingerprint": "f"}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def test_bytes_a_photograph(large):
    index = open_index(large)
    assert index.images == PRODUCTS * VIEWS and index.products == PRODUCTS
    # offset 4, size 2, crc32 4, height 2, width 2; a product: first_image 4, images 1, type 1
    assert index.nbytes <= 14 * index.images + 6 * index.products + 16 * SHARDS
    images = np.array([0, 123_457, index.images - 1])
    assert index.product[images].tolist() == (images // VIEWS).tolist()
    assert index.view[images].tolist() == (images % VIEWS).tolist()
    assert index.offset[images].tolist() == (images % (index.images // SHARDS) * BLOCK + 512).tolist()
    assert len(index.select("test")) == PRODUCTS // 20
    sampler = Sampler(index, index.select("train"), 4096, 0)
    assert sampler.photographs == PRODUCTS * VIEWS * 19 // 20


def test_opening_in_a_fresh_process_is_cheap(large):
    """Above what the imports take: 78 MiB were measured, of which the columns are 12 and pyarrow's pools most of the
    rest, whatever the size. Columns as the tables have them and texts as Python strings took 147. Seconds are of the
    CPU, so that other work on the machine does not count; 0.4 were measured."""
    command = [sys.executable, "-c", OPENED, str(large)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # pyarrow's threads have a pool each
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    grown_mib, seconds = map(float, printed.stdout.split())
    assert grown_mib < 115 and seconds < 4
