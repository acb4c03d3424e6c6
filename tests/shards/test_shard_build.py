import json
import re
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.append import append
from shards.build import Progress, build
from shards.errors import BadData, BadUsage
from shards.index import describe, read_dataset
from shards.normalize import Jpeg
from shards.selection import Selection
from shards.table_files import TABLES, TableWriter, batch_of
from shards.writer import ShardWriter, header
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


@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=100),
    size=st.integers(0, 8**11 - 1),
)
def test_a_header_is_the_one_that_tarfile_writes(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    assert header(name, size) == member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def test_a_header_has_no_room_for_more() -> None:
    for name, size in (("n" * 101, 0), ("n", 8**11)):
        with pytest.raises(ValueError, match="no room"):
            header(name, size)


@given(pieces=st.lists(st.integers(1, 9), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_table_depends_on_its_rows_alone(pieces: list[int], tmp_path: Path) -> None:
    """However the rows come: one by one, in batches, or both, with row groups of seven."""
    rows = [(f"key-{number}", number, "near", "key", 0, number % 5) for number in range(sum(pieces))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shards.table_files.ROW_GROUP", 7)
        alone, mixed = (TableWriter(tmp_path / name, "duplicates.parquet") for name in _folders(tmp_path))
        for row in rows:
            alone.add(*row)
        done = 0
        for number, count in enumerate(pieces):
            part = rows[done : done + count]
            done += count
            if number % 3:
                mixed.add_batch(batch_of(part, TABLES["duplicates.parquet"]))
            else:
                for row in part:
                    mixed.add(*row)
        alone.close()
        mixed.close()
    assert alone.path.read_bytes() == mixed.path.read_bytes() and alone.line == mixed.line == describe(mixed.path)
    table = pq.ParquetFile(mixed.path)
    groups = [table.metadata.row_group(number).num_rows for number in range(table.num_row_groups)]
    assert sum(groups) == len(rows) and all(count == 7 for count in groups[:-1])
    assert [tuple(row.values()) for row in table.read().to_pylist()] == rows


def _folders(tmp_path: Path) -> tuple[str, str]:
    for name in ("alone", "mixed"):
        (tmp_path / name).mkdir(exist_ok=True)
    return "alone", "mixed"


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


@pytest.mark.parametrize(("max_bytes", "shards"), [(5120, 1), (5119, 2)])
def test_the_blocks_that_end_an_archive_count_for_its_size(tmp_path: Path, max_bytes: int, shards: int) -> None:
    """Two products of 2 x (512 + 512) bytes and two blocks of 512; the padding to a whole record counts for nothing."""
    writer = ShardWriter(tmp_path, max_bytes)
    for key in ("a", "b"):
        writer.add(key, b"{}", [Jpeg(b"x" * 512, 1, 1)])
    writer.close()
    assert [shard.products for shard in writer.finished] == ([2] if shards == 1 else [1, 1])
