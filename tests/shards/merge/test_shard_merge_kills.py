"""A merge that is killed before any of its steps, and the same command behind it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.cli import main
from shards.errors import BadUsage
from shards.index import DATASET
from shards.merge import merge
from tests.shards.data_sets import assert_whole, files, made
from tests.shards.kills import killed_at


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Two data sets that share a product."""
    return [made(tmp_path / name, {f"{name}1": 1, "x": 2}) for name in ("a", "b")]


def command(out: Path, sources: list[Path], *options: str) -> Callable[[], int]:
    return lambda: main(["merge", str(out), *map(str, sources), "--on-duplicate", "merge", *options])


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_the_same_command_ends_well_whatever_step_a_merge_was_killed_at(
    sources: list[Path], tmp_path: Path, options: list[str]
) -> None:
    """With --overwrite over another data set: until the new one is whole there is the old one, or none."""
    merge(tmp_path / "whole", sources, on_duplicate="merge")
    expected, old = files(tmp_path / "whole"), made(tmp_path / "old", {"o": 1, "p": 1})
    before, out = files(old), tmp_path / "out"
    behind, step = 0, 0
    while True:
        shutil.rmtree(out, ignore_errors=True)
        if options:
            shutil.copytree(old, out)
        if not killed_at(step, command(out, sources, *options)):
            break
        left = files(out) if out.exists() else {}
        if DATASET in left:
            own = {name: data for name, data in left.items() if not name.startswith((".build/", ".build.gone/"))}
            assert own in (before, expected), step
            behind += own == expected
        assert command(out, sources, *options)() == 0, step
        assert files(out) == expected and not list(out.glob(".build*")), step
        assert_whole(out)
        step += 1
    assert step > 20 and behind >= 3, "kills behind dataset.json, too"


def test_the_same_merge_again_says_that_nothing_is_to_do(
    sources: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(out, sources)() == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    assert command(out, sources)() == 0
    assert "already merged, nothing to do; 3 products" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("other", ["order", "first", "fewer", "damaged"])
def test_what_another_merge_wrote_is_still_refused(sources: list[Path], tmp_path: Path, other: str) -> None:
    out = tmp_path / "out"
    merge(out, sources, on_duplicate="merge")
    if other == "damaged":
        (out / "shard-000000.idx").unlink()
    before = files(out)
    again = {"order": sources[::-1], "fewer": sources[:1]}.get(other, sources)
    with pytest.raises(BadUsage, match="a finished data set"):
        merge(out, again, on_duplicate="first" if other == "first" else "merge")
    assert files(out) == before
