import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards.build import Progress, build
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from tests.shards.conftest import photograph


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a final name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_two_builds_are_equal_byte_for_byte_for_any_number_of_workers(catalogue: Path, tmp_path: Path) -> None:
    (catalogue / "dress" / "d-9" / "broken.jpg").write_bytes(b"no image")
    for name, processes in (("one", 1), ("again", 1), ("three", 3)):
        build(catalogue, tmp_path / name, shard_mib=0.01, workers=processes)
    assert contents(tmp_path / "one") == contents(tmp_path / "again") == contents(tmp_path / "three")


def test_the_law_holds_and_every_reject_is_listed(catalogue: Path, tmp_path: Path) -> None:
    photograph(catalogue / "root.png")
    (catalogue / "shirt" / "s 1" / "empty.jpg").touch()
    (catalogue / "shirt" / "s 1" / "page.jpg").write_text("<html>")
    (catalogue / "dress" / "none").mkdir()
    (catalogue / "dress" / "bad").mkdir()
    (catalogue / "dress" / "bad" / "a.jpg").touch()
    shown: list[int] = []
    dataset = build(catalogue, tmp_path / "out", workers=1, progress=lambda done: shown.append(done.images_seen))
    counts = dataset["counts"]
    assert counts["images_rejected"] == {"empty_file": 2, "not_an_image": 1, "outside_product": 1}
    assert counts["products_rejected"] == {"no_photographs": 1, "no_good_photographs": 1}
    assert counts["images_seen"] == counts["images_written"] + 4 == 12 + 4
    assert counts["products"] == 6
    rows = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert Counter(row["reason"] for row in rows) == Counter(counts["images_rejected"] | counts["products_rejected"])
    assert shown == sorted(shown) and shown[-1] == 16
    assert dataset == read_dataset(tmp_path / "out")


def test_labels_of_a_folder_and_natural_order(dataset: Path) -> None:
    products = pq.read_table(dataset / "products.parquet").to_pylist()
    assert [row["product_id"] for row in products] == ["d-9", "d-10", "long" * 30, "Größe", "s 1", "s.2"]
    assert {row["product_type"] for row in products} == {"dress", "shirt"}
    assert {(row["color"], row["pattern"], row["split"], row["attributes"]) for row in products} == {
        ("", "", "train", "{}")
    }


def test_a_shard_rolls_at_its_size_and_keeps_products_whole(catalogue: Path, tmp_path: Path) -> None:
    dataset = build(catalogue, tmp_path / "out", shard_mib=0.02, workers=1)
    assert len(dataset["shards"]) > 1
    for shard in dataset["shards"]:
        # A record of 10,240 bytes is the unit of an archive's end.
        assert shard["bytes"] <= 0.02 * 2**20 + 10240 or shard["products"] == 1
    assert sum(shard["products"] for shard in dataset["shards"]) == 6


def test_a_product_of_more_than_a_hundred_photographs(tmp_path: Path) -> None:
    source = photograph(tmp_path / "c" / "p" / "0.png", 16, 16)
    for view in range(1, 102):
        shutil.copy(source, source.with_name(f"{view}.png"))
    build(tmp_path / "c", tmp_path / "out", workers=1)
    index = (tmp_path / "out" / "shard-000000.idx").read_text().split()
    assert "p.99.jpg" in index and "p.100.jpg" in index and "p.101.jpg" in index


def test_nothing_usable_is_an_error_and_leaves_no_dataset(tmp_path: Path) -> None:
    photograph(tmp_path / "c" / "p" / "0.png").write_bytes(b"")
    with pytest.raises(BadData, match="empty_file"):
        build(tmp_path / "c", tmp_path / "out", workers=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unfinished_build_is_taken_up_and_foreign_files_are_kept(catalogue: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at_third(done: Progress) -> None:
        if done.products == 3:
            raise Stop

    out = tmp_path / "out"
    with pytest.raises(Stop):
        build(catalogue, out, shard_mib=0.01, workers=1, progress=stop_at_third)
    left = {path.name for path in out.iterdir()}
    assert "shard-000000.tar" in left and "dataset.json" not in left
    assert not [name for name in left if name.endswith(".partial")]
    (out / "shard-000077.tar.partial").write_bytes(b"torn")
    build(catalogue, out, shard_mib=0.01, workers=1)
    build(catalogue, tmp_path / "whole", shard_mib=0.01, workers=1)
    assert contents(out) == contents(tmp_path / "whole")

    (out / "notes.txt").write_text("mine")
    with pytest.raises(BadUsage, match="finished data set"):
        build(catalogue, out, workers=1)
    dataset = build(catalogue, out, workers=1, overwrite=True)
    assert len(dataset["shards"]) == 1 and (out / "notes.txt").read_text() == "mine"
    assert len(list(out.glob("shard-*"))) == 2


def test_options_out_of_range_are_refused(catalogue: Path, tmp_path: Path) -> None:
    for options in (
        {"preprocess": "h"},
        {"max_side": 4},
        {"jpeg_quality": 0},
        {"shard_mib": 0},
        {"format": "nothing"},
        {"designs": 3},
        {"workers": -1},
    ):
        with pytest.raises(BadUsage):
            build(catalogue, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_demo_names_its_options(tmp_path: Path) -> None:
    dataset = build("demo", tmp_path / "out", workers=1, designs=2, photo_side=32, seed=5)
    assert dataset["options"]["demo"] == {"designs": 2, "photo_side": 32, "seed": 5}
    assert dataset["options"]["source_format"] == "demo"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == dataset
