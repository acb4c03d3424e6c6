"""An append beside another command that would replace the data set: one of the two is refused, none loses work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.append import append
from shards.build import build
from shards.cli import main
from shards.errors import BadUsage
from shards.lock import Lock
from shards.merge import merge
from shards.repair import repair
from shards.verify import verify
from tests.shards.append.conftest import NEW, OLD, catalogue
from tests.shards.data_sets import files


@pytest.fixture
def other(tmp_path: Path) -> Path:
    build(catalogue(tmp_path, {"x": 1}, "x"), tmp_path / "other", max_side=32, workers=0)
    return tmp_path / "other"


COMMANDS: dict[str, Callable[[Path, Path], Any]] = {
    "build": lambda out, other: build(other.parent / "x.jsonl", out, workers=0, overwrite=True),
    "the same build": lambda out, other: build(
        other.parent / "catalogue.jsonl", out, shard_mib=0.01, max_side=32, workers=0
    ),
    "merge": lambda out, other: merge(out, [other], overwrite=True),
    "repair": lambda out, other: repair(out),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_would_replace_a_data_set_is_refused_while_an_append_works(
    out: Path, other: Path, tmp_path: Path, command: str
) -> None:
    before, refused = files(out), []

    def meanwhile(done: Any) -> None:
        there = files(out)
        with pytest.raises(BadUsage, match=r"another process builds .*: pid \d+"):
            COMMANDS[command](out, other)
        assert files(out) == there and not (out / ".build").exists()
        refused.append(done)

    dataset = append(catalogue(tmp_path, OLD | NEW, "grown"), out, workers=0, progress=meanwhile)
    assert refused and dataset["counts"]["products"] == len(OLD | NEW)
    assert {
        name: data for name, data in files(out).items() if name in before and "shard" in name
    }.items() <= before.items()
    assert verify(out, full=True, workers=1).findings == []


def test_it_ends_with_code_2(out: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = Lock(out / ".append", out)
    lock.take()
    for words in (["build", str(tmp_path / "x.jsonl"), str(out)], ["merge", str(out), str(other)]):
        assert main([*words, "--overwrite"]) == 2
        assert "another process builds" in capsys.readouterr().err
    lock.release()
    assert main(["merge", str(out), str(other), "--overwrite"]) == 0, "what an append left behind keeps nobody away"


def test_an_append_is_refused_while_a_build_replaces_the_data_set(out: Path, other: Path, tmp_path: Path) -> None:
    source = catalogue(tmp_path, NEW, "new")
    lock = Lock(out / ".build", out)
    lock.take()
    before = files(out)
    with pytest.raises(BadUsage, match=r"another process builds .*: pid \d+"):
        append(source, out, workers=0)
    assert files(out) == before and not (out / ".append").exists()
    lock.release()
    (out / ".build" / "lock").unlink()
    (out / ".build").rmdir()
    append(source, out, workers=0)
