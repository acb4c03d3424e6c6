"""An interrupted build goes on: over a changed catalogue, other options or damage it ends as an unbroken one does."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.build import Progress, build
from shards.errors import BadUsage
from shards.table_files import TABLES
from tests.shards.conftest import photograph
from tests.shards.data_sets import contents
from tests.shards.interruption import ONE_EACH, Stop, interrupted, stand, throw, written


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
        patched.setattr("shards.packing.Packing.write_tables", lambda packing: throw(Stop()))
        build(singles, out, shard_mib=0.02, workers=0)
    photograph(singles / "p9" / "0.png", 16, 16)
    build(singles, out, shard_mib=0.02, workers=0)
    assert "more of it behind shard-" in capsys.readouterr().err
    build(singles, tmp_path / "whole", shard_mib=0.02, workers=0)
    assert contents(out) == contents(tmp_path / "whole")


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


def test_the_tables_are_those_of_the_rows(singles: Path, tmp_path: Path) -> None:
    """Row groups do not depend on where the parts end."""
    for size in (ONE_EACH, 0.02, 1):
        build(singles, tmp_path / str(size), shard_mib=size, workers=0)
    for name in set(TABLES) - {"images.parquet"}:
        assert len({(tmp_path / str(size) / name).read_bytes() for size in (ONE_EACH, 0.02, 1)}) == 1
