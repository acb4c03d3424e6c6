"""Names of a data set's files that are no files: links that lead nowhere or go round, folders, pipes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.append import append
from shards.errors import BadData
from shards.merge import merge
from shards.repair import repair
from shards.sheet import write_sheet
from shards.summary import summarize
from shards.verify import verify
from tests.shards.conftest import photograph
from tests.shards.data_sets import files

NO_FILES: dict[str, Callable[[Path], None]] = {
    "a link that leads nowhere": lambda path: path.symlink_to("/nonexistent"),
    "a link that goes round": lambda path: path.symlink_to(path.name),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}
NAMES = ("shard-000000.idx", ".built.json")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", [*NAMES, "shard-000001.tar", "images.parquet"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_found(tiny: Path, kind: str, name: str, full: bool) -> None:
    (tiny / name).unlink()
    NO_FILES[kind](tiny / name)
    assert [(finding.file, finding.what) for finding in verify(tiny, full=full, workers=1).findings] == [(name, "file")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [kind for kind in NO_FILES if kind != "a folder"])
def test_repair_puts_a_file_in_the_place_of_what_is_none(tiny: Path, kind: str, name: str) -> None:
    whole = files(tiny)
    (tiny / name).unlink()
    NO_FILES[kind](tiny / name)
    (line,) = repair(tiny)
    assert line.startswith(name) and not (tiny / name).is_symlink()
    if name == ".built.json":  # only the build can write it again
        del whole[name]
    assert files(tiny) == whole


@pytest.mark.parametrize("name", [*NAMES, "rejected.parquet", "shard-000001.idx.partial"])
def test_repair_says_which_folder_is_in_the_way(tiny: Path, name: str) -> None:
    (tiny / name).unlink(missing_ok=True)
    (tiny / name).mkdir()
    (tiny / name / "letter.txt").write_text("dear")
    before = files(tiny)
    with pytest.raises(BadData, match=f"{name}' is a folder") as caught:
        repair(tiny)
    assert "move that folder away" in caught.value.change and files(tiny) == before


def test_append_and_merge_take_no_data_set_with_an_index_that_is_not_there(tiny: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "new" / "d" / "0.png")
    (tiny / "shard-000000.idx").unlink()
    (tiny / "shard-000000.idx").symlink_to("/nonexistent")
    with pytest.raises(BadData, match=r"damaged: shard-000000\.idx"):
        append(tmp_path / "new", tiny, workers=0)
    with pytest.raises(BadData, match=r"damaged: shard-000000\.idx"):
        merge(tmp_path / "out", [tiny])


@pytest.mark.parametrize("name", ["shard-000000.tar", "images.parquet", "products.parquet"])
def test_a_sheet_does_not_wait_for_a_pipe(tiny: Path, tmp_path: Path, name: str) -> None:
    (tiny / name).unlink()
    os.mkfifo(tiny / name)
    with pytest.raises(BadData, match=f"{name}' is no file"):
        write_sheet(tiny, tmp_path / "sheet.png")
    if name != "shard-000000.tar":
        with pytest.raises(BadData, match=f"{name}' is no file"):
            summarize(tiny)
