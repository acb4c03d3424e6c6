import json
import shutil
import statistics
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import build
from shards.counting import Progress
from shards.errors import BadData
from shards.index import read_dataset
from shards.merge import merge
from shards.repair import repair
from shards.sheet import write_sheet
from shards.summary import build_lines, summarize, summary_lines
from shards.table_files import TABLES
from shards.verify import verify
from skill_fast.data.index import open_index
from tests.shards.conftest import photograph


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four products of two types and one variant group, with seven photographs, and four rejects of two reasons."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = ["product_id,image_path,product_type,color,variant_group"]
    for number, (name, kind, color, group) in enumerate(
        [("a", "shirt", "red", "g"), ("b", "shirt", "blue", "g"), ("c", "dress", "", "h"), ("d", "shirt", "red", "")]
    ):
        for view in range(1 + number % 3):
            path = photograph(folder / f"{name}{view}.png", 20 + 5 * number, 24 + view, seed=number + view)
            lines.append(f"{name},{path},{kind},{color},{group}")
    (folder / "empty.jpg").touch()
    lines += ["a,empty.jpg,,,", *(f"a,gone{number}.jpg,,," for number in range(4))]
    (folder / "catalogue.csv").write_text("\n".join(lines))
    build(folder / "catalogue.csv", folder / "out", workers=0)
    return folder / "out"


@pytest.fixture
def labelled(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "out"))


def test_the_summary_is_what_counting_the_rows_gives(labelled: Path) -> None:
    products = pq.read_table(labelled / "products.parquet").to_pylist()
    images = pq.read_table(labelled / "images.parquet").to_pylist()
    found = summarize(labelled)
    assert found["dataset"] == read_dataset(labelled)
    for label in ("product_type", "color", "pattern", "split"):
        assert found["labels"][label] == Counter(product[label] for product in products)
    assert list(found["labels"]["product_type"]) == ["shirt", "dress"], "most frequent first"
    assert found["variant_groups"] == 1
    assert found["photographs_per_product"] == {"1": 2, "2": 1, "3": 1}
    sides = [max(image["height"], image["width"]) for image in images]
    assert found["image_side"] == [min(sides), statistics.median_low(sides), max(sides)]
    assert found["image_bytes"] == sum(image["size"] for image in images)
    assert found["bytes"] == sum(path.stat().st_size for path in labelled.glob("*.tar"))
    assert {reason: cases["count"] for reason, cases in found["rejected"].items()} == {
        "missing_file": 4,
        "empty_file": 1,
    }
    examples = found["rejected"]["missing_file"]["examples"]
    assert [Path(example["image_path"]).name for example in examples] == [f"gone{number}.jpg" for number in range(3)]
    assert json.loads(json.dumps(found)) == found


def test_the_lines_name_every_subject(labelled: Path) -> None:
    text = "\n".join(summary_lines(labelled, summarize(labelled)))
    for words in (
        "7 written of 12 seen",
        "4, 1 variant groups of two or more",
        "shirt 3, dress 1",
        "(unknown) 1",
        "2 with 1, 1 with 2, 1 with 3",
        "missing_file 4, empty_file 1",
        "gone0.jpg",
    ):
        assert words in text


def test_where_a_data_set_came_from_is_said_shortly(labelled: Path) -> None:
    found = summarize(labelled)
    found["dataset"]["options"] |= {
        "merged_from": ["a" * 64, "b" * 64],
        "appended": [{"source_format": "hm", "already_there": 9, "products": 2, "images_written": 3}],
    }
    (line,) = [line for line in summary_lines(labelled, found) if line.startswith("built from")]
    assert line.endswith("shard_mib 256, merged from aaaaaaaaaaaa, bbbbbbbbbbbb, appended 2 products of hm")


