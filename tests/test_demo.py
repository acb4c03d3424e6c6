"""The drawn catalogue in its cache, and a short run on it that unlearns colour and turns towards design."""

from __future__ import annotations

import json
import os
import threading

import pytest

from shards.verify import verify
from skill_fast.demo import DemoConfig, demo_shards
from skill_fast.engine.cpu_precision import is_native
from skill_fast.errors import StorageFailure
from tests.conftest import Trainer, metrics

LONG = os.environ.get("SKILL_FAST_LONG") == "1"
SMALL = DemoConfig(designs=8, photo_side=32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SKILL_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_drawn_once_and_taken_from_the_cache(cache, capfd):
    first = demo_shards(SMALL)
    written = (first / "dataset.json").stat().st_mtime_ns
    assert demo_shards(SMALL) == first and first.parent == cache
    assert (first / "dataset.json").stat().st_mtime_ns == written
    assert capfd.readouterr().err.count("drawing the demo catalogue") == 1
    assert demo_shards(DemoConfig(designs=8, photo_side=32, seed=1)) != first
    assert not verify(first, full=True).findings


def test_a_build_that_was_cut_short_is_built_again(cache):
    folder = demo_shards(SMALL)
    whole = (folder / "shard-000000.tar").read_bytes()
    (folder / "dataset.json").unlink()
    (folder / "shard-000000.tar").write_bytes(whole[:1000])
    assert (demo_shards(SMALL) / "shard-000000.tar").read_bytes() == whole


def test_two_that_start_together_draw_it_once(cache, capfd):
    threads = [threading.Thread(target=demo_shards, args=(SMALL,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err.count("drawing the demo catalogue") == 1


def test_a_cache_that_can_not_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKILL_FAST_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageFailure, match="could not be written"):
        demo_shards(SMALL)


@pytest.mark.slow
def test_a_short_run_turns_from_colour_towards_design(cache, tmp_path):
    """The default preset, seed 0, in 500 of its 2,600 steps (long 900), on one thread.

    In bf16 where the CPU has it, else in fp32. Seen in fp32 after 500 steps with seeds 0, 1 and 2, untrained to
    trained: colour .824 to .681, .816 to .692, .821 to .703; colour entropy .40 to .67, .37 to .62, .43 to .68; pattern
    .198 to .217, .181 to .228, .195 to .225, so pattern over colour 1.33, 1.48 and 1.35 times the untrained encoder's;
    recall@5 .025 to .058, .022 to .025, .022 to .038, too few of 364 products to ask for at this length. In bf16 with
    seed 0 .824 to .659, .40 to .72, .198 to .206 (1.30 times), .025 to .049. Bounds are about half of what was seen.

    The long run asks for every direction. Seen with seed 0 after 900 steps: before the better trim in bf16 pattern
    .184 to .225, colour .808 to .690, recall@5 .022 to .058, entropy .41 to .76; after it in fp32 .198 to .250, .824
    to .709, .025 to .036, .40 to .65. The full run's figures stand in docs/LOG.md.
    """
    out, steps = tmp_path / "run", 900 if LONG else 500
    precision = "zero2" if is_native("bf16") else "zero2_fp32"
    Trainer(demo_shards(DemoConfig())).run(out, "--steps", str(steps), toy=False, ds_config=precision)
    rows = json.loads((out / "evaluation.json").read_text())["rows"]
    trained, untrained = rows["trained"], rows["untrained"]
    pattern, color = "knn/pattern/accuracy", "knn/color/accuracy"
    assert trained[pattern] / trained[color] >= 1.15 * untrained[pattern] / untrained[color]
    assert trained[color] <= untrained[color] - 0.06
    assert trained["color/clusters/mean"] >= untrained["color/clusters/mean"] + 0.12
    if LONG:
        assert trained[pattern] >= untrained[pattern] + 0.03
        assert trained[color] <= untrained[color] - 0.08
        assert trained["color/clusters/mean"] >= untrained["color/clusters/mean"] + 0.2
        recall = "retrieval/other_color/recall@5"
        assert trained[recall] >= 1.2 * untrained[recall]
    last = metrics(out)[-1]
    assert last["teacher_entropy"] < 5.2, "ln(256) = 5.545 is collapse to a uniform teacher"
    assert last["kl"] > 0.1, "0 is collapse to one output for all"
