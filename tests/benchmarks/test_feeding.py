"""The ways to feed a loader hand over the same bytes and plans, so that what differs is the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.feeds import WAYS, Source

BATCH = 8
ROOT = Path(__file__).parents[2]


# DALI 2.4 leaves the sockets of its worker pool to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS)
def test_every_way_delivers_what_the_source_makes(way, drawn):
    """Batches 0, 1, 2 ... in order, every input of the pixel graph bit for bit."""
    wanted = Source(str(drawn), BATCH, 0.0)
    with WAYS[way](Source(str(drawn), BATCH, 0.0), BATCH) as get:
        for step in range(5):
            made, got = wanted(step), get()
            assert set(got) == set(made)
            for name, samples in made.items():
                assert len(got[name]) == BATCH == len(samples)
                assert all(np.array_equal(np.asarray(got[name][i]), samples[i]) for i in range(BATCH)), name


def test_the_command_writes_records(drawn, tmp_path):
    out = tmp_path / "records.jsonl"
    few = ["--ways", "thread", "--batch", "8", "--batches", "2", "--repeats", "1", "--pace", "400"]
    command = [sys.executable, "-m", "benchmarks.feeding", "--data", str(drawn), "--out", str(out), *few]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["what"] for r in records] == [
        "feeding/training work alone",
        "feeding/thread/rate",
        "feeding/thread/training work",
    ]
    assert all(r["value"] > 0 and r["commit"] and r["cpu"] for r in records)
