"""Where a merge reads and writes: nothing of anyone is lost, by whatever name a place goes, local or remote."""

import re
import shutil
from pathlib import Path

import pytest

from shards.errors import BadData, BadUsage
from shards.index import DATASET
from shards.merge import merge
from shards.places import entries, place
from shards.summary import summarize
from shards.table_files import TABLES
from shards.verify import verify
from tests.object_storage import ObjectStorage
from tests.shards.data_sets import assert_whole, files, made
from tests.shards.merge.conftest import content


def test_what_lies_at_the_place_is_not_lost(two: tuple[Path, Path], tmp_path: Path) -> None:
    for out in (two[0], two[1]):
        with pytest.raises(BadUsage, match="another place"):
            merge(out, two, overwrite=True)
    shutil.copytree(two[0], tmp_path / "out")
    with pytest.raises(BadUsage, match="a finished data set"):
        merge(tmp_path / "out", two)
    assert_whole(tmp_path / "out")
    merge(tmp_path / "out", two, overwrite=True)
    assert content(tmp_path / "out") == content(two[0]) | content(two[1])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(BadUsage, match=r"letter\.txt"):
        merge(tmp_path / "other", two)
    with pytest.raises(BadUsage, match="on_duplicate"):
        merge(tmp_path / "new", two, on_duplicate="last")
    with pytest.raises(BadUsage, match="one source"):
        merge(tmp_path / "new", [])


def test_sources_and_result_in_object_storage(tmp_path: Path, s3: ObjectStorage) -> None:
    """There and back again: the same bytes as on a disk; verified and summarised where they lie."""
    sources = [made(tmp_path / name, {"x": 2, name: 1}, shard_mib=shard) for name, shard in (("a", 1), ("b", 0.005))]
    for name, source in zip("ab", sources, strict=True):
        shutil.copytree(source, s3.local(s3.url) / name)
    remote = [place(f"{s3.url}/{name}") for name in "ab"]
    merge(tmp_path / "disk", sources, on_duplicate="first")
    merge(place(f"{s3.url}/out"), remote, on_duplicate="first")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "disk").iterdir()}
    found = {path.name: path.read_bytes() for path in s3.local(f"{s3.url}/out").iterdir()}
    changed = {"rejected.parquet", DATASET}  # they name the places
    assert {name for name in expected if found[name] != expected[name]} <= changed and found.keys() == expected.keys()
    out = place(f"{s3.url}/out")
    assert verify(out, full=True, workers=2).findings == []
    assert summarize(out)["labels"] == summarize(tmp_path / "disk")["labels"]
    (s3.local(f"{s3.url}/out") / ".build").mkdir()
    (s3.local(f"{s3.url}/out") / ".build" / "owner.json").write_text("{}")
    merge(out, remote, on_duplicate="first")
    again = {path.name: path.read_bytes() for path in s3.local(f"{s3.url}/out").iterdir() if path.is_file()}
    assert again == found and not entries(out / ".build"), "as after a kill behind dataset.json"
    with pytest.raises(BadUsage, match="a finished data set"):
        merge(out, remote, on_duplicate="merge")
    shard = s3.local(f"{s3.url}/out/shard-000000.tar")
    shard.write_bytes(shard.read_bytes()[:-512])
    (finding,) = verify(out).findings
    assert finding.file == "shard-000000.tar"


@pytest.mark.parametrize("name", ["relative", "dots", "file", "link", "files linked", "inside", "around"])
def test_a_source_under_another_name_is_not_deleted(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out, source = two[0], two[0]
    if name == "relative":
        source = Path("a/out")
    elif name == "dots":
        source = tmp_path / "b" / ".." / "a" / "out"
    elif name == "file":
        source = place(f"file://{tmp_path}/b/../a/out")
    elif name == "link":
        source = tmp_path / "link"
        source.symlink_to(two[0])
    elif name == "files linked":
        source = tmp_path / "links"
        source.mkdir()
        for path in two[0].iterdir():
            (source / path.name).symlink_to(path)
    elif name == "inside":
        source = out / "within"
        shutil.copytree(two[1], source)
    else:
        out = two[0] / "within"
    before = files(two[0])
    with pytest.raises(BadUsage, match="the same place, or one is within"):
        merge(out, [two[1], source], overwrite=True)
    assert files(two[0]) == before


def test_addresses_of_one_remote_place_are_the_same(tmp_path: Path, two: tuple[Path, Path]) -> None:
    for other in ("s3://bucket/a", "s3://bucket/a/", "s3://bucket/a/b", "s3://bucket", "s3://bucket/x/../a"):
        with pytest.raises(BadUsage, match="the same place, or one is within"):
            merge(place("s3://bucket/a"), [two[0], place(other)], overwrite=True)


def test_the_old_data_set_stays_until_the_sources_are_checked(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge(tmp_path / "out", two[:1])
    before = files(tmp_path / "out")
    path = two[1] / "rejected.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BadData, match=r"rejected\.parquet"):
        merge(tmp_path / "out", two, overwrite=True)
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize("name", [*TABLES, ".built.json"])
def test_somebodys_table_is_not_taken_for_what_a_merge_left(two: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(BadUsage, match=f"other things: {re.escape(name)}"):
            merge(tmp_path / "out", two)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == "mine"
