"""The ways to feed a loader hand over the same bytes and plans, so that what differs is the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import feeding
from benchmarks.feeds import WAYS, Source
from shards.errors import BadData

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


class Failing:
    """A source that fails at its second batch."""

    def __init__(self, how: str) -> None:
        self._how = how

    def __call__(self, step: int) -> dict[str, list[np.ndarray]]:
        if step and self._how == "killed":
            time.sleep(0.5)  # the first batch has left by then
            os._exit(9)
        if step:
            raise BadData("shard 7 is gone", change="build it again") if self._how == "failure" else Odd(1, 2)
        return {"x": [np.arange(3)]}


class Odd(Exception):
    """One that pickle can not bring back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


@pytest.mark.parametrize(
    ("way", "how", "told"),
    [
        ("thread", "failure", (BadData, "shard 7 is gone")),
        ("process", "failure", (BadData, "shard 7 is gone")),
        ("process", "odd", (RuntimeError, "Odd: odd")),
        ("process", "killed", (RuntimeError, "ended with 9")),
    ],
)
def test_what_fails_where_batches_are_made_is_raised_where_they_are_taken(way, how, told):
    """The batches before it come first."""
    with WAYS[way](Failing(how), 1) as get:
        assert get()["x"][0].tolist() == [0, 1, 2]
        with pytest.raises(told[0], match=told[1]):
            get()


def test_a_folder_that_is_no_data_set_is_told_before_anything_is_measured(tmp_path, capsys):
    assert feeding.main(["--data", str(tmp_path / "nope"), "--out", str(tmp_path / "r.jsonl")]) == 3
    assert "nope" in capsys.readouterr().err and not (tmp_path / "r.jsonl").exists()
