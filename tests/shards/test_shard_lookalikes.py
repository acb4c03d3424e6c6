"""Duplicates in a build: listed when they are kept, rejects with a reason when they are dropped."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from shards.build import Progress, build
from shards.errors import BadUsage
from shards.verify import verify
from tests.shards.conftest import photograph
from tests.shards.data_sets import contents


@pytest.fixture
def repeating(tmp_path: Path) -> Path:
    """a: two photographs and a brighter copy of the first; b: a's second and one of its own; c: a's first alone."""
    root = tmp_path / "c"
    photograph(root / "a" / "0.png", 64, 64, seed=1)
    photograph(root / "a" / "1.png", 64, 64, seed=2)
    Image.open(root / "a" / "0.png").point(lambda value: value + 10).save(root / "a" / "2.png")
    photograph(root / "b" / "0.png", 64, 64, seed=3)
    shutil.copy(root / "a" / "1.png", root / "b" / "1.png")
    (root / "c").mkdir()
    shutil.copy(root / "a" / "0.png", root / "c" / "0.png")
    return root


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{table}.parquet").to_pylist()


def test_kept_duplicates_are_listed(repeating: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    dataset = build(repeating, tmp_path / "out", workers=0, progress=seen.append)
    near, *exact = rows(tmp_path / "out", "duplicates")
    assert (near.pop("distance") <= 4) and near == {"key": "a", "view": 2, "kind": "near", "of_key": "a", "of_view": 0}
    assert exact == [
        {"key": "b", "view": 1, "kind": "exact", "of_key": "a", "of_view": 1, "distance": 0},
        {"key": "c", "view": 0, "kind": "exact", "of_key": "a", "of_view": 0, "distance": 0},
    ]
    assert dataset["counts"]["images_written"] == 6 and seen[-1].duplicates == {"near": 1, "exact": 2}
    assert "drop_duplicates" not in dataset["options"]
    assert verify(tmp_path / "out", full=True).findings == []


@pytest.mark.parametrize("drop", [["near"], ["exact"], ["exact", "near"]])
def test_dropped_duplicates_are_rejects(repeating: Path, tmp_path: Path, drop: list[str]) -> None:
    dataset = build(repeating, tmp_path / "out", workers=0, drop_duplicates=drop)
    assert dataset["options"]["drop_duplicates"] == sorted(drop, reverse=True)
    rejected = {(row["product_id"], Path(row["image_path"]).name): row for row in rows(tmp_path / "out", "rejected")}
    expected = {("a", "2.png"): "near_duplicate"} if "near" in drop else {}
    if "exact" in drop:
        expected |= {
            ("b", "1.png"): "exact_duplicate",
            ("c", "0.png"): "exact_duplicate",
            ("c", ""): "no_good_photographs",
        }
        assert rejected["b", "1.png"]["detail"] == "same bytes as view 1 of product 'a'"
        assert rejected["c", "0.png"]["detail"] == "same bytes as view 0 of product 'a'"
    if "near" in drop:
        assert rejected["a", "2.png"]["detail"].endswith("of 64 bits from view 0 of product 'a'")
    assert {name: row["reason"] for name, row in rejected.items()} == expected
    counts = dataset["counts"]
    assert counts["images_seen"] == 6 == counts["images_written"] + sum(counts["images_rejected"].values())
    assert counts["products"] == (2 if "exact" in drop else 3)
    kinds = {row["kind"] for row in rows(tmp_path / "out", "duplicates")}
    assert kinds == {"near", "exact"} - set(drop)
    assert verify(tmp_path / "out", full=True).findings == []


def test_views_are_counted_after_the_dropping(tmp_path: Path) -> None:
    """The photographs of b: a's, one of its own, one like it, another of a's, one like the own one again."""
    root = tmp_path / "c"
    for number, seed in enumerate((1, 2)):
        photograph(root / "a" / f"{number}.png", 64, 64, seed=seed)
    for number, seed in enumerate((1, 3, 3, 2, 3)):
        photograph(root / "b" / f"{number}.png", 64, 64, seed=seed)
    build(root, tmp_path / "exact", workers=0, drop_duplicates=["exact"])
    found = [
        (row["view"], row["kind"], row["of_key"], row["of_view"]) for row in rows(tmp_path / "exact", "duplicates")
    ]
    assert found == [(1, "near", "b", 0), (2, "near", "b", 0)]
    build(root, tmp_path / "near", workers=0, drop_duplicates=["near"])
    found = [(row["view"], row["kind"], row["of_key"], row["of_view"]) for row in rows(tmp_path / "near", "duplicates")]
    assert found == [(0, "exact", "a", 0), (2, "exact", "a", 1)]
    details = [row["detail"] for row in rows(tmp_path / "near", "rejected")]
    assert details == ["0 of 64 bits from view 1 of product 'b'"] * 2


def test_a_photograph_that_very_many_products_have_is_compared_with_one(tmp_path: Path) -> None:
    """Also in other shards, and with ids that are not their keys."""
    source = photograph(tmp_path / "c" / "p 0" / "0.png", 20, 20)
    for number in range(1, 60):
        (tmp_path / "c" / f"p {number}").mkdir()
        shutil.copy(source, tmp_path / "c" / f"p {number}" / "0.png")
    build(tmp_path / "c", tmp_path / "out", workers=0, shard_mib=0.01)
    found = rows(tmp_path / "out", "duplicates")
    assert len(found) == 59 and {(row["of_key"], row["of_view"]) for row in found} == {("p%200", 0)}
    build(tmp_path / "c", tmp_path / "dropped", workers=0, shard_mib=0.01, drop_duplicates=["exact"])
    details = {row["detail"] for row in rows(tmp_path / "dropped", "rejected") if row["image_path"]}
    assert details == {"same bytes as view 0 of product 'p 0'"}


def test_equal_sums_alone_are_no_duplicate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an index that takes all photographs for equal, the bytes decide."""
    monkeypatch.setattr("shards.duplicates._key", lambda crc32, size: 1)
    for number, seed in enumerate((1, 2, 1)):
        photograph(tmp_path / "c" / f"p{number}" / "0.png", 32, 32, seed=seed)
    build(tmp_path / "c", tmp_path / "out", workers=0)
    assert [(row["key"], row["of_key"]) for row in rows(tmp_path / "out", "duplicates")] == [("p2", "p0")]


def test_unknown_kinds_are_refused(repeating: Path, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="similar"):
        build(repeating, tmp_path / "out", drop_duplicates=["similar"])
    assert not (tmp_path / "out").exists()


def test_workers_change_nothing(repeating: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        build(repeating, tmp_path / str(workers), workers=workers, drop_duplicates=["near"])
    assert contents(tmp_path / "0") == contents(tmp_path / "2")
