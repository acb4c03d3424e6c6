"""An append, and a build over a finished data set, killed before any of their steps; the same command behind it.

Every seventh step of an append, every third of a build; SKILL_FAST_LONG=1 takes them all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shards.append import append
from shards.build import build
from shards.errors import BadData
from shards.index import DATASET, read_dataset
from shards.repair import repair
from shards.verify import verify
from tests.shards.append.conftest import catalogue
from tests.shards.data_sets import assert_whole, files
from tests.shards.kills import killed_at

LONG = os.environ.get("SKILL_FAST_LONG") == "1"
HOW: dict[str, Any] = {"shard_mib": 0.004, "max_side": 32, "workers": 0}
OLD, NEW = {"a": 1, "bad": 2, "c": 3}, {"d": 2, "bad2": 1, "e": 1}
JOURNALS = (".build/", ".build.gone/", ".append/")


def killed(before: Path, fresh: Path, every: int, work: Callable[[Path], object]) -> Iterator[int]:
    """Kill ``work`` on a copy of ``before`` at one step after the other, or each ``every``-th.

    Yields the step; ``fresh`` is what is left.
    """
    step = 0
    while True:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(before, fresh)
        if not killed_at(step, lambda: work(fresh)):
            return
        yield step
        step += 1 if LONG else every


def own(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if not name.startswith(JOURNALS)}


def stand(folder: Path, old: dict[str, bytes], new: dict[str, bytes]) -> str:
    """Which of the two data sets is whole."""
    if not (folder / DATASET).is_file():
        with pytest.raises(BadData):
            read_dataset(folder)
        return "neither"
    found = own(folder)
    assert found in (old, new)
    assert all(finding.what == "folder" for finding in verify(folder).findings)
    return "old" if found == old else "new"


def test_an_append_killed_at_any_step_goes_on(tmp_path: Path) -> None:
    """Or is settled by a repair first, every other time."""
    out, grown = tmp_path / "out", catalogue(tmp_path, OLD | NEW, "grown")
    build(catalogue(tmp_path, OLD), out, **HOW)
    shutil.copytree(out, tmp_path / "whole")
    append(grown, tmp_path / "whole", workers=0)
    assert_whole(tmp_path / "whole")
    old, new, fresh, seen = own(out), files(tmp_path / "whole"), tmp_path / "fresh", []
    for number, step in enumerate(killed(out, fresh, 7, lambda folder: append(grown, folder, workers=0))):
        seen.append(stand(fresh, old, new))
        if number % 2:
            repair(fresh)
            assert own(fresh) == files(fresh) and own(fresh) in (old, new), step
        append(grown, fresh, workers=0)
        assert files(fresh) == new, step
    assert seen == sorted(seen, key=["old", "neither", "new"].index)
    assert len(seen) > (80 if LONG else 11) and set(seen) == {"old", "neither", "new"}


@pytest.mark.parametrize("over", ["other products", "other options"])
def test_a_build_over_a_finished_data_set_killed_at_any_step_goes_on(tmp_path: Path, over: str) -> None:
    """The old one is whole until the new one's first photograph is known to be good; then there is none for a while."""
    source = catalogue(tmp_path, OLD)
    build(source, tmp_path / "out", **HOW)
    (tmp_path / "out" / "letter.txt").write_text("dear")
    how, goal = HOW | {"overwrite": True}, source
    if over == "other products":
        goal = catalogue(tmp_path, NEW, "other")
    else:
        how["jpeg_quality"] = 70
    shutil.copytree(tmp_path / "out", tmp_path / "whole")
    build(goal, tmp_path / "whole", **how)
    assert_whole(tmp_path / "whole")
    old, new, fresh, seen = files(tmp_path / "out"), files(tmp_path / "whole"), tmp_path / "fresh", []
    for step in killed(tmp_path / "out", fresh, 3, lambda folder: build(goal, folder, **how)):
        seen.append(stand(fresh, old, new))
        assert (fresh / "letter.txt").read_text() == "dear"
        build(goal, fresh, **how)
        assert files(fresh) == new, step
    assert seen == sorted(seen, key=["old", "neither", "new"].index)
    assert len(seen) > (60 if LONG else 20) and set(seen) == {"old", "neither", "new"}
