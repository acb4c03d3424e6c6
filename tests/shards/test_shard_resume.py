"""A build that is ended at any instant: nothing torn, nothing lost, and the same command ends with the same bytes."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import Progress, build
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.output import LocalOutput
from shards.table_files import TABLES
from tests.shards.conftest import photograph
from tests.shards.test_shard_build import contents

KILLS = 200 if os.environ.get("SKILL_FAST_LONG") == "1" else 20
SMALL = {"designs": 6, "photo_side": 24, "shard_mib": 0.025}
ONE_EACH = 0.001
"""MiB; a product alone may be larger than a shard."""


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


def stand(out: Path) -> dict[str, tuple[int, int]]:
    """Shards that a part of the journal counts, with inode and time of change: they must never be written again."""
    names = [json.loads(path.read_bytes())["shard"]["name"] for path in (out / ".build").glob("part-*.json")]
    return {name: written(out / name) for name in names}


def written(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


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


class Stop(Exception):
    pass


def interrupted(source: str | Path, out: Path, after_products: int, **options: Any) -> None:
    """A build that ends with an error once so many products are done."""

    def stop(done: Progress) -> None:
        if done.products >= after_products:
            raise Stop

    with pytest.raises(Stop):
        build(source, out, workers=0, progress=stop, **options)


@pytest.fixture
def singles(tmp_path: Path) -> Path:
    """Nine products of one photograph each; at ONE_EACH every one fills a shard."""
    for number in range(9):
        photograph(tmp_path / "c" / f"p{number}" / "0.png", 60, 60, seed=number)
    return tmp_path / "c"


def test_resumed_work_is_counted_as_such(singles: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []
    (singles / "p1" / "1.jpg").write_bytes(b"no image")
    interrupted(singles, out, 5, shard_mib=ONE_EACH)
    dataset = build(singles, out, shard_mib=ONE_EACH, workers=0, progress=lambda done: seen.append(replace(done)))
    # Products 1 to 4 with five photographs were in finished shards; the fifth was in the open one.
    assert [(done.images_seen, done.resumed) for done in seen[:3]] == [(1, 1), (3, 3), (4, 4)]
    assert [done.images_seen for done in seen] == sorted(done.images_seen for done in seen)
    last = seen[-1]
    assert (last.resumed, last.images_seen, last.images_written, last.images_total) == (5, 10, 9, 10)
    assert last.rejected == {"not_an_image": 1} and "1.jpg" in last.examples["not_an_image"]
    assert last.bytes_read == sum(path.stat().st_size for path in singles.glob("*/*.png"))
    assert last.counts() == dataset["counts"]
    whole = build(singles, tmp_path / "whole", shard_mib=ONE_EACH, workers=0)
    assert whole == dataset and contents(out) == contents(tmp_path / "whole")


def test_a_changed_photograph_is_noticed_and_what_comes_before_it_is_kept(
    singles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    interrupted(singles, out, 6, shard_mib=ONE_EACH)
    before = stand(out)
    photograph(singles / "p3" / "0.png", 60, 60, seed=77)
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    said = capsys.readouterr().err
    assert "catalogue has changed" in said and "shard-000003.tar" in said and "2 finished shards dropped" in said
    assert [name for name in sorted(before) if written(out / name) == before[name]] == [
        f"shard-{number:06d}.tar" for number in range(3)
    ]
    build(singles, tmp_path / "whole", shard_mib=ONE_EACH, workers=0)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["a product more", "a product less", "a photograph more", "all behind gone"])
def test_a_changed_catalogue_gives_what_an_unbroken_build_of_it_gives(
    singles: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    interrupted(singles, out, 6, shard_mib=ONE_EACH)
    if change == "a product more":
        photograph(singles / "p2a" / "0.png", 50, 50, seed=50)
    elif change == "a product less":
        shutil.rmtree(singles / "p1")
    elif change == "a photograph more":
        photograph(singles / "p4" / "1.png", 50, 50, seed=51)
    else:
        for number in range(5, 9):
            (singles / f"p{number}" / "0.png").write_bytes(b"")
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    build(singles, tmp_path / "whole", shard_mib=ONE_EACH, workers=0)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_catalogue_that_has_grown_behind_the_last_shard(
    singles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed between the last shard and dataset.json: the last shard was closed because the catalogue ended."""
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stop):
        patched.setattr("shards.packing.Packing.write_tables", lambda packing: _raise(Stop()))
        build(singles, out, shard_mib=0.02, workers=0)
    photograph(singles / "p9" / "0.png", 16, 16)
    build(singles, out, shard_mib=0.02, workers=0)
    assert "more of it behind shard-" in capsys.readouterr().err
    build(singles, tmp_path / "whole", shard_mib=0.02, workers=0)
    assert contents(out) == contents(tmp_path / "whole")


