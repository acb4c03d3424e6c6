"""A build that is ended at any instant: nothing torn, nothing lost, and the same command ends with the same bytes."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shards.conftest import photograph
from tests.shards.data_sets import contents
from tests.shards.interruption import ONE_EACH, stand, written

KILLS = 200 if os.environ.get("SKILL_FAST_LONG") == "1" else 20
SMALL = {"designs": 6, "photo_side": 24, "shard_mib": 0.025}


class Builder:
    """Builds in processes of their own that can be killed; see kill_worker.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.shards.kill_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def start(self, **request: Any) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"source": "demo", **request}) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """The exit code of what was started; a signal is negative."""
        return int(self._line())

    def run(self, **request: Any) -> int:
        self.start(**request)
        return self.end()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    started = Builder()
    yield started
    started.close()


def assert_sound(out: Path, whole: dict[str, bytes], counted: dict[str, tuple[int, int]]) -> None:
    """What has its name is as in the unbroken build, and what counted before is still the same file."""
    found = {name: content for name, content in contents(out).items() if not name.endswith(".partial")}
    assert found == {name: whole[name] for name in found}
    assert {name: written(out / name) for name in counted} == counted


def finish(builder: Builder, out: Path, **request: Any) -> None:
    """Give the command again; behind the last step, too, it ends well."""
    assert builder.run(out=str(out), **request) == 0


def wait_for_part(out: Path, pid: int, number: int) -> None:
    """Return when the journal has part ``number``, or the build ended."""
    part = out / ".build" / f"part-{number:06d}.json"
    with contextlib.suppress(ProcessLookupError):
        while not part.exists():
            os.kill(pid, 0)
            time.sleep(0.002)


def test_kills_at_random_instants_tear_and_lose_nothing(builder: Builder, tmp_path: Path) -> None:
    """A1: SIGKILL at an instant drawn from the whole run, or from its writing; every other next run is killed as well.

    Most of so short a run is the start of its children, hence the second kind.
    """
    began = time.monotonic()
    assert builder.run(out=str(tmp_path / "whole"), workers=2, **SMALL) == 0
    seconds, whole = time.monotonic() - began, contents(tmp_path / "whole")
    assert sum(name.endswith(".tar") for name in whole) >= 6
    rng, number, amid = random.Random(7), 0, 0
    counted: dict[str, tuple[int, int]] = {}
    for kill in range(KILLS):
        out, workers = tmp_path / f"out-{number}", 1 + kill % 2
        pid = builder.start(out=str(out), workers=workers, **SMALL)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, seconds))
        else:
            wait_for_part(out, pid, len(counted))
            time.sleep(rng.uniform(0, seconds / 4))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        assert builder.end() in (0, -signal.SIGKILL)
        out.mkdir(exist_ok=True)
        assert_sound(out, whole, counted)
        counted = stand(out)
        amid += bool(counted)
        if kill % 2 or (out / "dataset.json").exists():
            # How many workers there are must not matter to going on either.
            finish(builder, out, workers=0, **SMALL)
            assert_sound(out, whole, counted)
            assert contents(out) == whole and not (out / ".build").exists()
            number, counted = number + 1, {}
    assert amid >= KILLS // 5, "too few of the kills came between the first shard and the last step"


def test_a_kill_before_any_step_on_the_file_system_tears_and_loses_nothing(builder: Builder, tmp_path: Path) -> None:
    """Exhaustive: SIGKILL before the first rename, removal or sync, before the second, and so on to the last."""
    for number in range(2):
        photograph(tmp_path / "c" / f"p{number}" / "0.png", 16, 16, seed=number)
    request = {"source": str(tmp_path / "c"), "preprocess": "none", "shard_mib": ONE_EACH, "workers": 0}
    assert builder.run(out=str(tmp_path / "whole"), die_at=0, **request) == 0
    whole = contents(tmp_path / "whole")
    code, step = -signal.SIGKILL, 0
    while code:
        step += 1
        out = tmp_path / f"out-{step}"
        code = builder.run(out=str(out), die_at=step, **request)
        assert code in (0, -signal.SIGKILL)
        out.mkdir(exist_ok=True)
        counted = stand(out)
        assert_sound(out, whole, {})
        # The last round is the one that no kill came to: then the command stands before a finished data set.
        finish(builder, out, die_at=0, **request)
        assert_sound(out, whole, counted)
        assert contents(out) == whole and not (out / ".build").exists()
    assert step > 40


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_cleanly_and_says_how_to_go_on(tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "out"
    words = ["demo", str(out), "--designs", "60", "--photo-side", "48", "--shard-mib", "0.05", "--workers", "1"]
    command = [sys.executable, "-m", "shards.cli", "build", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out / "shard-000001.tar").exists():
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code, said
    assert f"stopped by {signal.Signals(number).name}" in said and "same command" in said and "Traceback" not in said
    assert not list(out.rglob("*.partial")) and "dataset.json" not in contents(out)
    assert stand(out)
