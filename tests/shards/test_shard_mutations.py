"""A3: thousands of damaged images through real children; SKILL_FAST_LONG=1 runs twenty times as many."""

import contextlib
import os
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from shards.build import build
from shards.engines import Task
from shards.engines.local import LocalEngine
from shards.jpeg import read_header
from shards.normalize import Normalization, normalize_bytes
from shards.rejects import IMAGE_REASONS
from tests.shards.mutations import corpus, mutated

MUTATIONS = 100_000 if os.environ.get("SKILL_FAST_LONG") == "1" else 5_000
TIMEOUT_S = 10.0
HARD = ("decoder_died", "decoder_timeout", "out_of_memory")
BATCH = 100


def test_no_damaged_image_ends_a_child_and_all_that_is_accepted_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damages = {}
    for number in range(MUTATIONS):
        file = tmp_path / "photographs" / f"p{number // BATCH:04d}" / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        damages[str(file)], content = mutated(number)
        file.write_bytes(content)
    lost: list[str] = []
    monkeypatch.setitem(LocalEngine.__init__.__kwdefaults__, "timeout_s", TIMEOUT_S)
    close = LocalEngine.close
    monkeypatch.setattr(LocalEngine, "close", lambda engine: (lost.extend(engine.lost), close(engine)))
    counts = build(tmp_path / "photographs", tmp_path / "out", workers=2)["counts"]

    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    hard = [(damages[row["image_path"]], row) for row in rejected if row["reason"] in HARD]
    slow = [Path(row["image_path"]) for _, row in hard if row["reason"] == "decoder_timeout"]
    # A photograph that was late once may have been in time for the second child.
    assert set(lost) <= {f"no answer within {TIMEOUT_S:g} s"} and len(hard) == len(slow), hard
    assert len(lost) >= 2 * len(slow)
    assert all(_cpu_s(file) < TIMEOUT_S for file in slow), hard
    assert counts["images_seen"] == MUTATIONS
    assert counts["images_written"] + sum(counts["images_rejected"].values()) == MUTATIONS
    reasons = Counter(row["reason"] for row in rejected if row["image_path"])
    assert reasons == counts["images_rejected"] and set(reasons) <= set(IMAGE_REASONS)
    # The damage is neither mostly harmless nor mostly total: both sides are tried.
    assert 0.2 < counts["images_written"] / MUTATIONS < 0.8
    assert {"not_an_image", "truncated", "undecodable"} <= set(reasons)
    _check_jpegs(tmp_path / "out", counts["images_written"])


def _cpu_s(file: Path) -> float:
    """Of a child for this photograph alone: on a machine that is busy with other things, a clock says little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with contextlib.closing(LocalEngine(Normalization(), workers=1, timeout_s=6 * TIMEOUT_S)) as engine:
        engine.submit([Task(file)]).result()
        assert not engine.lost
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_corpus_is_sound() -> None:
    """Each image of the corpus is accepted as it is: what is rejected of the mutations is so for its damage."""
    assert {name for name, data in corpus().items() if normalize_bytes(data, Normalization()).width} == set(corpus())


def _check_jpegs(dataset: Path, written: int) -> None:
    """All are of the one format, and DALI's decoder gives pixels of the size that the table says."""
    images = pq.read_table(dataset / "images.parquet").to_pylist()
    assert len(images) == written
    tars = [path.read_bytes() for path in sorted(dataset.glob("shard-*.tar"))]
    jpegs = [tars[row["shard"]][row["offset"] : row["offset"] + row["size"]] for row in images]
    assert {read_header(jpeg).fault for jpeg in jpegs} == {""}
    decode = _decoder()
    for start in range(0, written, BATCH):
        shapes = decode(jpegs[start : start + BATCH])
        assert shapes == [(row["height"], row["width"], 3) for row in images[start : start + BATCH]]


def _decoder() -> Callable[[list[bytes]], list[tuple[int, ...]]]:
    """JPEGs -> the shapes of their pixels, by DALI on the CPU; it raises where one can not be decoded."""
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=BATCH, num_threads=2, device_id=None, prefetch_queue_depth=1)
    def decode():
        return fn.decoders.image(fn.external_source(name="jpegs"))

    pipeline = decode()
    pipeline.build()

    def shapes(jpegs: list[bytes]) -> list[tuple[int, ...]]:
        (decoded,) = pipeline.run(jpegs=[np.frombuffer(jpeg, np.uint8) for jpeg in jpegs])
        return [tuple(decoded.at(place).shape) for place in range(len(jpegs))]

    return shapes
