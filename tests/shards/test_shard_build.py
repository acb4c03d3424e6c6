"""What a build writes: the same bytes from any workers, every reject accounted for, options as they were chosen."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from shards.build import build
from shards.errors import BadData, BadUsage
from shards.index import read_dataset
from shards.selection import Selection
from tests.shards.conftest import photograph
from tests.shards.data_sets import contents


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
    dataset = build(catalogue, tmp_path / "out", workers=0, progress=lambda done: shown.append(done.images_seen))
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
    dataset = build(catalogue, tmp_path / "out", shard_mib=0.02, workers=0)
    assert len(dataset["shards"]) > 1
    for shard in dataset["shards"]:
        # A record of 10,240 bytes is the unit of an archive's end.
        assert shard["bytes"] <= 0.02 * 2**20 + 10240 or shard["products"] == 1
    assert sum(shard["products"] for shard in dataset["shards"]) == 6


def test_a_product_of_more_than_a_hundred_photographs(tmp_path: Path) -> None:
    source = photograph(tmp_path / "c" / "p" / "0.png", 16, 16)
    for view in range(1, 102):
        shutil.copy(source, source.with_name(f"{view}.png"))
    build(tmp_path / "c", tmp_path / "out", workers=0)
    index = (tmp_path / "out" / "shard-000000.idx").read_text().split()
    assert "p.99.jpg" in index and "p.100.jpg" in index and "p.101.jpg" in index


def test_nothing_usable_is_an_error_and_leaves_no_dataset(tmp_path: Path) -> None:
    photograph(tmp_path / "c" / "p" / "0.png").write_bytes(b"")
    with pytest.raises(BadData, match="empty_file"):
        build(tmp_path / "c", tmp_path / "out", workers=0)
    assert list((tmp_path / "out").iterdir()) == []


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
    dataset = build("demo", tmp_path / "out", workers=0, designs=2, photo_side=32, seed=5)
    assert dataset["options"]["demo"] == {"designs": 2, "photo_side": 32, "seed": 5}
    assert dataset["options"]["source_format"] == "demo"
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == dataset


def test_what_differs_from_the_default_is_recorded_and_nothing_else(catalogue: Path, tmp_path: Path) -> None:
    plain = build(catalogue, tmp_path / "plain", workers=0)
    assert set(plain["options"]) == {"source_format", "preprocess", "max_side", "jpeg_quality", "shard_mib"}
    chosen = build(
        catalogue,
        tmp_path / "chosen",
        workers=0,
        crop_to_item=["dress"],
        drop_duplicates=["exact"],
        on_duplicate="merge",
        selection=Selection(types=("dress",), cap_per_type=2, split=(("train", 0.5), ("test", 0.5))),
    )
    assert {name: value for name, value in chosen["options"].items() if name not in plain["options"]} == {
        "types": ["dress"],
        "cap_per_type": 2,
        "split": {"train": 0.5, "test": 0.5},
        "crop_to_item": ["dress"],
        "drop_duplicates": ["exact"],
        "on_duplicate": "merge",
    }
    counts = chosen["counts"]
    assert counts["products"] == 2 and counts["products_rejected"] == {"other_type": 3, "over_cap": 1}
    assert counts["images_seen"] == counts["images_written"]


def test_crop_to_item_is_for_the_named_types(tmp_path: Path) -> None:
    """A small dark square on grey ground, of both types: one type is cut to it."""
    for kind in ("shirt", "dress"):
        image = Image.new("RGB", (120, 120), (150, 150, 150))
        image.paste((20, 30, 90), (40, 40, 80, 80))
        (tmp_path / "c" / kind / kind).mkdir(parents=True)
        image.save(tmp_path / "c" / kind / kind / "0.png")
    build(tmp_path / "c", tmp_path / "out", workers=0, crop_to_item=["dress"])
    widths = pq.read_table(tmp_path / "out" / "images.parquet", columns=["key", "width"]).to_pylist()
    assert [(row["key"], row["width"] < 80) for row in widths] == [("dress", True), ("shirt", False)]