def test_duplicates_are_counted_by_kind(labelled: Path) -> None:
    row = {"key": "b", "view": 1, "kind": "near", "of_key": "b", "of_view": 0, "distance": 3}
    table = pa.Table.from_pylist([row, row, row | {"kind": "exact"}], schema=TABLES["duplicates.parquet"])
    pq.write_table(table, labelled / "duplicates.parquet")
    dataset = read_dataset(labelled)
    dataset["tables"]["duplicates.parquet"] = {"bytes": 0, "sha256": ""}
    (labelled / "dataset.json").write_text(json.dumps(dataset))
    assert summarize(labelled)["duplicates"] == {"near": 2, "exact": 1}


def test_a_damaged_table_is_an_error(labelled: Path) -> None:
    (labelled / "products.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises(BadData, match=r"products\.parquet"):
        summarize(labelled)
    pq.write_table(pa.table({"key": ["a"]}), labelled / "products.parquet")
    with pytest.raises(BadData, match="lacks product_id string"):
        summarize(labelled)


def test_memory_does_not_grow_with_the_rows_but_for_8_bytes(labelled: Path) -> None:
    peaks = []
    for products in (20_000, 80_000):
        table = {
            field.name: np.full(products, 7) if pa.types.is_integer(field.type) else np.full(products, "x")
            for field in TABLES["products.parquet"]
        }
        table["variant_group"] = np.arange(products).astype(str)
        pq.write_table(pa.table(table, schema=TABLES["products.parquet"]), labelled / "products.parquet")
        tracemalloc.start()
        found = summarize(labelled)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found["labels"]["product_type"] == {"x": products} and found["variant_groups"] == 0
    assert peaks[1] - peaks[0] < 60_000 * 40, peaks


def test_the_end_of_a_build_says_what_was_left_out_and_why(labelled: Path) -> None:
    dataset = read_dataset(labelled)
    dataset["counts"]["products_rejected"] = {"other_type": 3}
    done = Progress(images_total=12, images_seen=12, images_written=7, products=4)
    done.examples["missing_file"] = "gone0.jpg: not found"
    lines = list(build_lines(labelled, dataset, done, 2.0))
    assert "4 products, 7 images, 1 shard" in lines[0] and "6 images/s" in lines[0]
    assert any("rejected      4  missing_file" in line and line.endswith("gone0.jpg: not found") for line in lines)
    assert any("left out      3  other_type" in line for line in lines)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("ty\\x1b[2Jpe", "ty\x1b[2Jpe"),
        ("\\x9b\\n\\u202e", "\x9b\n\u202e"),
        ("größe\u3000衣", "größe\u3000衣"),
        ("\\ud800", "\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(shown: str, text: str, labelled: Path) -> None:
    summary = summarize(labelled)
    summary["labels"]["product_type"] = {text: 2}
    assert f"product_type  {shown} 2" in list(summary_lines(labelled, summary))
    done = Progress(examples={"missing_file": text})
    assert any(line.endswith(f" {shown}") for line in build_lines(labelled, read_dataset(labelled), done, 1.0))


@pytest.mark.parametrize("depth", [100, 100_000])
def test_json_that_is_too_deep_is_named(labelled: Path, tmp_path: Path, depth: int) -> None:
    path = labelled / "dataset.json"
    dataset = read_dataset(labelled)
    dataset["options"]["deep"] = 0
    path.write_text(json.dumps(dataset).replace('"deep": 0', '"deep": ' + "[" * depth + "]" * depth))
    for work in (
        summarize,
        verify,
        repair,
        open_index,
        lambda folder: merge(tmp_path / "merged", [folder]),
        lambda folder: append(tmp_path / "catalogue.csv", folder, format="manifest"),
        lambda folder: write_sheet(folder, tmp_path / "sheet.jpg"),
    ):
        with pytest.raises(BadData, match=r"dataset\.json' has objects and lists too deep"):
            work(labelled)


def test_a_dataset_json_beyond_all_measure_is_not_read(labelled: Path) -> None:
    with (labelled / "dataset.json").open("r+b") as file:
        file.truncate((1 << 30) + 1)
    for work in (read_dataset, open_index):
        with pytest.raises(BadData, match=r"dataset\.json' has 1,073,741,825 bytes"):
            work(labelled)
