"""What lies at a place and is not a build's: a source in it or around it, links, folders of others with its names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.append import append
from shards.build import build
from shards.cli import main
from shards.errors import BadUsage
from shards.merge import merge
from shards.places import place
from shards.repair import repair
from tests.object_storage import ObjectStorage
from tests.shards.conftest import photograph
from tests.shards.data_sets import files, made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return made(tmp_path / "old", {"a": 1, "b": 1})


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return made(tmp_path / "new", {"c": 1})


def writers(out: Path, other: Path) -> dict[str, Callable[[], object]]:
    source = other.parent / "catalogue.jsonl"
    return {
        "build": lambda: build(source, out, workers=0, overwrite=True),
        "append": lambda: append(source, out, workers=0),
        "merge": lambda: merge(out, [other], overwrite=True),
        "repair": lambda: repair(out),
    }


WRITERS = ("build", "append", "merge", "repair")
FOREIGN = [".build/letter.txt", ".build/debug/x", ".build.gone/letter.txt", ".append/letter.txt", ".append/build/x.c"]
FOREIGN += [".append/tables/mine.parquet", ".append/build/.build/x"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_of_somebody_elses_is_not_emptied(out: Path, other: Path, writer: str, name: str) -> None:
    """Beside what a build keeps there, too."""
    letter = out / name
    letter.parent.mkdir(parents=True)
    letter.write_text("dear")
    (letter.parent / "lock").touch()
    before = files(out)
    for _ in range(2):
        with pytest.raises(BadUsage, match=re.escape(f"{out}/{'/'.join(name.split('/')[:-1])}")):
            writers(out, other)[writer]()
    assert files(out) == before


def test_what_a_killed_build_may_leave_is_no_foreign_thing(other: Path, tmp_path: Path) -> None:
    """Beside the journal: the index of duplicates just before it has no name, and what NFS calls it then."""
    (tmp_path / "out" / ".build").mkdir(parents=True)
    for name in ("lock", "exact-a_1b.sqlite", "exact-x.sqlite-journal", ".nfs00000a1", "part-000000.rows.partial"):
        (tmp_path / "out" / ".build" / name).touch()
    build(other.parent / "catalogue.jsonl", tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / ".build").exists()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "name", [".build", ".build.gone", ".append", ".append/build", ".append/build/.build", ".append/tables"]
)
@pytest.mark.parametrize("goal", ["folder", "nothing"])
def test_nothing_is_emptied_through_a_link(
    out: Path, other: Path, tmp_path: Path, writer: str, name: str, goal: str
) -> None:
    (tmp_path / "folder").mkdir()
    for own in ("arrival.json", "build.json", "lock", "shard-000000.tar", "products.parquet"):
        (tmp_path / "folder" / own).write_text("{}")
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).symlink_to(tmp_path / goal)
    before, linked = files(out), files(tmp_path / "folder")
    with pytest.raises(BadUsage, match=re.escape(f"{out / name}' is a link")):
        writers(out, other)[writer]()
    assert files(out) == before and files(tmp_path / "folder") == linked and (out / name).is_symlink()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", [".build", ".append"])
def test_a_file_in_a_folders_place_is_named(out: Path, other: Path, writer: str, name: str) -> None:
    (out / name).write_text("mine")
    with pytest.raises(BadUsage, match=re.escape(f"{name}' is no folder")):
        writers(out, other)[writer]()
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["letter.txt", "inner"])
def test_repairs_own_folder_may_be_somebodys(out: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.idx").touch()
    (out / ".repair").mkdir()
    if name == "inner":
        (out / ".repair" / name).symlink_to(tmp_path / "folder")
    else:
        (out / ".repair" / name).write_text("dear")
    with pytest.raises(BadUsage, match=re.escape(f".repair/{name}' was not written by")):
        repair(out)
    shutil.rmtree(out / ".repair")
    (out / ".repair").symlink_to(tmp_path / "folder")
    with pytest.raises(BadUsage, match=r"\.repair' is a link"):
        repair(out)
    assert (tmp_path / "folder" / "x.idx").exists()


def test_an_empty_folder_named_build_makes_nobodys_table_a_builds(other: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / ".build").mkdir(parents=True)
    (tmp_path / "out" / "products.parquet").write_text("mine")
    with pytest.raises(BadUsage, match=r"products\.parquet"):
        build(other.parent / "catalogue.jsonl", tmp_path / "out", workers=0)
    with pytest.raises(BadUsage, match=r"products\.parquet"):
        merge(tmp_path / "out", [other])
    assert (tmp_path / "out" / "products.parquet").read_text() == "mine"


def test_somebodys_objects_below_build_in_storage_stay(other: Path, s3: ObjectStorage) -> None:
    letter = s3.local(f"{s3.url}/out") / ".build" / "letter.txt"
    letter.parent.mkdir(parents=True)
    letter.write_text("dear")
    for write in (
        lambda: build(other.parent / "catalogue.jsonl", f"{s3.url}/out", workers=0, overwrite=True),
        lambda: merge(place(f"{s3.url}/out"), [other], overwrite=True),
    ):
        with pytest.raises(BadUsage, match=r"letter\.txt' was not written by a build"):
            write()
    assert letter.read_text() == "dear"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A folder with a manifest by which it is recognised."""
    photograph(tmp_path / "c" / "a" / "0.png")
    (tmp_path / "c" / "manifest.csv").write_text("product_id,image_path\na,a/0.png\n")
    return tmp_path / "c"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("format", ["manifest", "folder"])