def _raise(error: Exception) -> None:
    raise error


def test_other_options_or_another_source_start_over_and_say_why(
    singles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    interrupted(singles, out, 6, shard_mib=ONE_EACH)
    interrupted(singles, out, 6, shard_mib=ONE_EACH, max_side=48)
    assert "max_side was 512, is 48: starting over, 5 finished shards dropped" in capsys.readouterr().err
    shutil.copytree(singles, tmp_path / "other")
    build(tmp_path / "other", out, shard_mib=ONE_EACH, workers=0, max_side=48)
    said = capsys.readouterr().err
    assert f"source was '{singles}', is '{tmp_path / 'other'}'" in said
    build(tmp_path / "other", tmp_path / "whole", shard_mib=ONE_EACH, workers=0, max_side=48)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "damage", "kept"),
    [
        ("shard-000002.tar", lambda path: path.unlink(), 2),
        ("shard-000002.tar", lambda path: os.truncate(path, 512), 2),
        ("shard-000003.idx", lambda path: path.unlink(), 3),
        (".build/part-000001.rows", lambda path: os.truncate(path, 100), 1),
        (".build/part-000001.rows", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), 1),
        (".build/part-000002.json", lambda path: path.write_bytes(b"{}"), 2),
        (".build/part-000000.json", lambda path: path.write_bytes(b"\xff"), 0),
        (".build/build.json", lambda path: path.write_bytes(b"[]"), 0),
        (".build/build.json", lambda path: path.unlink(), 0),
    ],
)
def test_damage_to_what_was_left_costs_what_is_behind_it_alone(
    singles: Path, tmp_path: Path, name: str, damage: Any, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    interrupted(singles, out, 6, shard_mib=ONE_EACH)
    before = stand(out)
    damage(out / name)
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    assert sum(written(out / shard) == before[shard] for shard in before) == kept
    assert "dropped" in capsys.readouterr().err
    build(singles, tmp_path / "whole", shard_mib=ONE_EACH, workers=0)
    assert contents(out) == contents(tmp_path / "whole")


def test_duplicates_are_found_across_an_interruption(tmp_path: Path) -> None:
    """The original was written before it, the copies behind it."""
    root = tmp_path / "c"
    for number in range(8):
        photograph(root / f"p{number}" / "0.png", 60, 60, seed=number % 3)
    for options in ({}, {"drop_duplicates": ["exact"]}):
        out, whole = tmp_path / f"out-{len(options)}", tmp_path / f"whole-{len(options)}"
        interrupted(root, out, 2, shard_mib=ONE_EACH, **options)
        assert build(root, out, shard_mib=ONE_EACH, workers=0, **options) == build(
            root, whole, shard_mib=ONE_EACH, workers=0, **options
        )
        assert contents(out) == contents(whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_copy_behind_the_break_of_a_photograph_before_it(tmp_path: Path, workers: int) -> None:
    """What the first product after going on looks up is in the last finished shard, and none is open yet."""
    for finished in (1, 2, 3):
        root, out, whole = (tmp_path / f"{name}-{finished}" for name in ("c", "out", "whole"))
        for number in range(5):
            photograph(root / f"p{number}" / "0.png", 60, 44, seed=number)
        shutil.copy(root / f"p{finished - 1}" / "0.png", root / f"p{finished}" / "0.png")
        interrupted(root, out, finished + 1, shard_mib=ONE_EACH)
        assert len(stand(out)) == finished
        build(root, out, shard_mib=ONE_EACH, workers=workers)
        build(root, whole, shard_mib=ONE_EACH, workers=0)
        assert contents(out) == contents(whole)
        (row,) = pq.read_table(out / "duplicates.parquet").to_pylist()
        assert (row["key"], row["kind"], row["of_key"]) == (f"p{finished}", "exact", f"p{finished - 1}")


def test_two_builds_do_not_meet_in_one_folder(singles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused = []

    def again(done: Progress) -> None:
        if not refused:
            with pytest.raises(BadUsage, match=f"pid {os.getpid()}") as caught:
                build(singles, out, shard_mib=ONE_EACH, workers=0)
            refused.append(caught)

    build(singles, out, shard_mib=ONE_EACH, workers=0, progress=again)
    build(singles, tmp_path / "whole", shard_mib=ONE_EACH, workers=0)
    assert refused and contents(out) == contents(tmp_path / "whole")


def test_a_build_that_was_killed_while_tidying_up_is_done(singles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stop):
        patched.setattr("shards.output.LocalOutput.remove_journal", lambda output: _raise(Stop()))
        build(singles, out, shard_mib=ONE_EACH, workers=0)
    before = contents(out)
    with pytest.raises(BadUsage, match="finished data set"):
        build(singles, out, shard_mib=ONE_EACH, workers=0, max_side=99)
    assert contents(out) == before
    assert build(singles, out, shard_mib=ONE_EACH, workers=0) == read_dataset(out)
    assert contents(out) == before and not (out / ".build").exists()


def test_the_same_command_on_a_finished_data_set_does_nothing(singles: Path, tmp_path: Path) -> None:
    """Whatever the workers; foreign files beside it are none of its business, and nothing is written again."""
    out = tmp_path / "out"
    dataset = build(singles, out, shard_mib=ONE_EACH, workers=0)
    (out / "notes.txt").write_text("mine")
    before = {path.name: written(path) for path in out.iterdir()}
    for workers in (0, 2):
        assert build(singles, out, shard_mib=ONE_EACH, workers=workers) == dataset
    assert {path.name: written(path) for path in out.iterdir()} == before


def test_overwrite_that_is_ended_behind_the_old_data_set_leaves_no_append_of_it(
    singles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same command would be refused, for a folder that is none of a build's."""
    out = tmp_path / "out"
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    (out / ".append" / "build").mkdir(parents=True)
    (out / ".append" / "request.json").write_text("{}")
    remove = LocalOutput.remove

    def stop(output: LocalOutput, names: Iterable[str]) -> None:
        remove(output, names)
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr("shards.output.LocalOutput.remove", stop)
        patch.setattr("shards.build._without_trace_of_nothing", lambda output: contextlib.nullcontext())
        build(singles, out, shard_mib=ONE_EACH, workers=0, overwrite=True)
    assert not (out / "dataset.json").exists() and (out / "shard-000000.tar").exists()
    assert not (out / ".append").exists()


def test_a_finished_data_set_of_an_interrupted_build_knows_itself_too(singles: Path, tmp_path: Path) -> None:
    """The digest of the catalogue goes on over what was taken over."""
    out = tmp_path / "out"
    interrupted(singles, out, 6, shard_mib=ONE_EACH)
    photograph(singles / "p3" / "0.png", 60, 60, seed=77)
    dataset = build(singles, out, shard_mib=ONE_EACH, workers=0)
    assert build(singles, out, shard_mib=ONE_EACH, workers=0) == dataset


@pytest.mark.parametrize("change", ["photograph", "product", "options", "source", "appended", "unknown"])
def test_another_command_or_catalogue_is_refused_by_a_finished_data_set(
    singles: Path, tmp_path: Path, change: str
) -> None:
    out, source, options = tmp_path / "out", singles, {"shard_mib": ONE_EACH, "workers": 0}
    build(source, out, **options)
    said = {
        "photograph": "the catalogue has changed since",
        "product": "the catalogue has changed since",
        "options": "a finished data set: max_side was 512, is 48",
        "source": "a finished data set: source was '.*c', is '.*other'",
        "appended": "a finished data set that was appended to",
        "unknown": "holds a finished data set",
    }[change]
    if change == "photograph":
        photograph(source / "p3" / "0.png", 60, 60, seed=77)
    elif change == "product":
        shutil.rmtree(source / "p8")
    elif change == "options":
        options |= {"max_side": 48}
    elif change == "source":
        source = Path(shutil.copytree(source, tmp_path / "other"))
    elif change == "appended":
        photograph(tmp_path / "more" / "q" / "0.png", 60, 60, seed=50)
        append(tmp_path / "more", out, workers=0)
    else:
        (out / ".built.json").write_bytes(b"[" * 100_000)
    before = contents(out)
    with pytest.raises(BadUsage, match=said):
        build(source, out, **options)
    assert contents(out) == before and not (out / ".build").exists()


def test_a_finished_data_set_that_lacks_a_file_is_not_called_done(singles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(singles, out, shard_mib=ONE_EACH, workers=0)
    (out / "shard-000004.tar").unlink()
    with pytest.raises(BadData, match=r"shard-000004\.tar: file: expected .* found nothing"):
        build(singles, out, shard_mib=ONE_EACH, workers=0)


def test_the_tables_are_those_of_the_rows(singles: Path, tmp_path: Path) -> None:
    """Row groups do not depend on where the parts end."""
    for size in (ONE_EACH, 0.02, 1):
        build(singles, tmp_path / str(size), shard_mib=size, workers=0)
    for name in set(TABLES) - {"images.parquet"}:
        assert len({(tmp_path / str(size) / name).read_bytes() for size in (ONE_EACH, 0.02, 1)}) == 1


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
