"""What a command says when the system grants it too little: room, sizes of files, open files."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shards import lacking, new_file
from shards.append import append
from shards.build import build
from shards.errors import StorageFailure, exit_with
from shards.lookalikes import Lookalikes
from shards.new_file import NewFile
from shards.sheet import write_sheet
from tests.shards.conftest import photograph
from tests.shards.data_sets import assert_whole

MOST_BYTES = 14_000
"""More than the index of duplicates, less than a tar."""


def limited(limit: int, value: int, *words: object) -> str:
    """What a command says on stderr under a limit of the system's; it has to end with 6."""
    done = subprocess.run(
        [sys.executable, "-m", "shards.cli", *map(str, words)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == StorageFailure.exit_code, done.stderr
    return done.stderr


def test_a_file_that_may_not_grow_is_named(singles: Path, dataset: Path, tmp_path: Path) -> None:
    (dataset / "products.parquet").unlink()
    whole = tmp_path / "whole"
    build(singles, whole, workers=0)
    for words, path in (
        (("build", singles, tmp_path / "new", "--workers", 0), tmp_path / "new"),
        (("merge", tmp_path / "merged", whole), tmp_path / "merged" / "shard-000000.tar"),
        (("sheet", whole, tmp_path / "sheet.png"), tmp_path / "sheet.png"),
    ):
        told = limited(resource.RLIMIT_FSIZE, MOST_BYTES, *words)
        assert f"'{path}" in told and "File too large" in told and "ulimit -f" in told
    assert not (tmp_path / "sheet.png").exists()
    told = limited(resource.RLIMIT_FSIZE, 50, "repair", dataset)
    assert f"'{dataset}/.repair/" in told and "ulimit -f" in told


def test_too_few_open_files_are_named_with_what_to_change(singles: Path, tmp_path: Path) -> None:
    told = limited(resource.RLIMIT_NOFILE, 12, "build", singles, tmp_path / "new", "--workers", 2)
    assert "Too many open files" in told and "ulimit -n" in told


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_every_error_of_a_new_file_has_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    """A descriptor's errors name no file of their own."""

    def refused(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = NewFile(tmp_path / "new")
    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(file, "_file", SimpleNamespace(write=refused))
        else:
            patch.setattr(new_file.os, "fsync", refused)
        assert exit_with(lambda: file.write(b"a") and file.commit()) == StorageFailure.exit_code
    file.abandon()
    assert f"'{tmp_path}/new.partial'" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["known", "missing"])
def test_append_names_a_full_temporary_folder(
    singles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """However far the index of what is known has come."""

    class Full(lacking._InTemporaryFolder):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            # In pages: the index alone has three.
            sqlite3.Connection.execute(self, f"PRAGMA max_page_count = {1 if table == 'known' else 2}")

    out = tmp_path / "out"
    build(singles, out, workers=0)
    photograph(singles / "new" / "0.png")
    monkeypatch.setattr(lacking, "_InTemporaryFolder", Full)
    with pytest.raises(StorageFailure, match=r"temporary folder '.+' can not hold") as caught:
        append(singles, out, workers=0)
    assert "TMPDIR" in caught.value.change
    assert_whole(out)


def test_the_index_of_duplicates_says_where_it_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("shards.lookalikes.ExactIndex", full)
    with pytest.raises(StorageFailure, match=str(tmp_path)):
        Lookalikes(tmp_path, (), lambda shard, offset, size: b"")


def test_a_sheet_is_whole_or_not_there(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sheets").mkdir()
    (tmp_path / "sheets" / "link.png").symlink_to(tmp_path / "sheet.png")
    write_sheet(dataset, tmp_path / "sheets" / "link.png", products=1)
    drawn = (tmp_path / "sheet.png").read_bytes()
    assert (tmp_path / "sheets" / "link.png").is_symlink() and drawn.startswith(b"\x89PNG")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(new_file.os, "fsync", full)
    with pytest.raises(StorageFailure, match=rf"no room for '{tmp_path}/sheet\.png\.partial'"):
        write_sheet(dataset, tmp_path / "sheet.png", products=2)
    assert (tmp_path / "sheet.png").read_bytes() == drawn
