"""Where a build writes: what is another's is kept, and what only looks like its own is not taken for it."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import Progress, build
from shards.errors import BadUsage
from shards.table_files import TABLES
from tests.shards.conftest import photograph
from tests.shards.data_sets import contents


def test_an_unfinished_build_is_taken_up_and_foreign_files_are_kept(catalogue: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_third(done: Progress) -> None:
        if done.products == 3:
            raise Stop

    out = tmp_path / "out"
    with pytest.raises(Stop):
        build(catalogue, out, shard_mib=0.01, workers=0, progress=stop_at_third)
    left = {path.name for path in out.iterdir()}
    assert "shard-000000.tar" in left and "dataset.json" not in left
    assert not [name for name in left if name.endswith(".partial")]
    (out / "shard-000077.tar.partial").write_bytes(b"torn")
    build(catalogue, out, shard_mib=0.01, workers=0)
    build(catalogue, tmp_path / "whole", shard_mib=0.01, workers=0)
    assert contents(out) == contents(tmp_path / "whole")

    (out / "notes.txt").write_text("mine")
    with pytest.raises(BadUsage, match="finished data set"):
        build(catalogue, out, workers=0)
    dataset = build(catalogue, out, workers=0, overwrite=True)
    assert len(dataset["shards"]) == 1 and (out / "notes.txt").read_text() == "mine"
    assert len(list(out.glob("shard-*"))) == 2


@pytest.mark.parametrize("name", [*TABLES, ".built.json"])
def test_somebodys_table_is_not_taken_for_what_a_build_left(catalogue: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(BadUsage, match=rf"holds '{re.escape(name)}', but neither dataset\.json nor the journal"):
            build(catalogue, tmp_path / "out", workers=0)
    assert contents(tmp_path / "out") == {name: b"mine"} and len(list((tmp_path / "out").iterdir())) == 1


def test_a_manifest_in_the_place_that_is_written_to_is_kept(catalogue: Path, tmp_path: Path) -> None:
    """The adapter reads Parquet, and products.parquet is what a build calls its own table."""
    (tmp_path / "out").mkdir()
    rows = {"product_id": ["p"], "image_path": [str(next(catalogue.rglob("*.png")))]}
    pq.write_table(pa.table(rows), tmp_path / "out" / "products.parquet")
    before = contents(tmp_path / "out")
    with pytest.raises(BadUsage, match=r"products\.parquet"):
        build(tmp_path / "out" / "products.parquet", tmp_path / "out", workers=0)
    assert contents(tmp_path / "out") == before


def test_a_place_within_the_photographs_is_refused(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(catalogue)
    for out in (catalogue / "shards", tmp_path / "link" / "deep" / "shards"):
        with pytest.raises(BadUsage, match="lies within the folder of photographs"):
            build(catalogue, out, workers=0)
    assert not (catalogue / "shards").exists()


@pytest.mark.parametrize("name", [".build", ".build.gone", ".append"])
def test_nothing_is_removed_through_a_link(catalogue: Path, tmp_path: Path, name: str) -> None:
    build(catalogue, tmp_path / "out", workers=0)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("dear")
    (tmp_path / "out" / name).symlink_to(tmp_path / "foreign")
    before = contents(tmp_path / "out")
    photograph(catalogue / "dress" / "new" / "0.png", seed=99)
    for write in (build, append):
        with pytest.raises(BadUsage, match=rf"{re.escape(name)}' is a link"):
            write(catalogue, tmp_path / "out", workers=0)
    assert contents(tmp_path / "out") == before and (tmp_path / "foreign" / "letter.txt").read_text() == "dear"


def test_a_link_that_leads_nowhere_is_named(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(BadUsage, match="out' is a link that leads nowhere"):
        build(catalogue, tmp_path / "out", workers=0)
    assert (tmp_path / "out").is_symlink() and not (tmp_path / "gone").exists()
