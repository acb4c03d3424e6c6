"""Products that one source left out and another wrote are no rejects of what is merged."""

from pathlib import Path

import pytest

from shards import merge_rejects
from shards.build import build
from shards.index import read_dataset
from shards.merge import merge
from shards.selection import Selection
from tests.shards.conftest import photograph
from tests.shards.data_sets import assert_whole
from tests.shards.merge.conftest import tables


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """Three types of two products; the second dress has no good photograph."""
    for place, name in enumerate(("shirt/Größe", "shirt/s2", "dress/d1", "skirt/k1", "skirt/k2")):
        photograph(tmp_path / "c" / name / "0.png", seed=place)
    (tmp_path / "c" / "dress" / "d2").mkdir()
    (tmp_path / "c" / "dress" / "d2" / "0.png").touch()
    return tmp_path / "c"


def of_types(catalogue: Path, *types: str) -> Path:
    out = catalogue.parent / "-".join(types)
    build(catalogue, out, selection=Selection(types=types), workers=0)
    return out


def rejects(folder: Path) -> list[tuple[str, str]]:
    return [(row["product_id"], row["reason"]) for row in tables(folder, "rejected.parquet")]


def test_what_another_source_writes_is_no_reject(catalogue: Path, tmp_path: Path) -> None:
    sources = [of_types(catalogue, "shirt", "dress"), of_types(catalogue, "skirt")]
    assert len(rejects(sources[0])) == 4 and len(rejects(sources[1])) == 4
    merge(tmp_path / "out", sources)
    assert_whole(tmp_path / "out")
    assert rejects(tmp_path / "out") == [("d2", "empty_file"), ("d2", "no_good_photographs"), ("d2", "other_type")]
    counts = read_dataset(tmp_path / "out")["counts"]
    assert counts["products_rejected"] == {"no_good_photographs": 1, "other_type": 1}
    assert counts["images_seen"] == counts["images_written"] + 1 == 6
    told: list[int] = []
    merge(tmp_path / "out", sources, progress=lambda done, total: told.append(done))
    assert told == [], "the same merge again finds that nothing is to do"


def test_a_product_that_nobody_writes_stays_a_reject(catalogue: Path, tmp_path: Path) -> None:
    sources = [of_types(catalogue, "shirt"), of_types(catalogue, "skirt")]
    merge(tmp_path / "out", sources)
    assert_whole(tmp_path / "out")
    assert sorted(rejects(tmp_path / "out")) == sorted([("d1", "other_type"), ("d2", "other_type")] * 2)


def test_a_duplicate_stays_one_though_its_product_is_written(catalogue: Path, tmp_path: Path) -> None:
    sources = [of_types(catalogue, "shirt", "skirt"), of_types(catalogue, "skirt")]
    merge(tmp_path / "out", sources, on_duplicate="first")
    assert_whole(tmp_path / "out")
    merge(tmp_path / "again", [tmp_path / "out", of_types(catalogue, "dress")])
    assert_whole(tmp_path / "again")
    found = rejects(tmp_path / "again")
    assert [pair for pair in found if pair[1] == "duplicate_product"] == [
        ("k1", "duplicate_product"),
        ("k2", "duplicate_product"),
    ]
    assert {name for name, _ in found} == {"k1", "k2", "d2"}


def test_products_are_not_read_where_no_source_left_one_out(
    catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(catalogue / "shirt", tmp_path / "all", workers=0)
    read: list[str] = []
    usual = merge_rejects.batches
    monkeypatch.setattr(merge_rejects, "batches", lambda *given: read.append(given[1]) or usual(*given))
    assert not merge_rejects.Outdone([tmp_path / "all"]).counts and read == ["rejected.parquet"]
