import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.build import build
from shards.errors import BadData, BadUsage
from shards.index import DATASET, describe, read_dataset, sealed
from shards.places import place
from shards.repair import repair
from shards.summary import summarize
from shards.table_files import TABLES
from shards.verify import verify
from tests.shards.conftest import photograph


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def findings(folder: Path) -> list[str]:
    return [str(finding) for finding in verify(folder, full=True, workers=1).findings]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five products with strange names and attributes in three shards, three rejects, and two photographs alike."""
    folder = tmp_path_factory.mktemp("whole")
    root = folder / "photographs"
    rows = []
    for number, name in enumerate(["a", "b/ü", "c" * 80, "d", "e"]):
        paths = [photograph(root / f"{number}.png", 20 + number, 17, seed=number)]
        if number % 2:
            paths.append(shutil.copy(paths[0], root / f"{number}, again.png"))
        paths.append(photograph(root / f"{number}, other.png", 16, 24, seed=9 * number + 1))
        rows += [{"product_id": name, "image_path": str(path), "color": name[:1], "size": number} for path in paths]
    (root / "empty.png").touch()
    rows += [{"product_id": "a", "image_path": name} for name in ("photographs/empty.png", "gone.png")]
    rows += [{"product_id": "hopeless", "image_path": "gone.png"}]
    (folder / "catalogue.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build(folder / "catalogue.jsonl", folder / "out", shard_mib=0.008, workers=0)
    assert findings(folder / "out") == []
    dataset = read_dataset(folder / "out")
    assert len(dataset["shards"]) >= 3
    assert sum(dataset["counts"]["images_rejected"].values()) == 3
    assert dataset["counts"]["products_rejected"] == {"no_good_photographs": 1}
    assert pq.read_table(folder / "out" / "duplicates.parquet").num_rows == 2
    return folder / "out"


@pytest.fixture
def whole(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "out"))


def test_nothing_is_done_to_a_whole_data_set(whole: Path) -> None:
    before = files(whole)
    assert repair(whole) == []
    assert files(whole) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
@pytest.mark.parametrize("names", [["products.parquet"], ["images.parquet"], ["shard-000001.idx"], ["all"]])
def test_what_is_derived_comes_back_byte_for_byte(
    whole: Path, names: list[str], damage: Callable[[Path], None]
) -> None:
    before = files(whole)
    if names == ["all"]:
        names = ["products.parquet", "images.parquet", *(path.name for path in sorted(whole.glob("*.idx")))]
    for name in names:
        damage(whole / name)
    assert findings(whole)
    lines = repair(whole)
    assert sorted(line.partition(":")[0] for line in lines) == sorted(names)
    assert files(whole) == before
    assert findings(whole) == []


def test_tables_that_agree_with_dataset_json_but_not_with_the_tars(whole: Path) -> None:
    before = files(whole)
    table = pq.read_table(whole / "images.parquet")
    stale = table.set_column(3, table.schema.field(3), pa.array([512] * len(table), pa.int64()))
    pq.write_table(stale, whole / "images.parquet")
    dataset = read_dataset(whole)
    dataset["tables"]["images.parquet"] = describe(whole / "images.parquet")
    (whole / DATASET).write_bytes(sealed(dataset))
    assert findings(whole)
    assert repair(whole) == ["images.parquet: made again from the tars"]
    assert files(whole) == before


def test_the_same_rows_in_other_bytes_stay(whole: Path) -> None:
    """Another version of pyarrow wrote them."""
    pq.write_table(pq.read_table(whole / "images.parquet"), whole / "images.parquet", compression="none")
    dataset = read_dataset(whole)
    dataset["tables"]["images.parquet"] = describe(whole / "images.parquet")
    (whole / DATASET).write_bytes(sealed(dataset))
    before = files(whole)
    assert repair(whole) == []
    assert files(whole) == before


def test_of_lost_rejects_the_numbers_remain(whole: Path) -> None:
    counts = read_dataset(whole)["counts"]
    flip(whole / "rejected.parquet")
    (line,) = repair(whole)
    assert line == "rejected.parquet: lost; 4 rows with the reasons of dataset.json, without names"
    assert findings(whole) == []
    assert read_dataset(whole)["counts"] == counts
    found = summarize(whole)["rejected"]
    assert {reason: cases["count"] for reason, cases in found.items()} == {
        "missing_file": 2,
        "empty_file": 1,
        "no_good_photographs": 1,
    }
    example = found["empty_file"]["examples"][0]
    assert example["product_id"] == example["image_path"] == "" and "was lost" in example["detail"]
    assert repair(whole) == []


def test_lost_duplicates_are_not_recorded_any_more(whole: Path) -> None:
    cut(whole / "duplicates.parquet")
    assert repair(whole) == [
        "duplicates.parquet: lost; what looks alike is not recorded any more",
        "duplicates.parquet: removed; dataset.json does not list it",
    ]
    assert not (whole / "duplicates.parquet").exists()
    assert findings(whole) == [] and summarize(whole)["duplicates"] is None
    assert repair(whole) == []


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
def test_a_damaged_tar_is_named_and_nothing_is_changed(whole: Path, damage: Callable[[Path], None]) -> None:
    (whole / "products.parquet").unlink()
    damage(whole / "shard-000001.tar")
    flip(whole / "shard-000002.tar")
    before = files(whole)
    with pytest.raises(BadData, match=r"2 of \d tars can not be trusted: .*shard-000001\.tar.*shard-000002\.tar"):
        repair(whole)
    assert files(whole) == before


@pytest.mark.parametrize("old", ["512", "missing_file", "manifest"])
def test_a_changed_dataset_json_is_not_believed(whole: Path, old: str) -> None:
    path = whole / DATASET
    path.write_text(path.read_text().replace(old, "x" + old[1:] if old.isalpha() else "513", 1))
    before = files(whole)
    with pytest.raises(BadData, match="was changed after it was written"):
        repair(whole)
    assert files(whole) == before
    path.unlink()
    with pytest.raises(BadData, match="holds no"):
        repair(whole)


def test_shard_lines_that_count_otherwise_are_an_error(whole: Path) -> None:
    dataset = read_dataset(whole)
    dataset["shards"][0]["images"] += 1
    (whole / DATASET).write_bytes(sealed(dataset))
    with pytest.raises(BadData, match=r"by dataset\.json other numbers"):
        repair(whole)


def test_leftovers_go_and_foreign_things_stay(whole: Path) -> None:
    before = files(whole)
    for name in ("shard-000007.tar.partial", "images.parquet.partial", "shard-000099.idx"):
        (whole / name).write_bytes(b"left")
    (whole / ".build").mkdir()
    (whole / ".build" / "build.json").write_text("{}")
    (whole / "letter.txt").write_text("dear")
    assert len(findings(whole)) == 4
    lines = repair(whole)
    assert sorted(line.partition(":")[0] for line in lines) == [
        ".build",
        "images.parquet.partial",
        "shard-000007.tar.partial",
        "shard-000099.idx",
    ]
    assert files(whole) == before | {"letter.txt": b"dear"}
    assert findings(whole) == []
    shutil.copy(whole / "shard-000000.tar", whole / "shard-000099.tar")
    (line,) = repair(whole)
    assert "move it away" in line and (whole / "shard-000099.tar").exists()


def test_an_older_data_set_is_repaired_and_sealed(whole: Path) -> None:
    (whole / "duplicates.parquet").unlink()
    dataset = read_dataset(whole)
    del dataset["sha256"], dataset["tables"]["duplicates.parquet"]
    (whole / DATASET).write_text(json.dumps(dataset))
    assert repair(whole) == []
    flip(whole / "products.parquet")
    repair(whole)
    assert findings(whole) == [] and "duplicates.parquet" not in read_dataset(whole)["tables"]


def test_an_interrupted_repair_is_repaired(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before each rename in turn, with everything derived lost."""
    before = files(whole)
    for step in range(40):
        for name in ["products.parquet", "images.parquet", "shard-000000.idx", "shard-000002.idx", "rejected.parquet"]:
            (whole / name).unlink(missing_ok=True)
        done = [0]

        def replace(*paths: Path, step: int = step, done: list[int] = done, original: Callable = os.replace) -> None:
            if done[0] == step:
                raise KeyboardInterrupt
            done[0] += 1
            original(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            try:
                repair(whole)
                break
            except KeyboardInterrupt:
                pass
        repair(whole)
        assert findings(whole) == []
        after = files(whole)
        assert {name: data for name, data in after.items() if name not in ("rejected.parquet", DATASET)} == {
            name: data for name, data in before.items() if name not in ("rejected.parquet", DATASET)
        }
    assert 6 <= step < 40


def test_a_place_in_object_storage_is_refused() -> None:
    with pytest.raises(BadUsage, match="object storage"):
        repair(place("s3://bucket/dataset"))


def test_every_table_of_the_format_is_thought_of() -> None:
    assert set(TABLES) == {"products.parquet", "images.parquet", "rejected.parquet", "duplicates.parquet"}


def test_a_damaged_note_of_the_build_is_found_and_goes(dataset: Path) -> None:
    note = dataset / ".built.json"
    note.write_bytes(note.read_bytes().replace(b"catalog", b"CATALOG", 1))
    assert [finding.file for finding in verify(dataset).findings] == [".built.json"]
    assert repair(dataset) == [".built.json: removed; it was damaged, and only the same build command asks for it"]
    assert verify(dataset, full=True).findings == [] and not note.exists()