@pytest.mark.parametrize("where", ["within", "same", "link", "dots"])
def test_a_place_within_the_source_is_refused(
    catalogue: Path, tmp_path: Path, overwrite: list[str], format: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = {"within": catalogue / "a" / "out", "same": catalogue, "dots": tmp_path / "x" / ".." / "c" / "out"}
    (tmp_path / "link").symlink_to(catalogue)
    out, before = goal.get(where, tmp_path / "link" / "out"), files(catalogue)
    command = ["build", str(catalogue), str(out), "--format", format, "--workers", "0"]
    assert main([*command, *overwrite]) == BadUsage.exit_code
    assert "lies within the folder" in capsys.readouterr().err
    assert files(catalogue) == before


@pytest.mark.parametrize("name", ["products.parquet", "list.jsonl", "linked.jsonl", "folder"])
@pytest.mark.parametrize("writer", ["build", "append"])
def test_a_source_within_the_place_is_refused_and_stays(out: Path, tmp_path: Path, name: str, writer: str) -> None:
    """Named as one of the tables it would be replaced."""
    photograph(tmp_path / "p.png")
    source = out / name
    if name == "folder":
        photograph(source / "p" / "0.png")
    elif name == "linked.jsonl":
        (tmp_path / "list.jsonl").write_text(f'{{"product_id": "p", "image_path": "{tmp_path}/p.png"}}')
        source.symlink_to(tmp_path / "list.jsonl")
    elif name == "list.jsonl":
        source.write_text(f'{{"product_id": "p", "image_path": "{tmp_path}/p.png"}}')
    before = files(out)
    write = {
        "build": lambda: build(source, out, workers=0, overwrite=True),
        "append": lambda: append(source, out, workers=0),
    }
    with pytest.raises(BadUsage, match=r"lies within .*, which is written to"):
        write[writer]()
    assert files(out) == before


def test_a_source_around_the_data_set_is_refused_by_append(out: Path) -> None:
    before = files(out)
    with pytest.raises(BadUsage, match="lies within the folder of photographs"):
        append(out.parent, out, format="folder", workers=0)
    assert files(out) == before


def test_a_source_beside_the_place_is_fine(catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest by its own name may lie in the folder around OUT: nothing there is read but what it lists."""
    build(catalogue / "manifest.csv", catalogue / "out", workers=0)
    monkeypatch.chdir(catalogue)
    build("manifest.csv", "out2", workers=0)
    build("demo", "demo", designs=1, photo_side=16, workers=0)
