"""An arrival that is killed at any step: it can only go forward, and nobody reads a mixture."""

import os
import shutil
from pathlib import Path

import pytest

from shards.append import append
from shards.arrival import ARRIVAL, arrive
from shards.build import build
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.repair import repair
from shards.verify import verify
from tests.shards.data_sets import assert_whole, files
from tests.shards.kills import Killed, states

LONG = os.environ.get("SKILL_FAST_LONG") == "1"


@pytest.fixture
def about_to_arrive(out: Path, grown: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose append was killed when all was prepared."""

    def killed(folder: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("shards.append.arrive", killed)
        with pytest.raises(Killed):
            append(grown, out, workers=0)
    assert (out / ".append" / ARRIVAL).is_file()
    return out


def test_an_arrival_killed_at_any_step_is_rolled_forward(about_to_arrive: Path, grown: Path, tmp_path: Path) -> None:
    """At each instant a reader has the old data set, or the new one, or is told what goes on."""
    old = read_dataset(about_to_arrive)
    whole = tmp_path / "whole"
    shutil.copytree(about_to_arrive, whole)
    arrive(whole)
    assert_whole(whole)
    new, expected = read_dataset(whole), files(whole)
    seen = []
    for step, folder in states(about_to_arrive, tmp_path / "killed", arrive):
        try:
            found = read_dataset(folder)
            assert found in (old, new)
            seen.append("old" if found == old else "new")
            quick = verify(folder).findings
            assert all(finding.file == ".append" for finding in quick), (step, quick)
        except BadData as error:
            assert "being appended" in str(error)
            seen.append("neither")
        by_repair = step % 2 == 0
        lines = repair(folder) if by_repair else append(grown, folder, workers=0)
        assert files(folder) == expected, step
        assert not by_repair or seen[-1] == "new" or "complete now" in lines[0]
    assert seen == sorted(seen, key=["old", "neither", "new"].index)
    moved = 2 * (len(new["shards"]) - len(old["shards"])) + len(new["tables"])
    assert seen.count("old") >= 1 and seen.count("neither") > moved and seen.count("new") > 3


def test_a_second_kill_on_the_way_forward(about_to_arrive: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(about_to_arrive, whole)
    arrive(whole)
    ended = 0
    for _, folder in states(about_to_arrive, tmp_path / "killed", arrive, 1 if LONG else 7, 1):
        for _, twice in states(folder, tmp_path / "twice", repair, 1 if LONG else 9):
            repair(twice)
            assert files(twice) == files(whole)
            ended += 1
    assert ended > 8


def test_a_reader_that_began_before_never_mixes_the_two(about_to_arrive: Path, tmp_path: Path) -> None:
    """Whoever holds the old dataset.json finds every file as it says, or of another size."""
    old = read_dataset(about_to_arrive)
    for _, folder in states(about_to_arrive, tmp_path / "killed", arrive):
        for name, line in [(line["name"], line) for line in old["shards"]] + list(old["tables"].items()):
            found = (folder / name).read_bytes()
            assert len(found) != line["bytes"] or found == (about_to_arrive / name).read_bytes()


def test_a_build_leaves_a_half_arrived_data_set_alone(about_to_arrive: Path, grown: Path, tmp_path: Path) -> None:
    for _, folder in states(about_to_arrive, tmp_path / "killed", arrive, 1 if LONG else 4):
        before = files(folder)
        if not (folder / ".append").exists():
            continue
        with pytest.raises(BadUsage):
            build(grown, folder, workers=0)
        assert files(folder) == before
