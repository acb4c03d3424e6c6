"""Storage that fails while a run reads it: rows B4 and B7 of docs/faults.md, each with its figure."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest

from skill_fast.data import open_shards
from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.reader import Reader
from skill_fast.data.views import ViewGroup
from skill_fast.errors import BadData, StorageFailure
from tests.data.conftest import some_products

VIEWS = (ViewGroup("global", (0, 1), 16, (0.4, 1.0)),)
CONFIG = LoaderConfig(threads=1, window_shards=2, max_skipped_share=1.0)


@pytest.mark.parametrize("act", ["cut", "deleted"])
def test_b4_a_shard_that_is_cut_or_deleted_under_way(catalogue, act, monkeypatch):
    """10 runs each: an error that names the shard at the first read that needs it, never a signal."""
    monkeypatch.setattr(open_shards, "MAX_OPEN", 1)  # else a deleted shard lives on as long as it is open
    folder = catalogue(some_products(24), 4)
    for run in range(10):
        index = open_index(folder)
        shard = folder / index.shard_names[run % 4]
        whole = shard.read_bytes()
        with Loader(index, VIEWS, global_batch=8, seed=run, config=replace(CONFIG, prefetch=1)) as loader:
            next(loader)
            os.truncate(shard, len(whole) // 9) if act == "cut" else shard.unlink()
            with pytest.raises(BadData, match=rf"{shard.name}' (shrank|vanished)"):
                for _ in range(3 * loader.steps_per_epoch):
                    next(loader)
        shard.write_bytes(whole)


def test_b7_storage_that_fails_three_times(index, monkeypatch):
    """EIO twice is a wait, three times an error with the path; between tries the shard is opened anew."""
    monkeypatch.setattr("skill_fast.data.reader.FIRST_WAIT_S", 0.001)
    pread, failures = os.pread, [0]

    def failing(descriptor: int, size: int, offset: int) -> bytes:
        if failures[0]:
            failures[0] -= 1
            raise OSError(5, "Input/output error")
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    reader = Reader(index)
    failures[0] = 2
    assert reader.read(0) is not None
    failures[0] = 3
    with pytest.raises(StorageFailure, match=r"shard-000000\.tar' could not be read, 3 times: Input/output error"):
        reader.read(1)


def test_b7_a_read_that_never_returns(index, monkeypatch, capfd):
    """Within the set time the run ends with code 6, and the stacks of all threads say where it hangs."""
    hangs, pread = threading.Event(), os.pread

    def stuck(descriptor: int, size: int, offset: int) -> bytes:
        hangs.wait(60)
        return pread(descriptor, size, offset)

    config = replace(CONFIG, stuck_after_s=0.5)
    with Loader(index, VIEWS, global_batch=8, config=config) as loader:
        next(loader)
        monkeypatch.setattr(os, "pread", stuck)
        start = time.monotonic()
        with pytest.raises(StorageFailure, match=r"no batch came for 0\.5 s(?s:.*)stuck-after-s") as failure:
            for _ in range(100):
                next(loader)
        assert failure.value.exit_code == 6 and time.monotonic() - start < 5
        hangs.set()
    stacks = capfd.readouterr().err
    assert "in stuck" in stacks and "Current thread" in stacks and stacks.count("Thread 0x") >= 1


@pytest.mark.parametrize(
    ("leaves_by", "code"), [("loader.close()", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGINT)", -2)]
)
def test_b7_a_read_that_hangs_while_nobody_waits_for_a_batch_does_not_keep_the_process(catalogue, leaves_by, code):
    """A hang during a save or an evaluation: closing, exiting and Ctrl-C leave the thread within the set time."""
    script = f"""
        import os, signal, sys, time, threading
        from skill_fast.data.index import open_index
        from skill_fast.data.loader import Loader, LoaderConfig
        from skill_fast.data.views import ViewGroup
        loader = Loader(open_index({str(catalogue(some_products(12), 2))!r}), [ViewGroup("g", (0,), 16, (0.4, 1.0))],
                        global_batch=8, config=LoaderConfig(threads=1, stuck_after_s=6.0))
        next(loader)
        hangs, pread = threading.Event(), os.pread
        os.pread = lambda *a: (hangs.set(), time.sleep(600), pread(*a))[-1]
        while not hangs.wait(0.01) and next(loader): pass
        {leaves_by}
        print("left")
    """
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert time.monotonic() - start < 45, "not the 600 s that the read takes"
    assert done.returncode == code, done.stderr
    assert "did not end within 6 s" in done.stderr and "in <lambda>" in done.stderr
