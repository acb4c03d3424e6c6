"""Products that two sources have: refused, left out or united, and where their duplicates go."""

import json
from pathlib import Path

import pytest

from shards.build import build
from shards.errors import BadData
from shards.index import read_dataset
from shards.merge import merge
from tests.shards.conftest import photograph
from tests.shards.data_sets import assert_whole, made
from tests.shards.merge.conftest import content, tables, with_duplicates


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets that have x and y in common; z is alone in its shard and in both."""
    first = made(
        tmp_path / "a",
        {"a1": 1, "x": 2, "y": 1, "z": 1},
        labels={"x": {"color": "red", "attributes": {"size": 7, "fit": ""}}, "y": {"product_type": "shirt"}},
    )
    second = made(
        tmp_path / "b",
        {"b1": 1, "y": 2, "x": 3, "b2": 1, "z": 4},
        labels={"x": {"color": "blue", "product_type": "dress", "attributes": {"size": 8, "fit": "slim"}}},
    )
    return first, second


def test_a_product_in_two_sources_is_an_error_that_names_both(shared: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadData) as error:
        merge(tmp_path / "out", shared)
    for words in ("3 product ids twice", "'y'", "'x'", "'z'", str(shared[0]), str(shared[1])):
        assert words in str(error.value)
    assert not (tmp_path / "out").exists()


def test_first_leaves_the_later_product_out(shared: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = merge(tmp_path / "out", shared, on_duplicate="first")
    assert_whole(tmp_path / "out")
    first, second = map(content, shared)
    assert content(tmp_path / "out") == second | first
    assert list(content(tmp_path / "out")) == ["a1", "x", "y", "z", "b1", "b2"]
    counts = dataset["counts"]
    assert counts["products"] == 6 and counts["products_rejected"] == {"duplicate_product": 3}
    assert counts["images_written"] == 5 + 2
    assert counts["images_seen"] == counts["images_written"] + counts["images_rejected"]["missing_file"]
    left_out = [row for row in tables(tmp_path / "out", "rejected.parquet") if row["reason"] == "duplicate_product"]
    assert [row["product_id"] for row in left_out] == ["y", "x", "z"]
    assert all(str(shared[0]) in row["detail"] and str(shared[1]) in row["detail"] for row in left_out)


def test_merge_adds_the_later_photographs(shared: tuple[Path, Path], tmp_path: Path) -> None:
    dataset = merge(tmp_path / "out", shared, on_duplicate="merge")
    assert_whole(tmp_path / "out")
    first, second = map(content, shared)
    found = content(tmp_path / "out")
    assert list(found) == ["a1", "x", "y", "z", "b1", "b2"]
    for name in found:
        assert found[name][1] == first.get(name, ({}, []))[1] + second.get(name, ({}, []))[1]
    assert found["x"][0] == {
        "product_type": "dress",
        "color": "red",
        "split": "train",
        "attributes": '{"size": 7, "fit": "slim"}',
    }
    assert found["y"][0]["product_type"] == "shirt"
    counts, sources = dataset["counts"], [read_dataset(source)["counts"] for source in shared]
    assert counts["products_rejected"] == {} and counts["products"] == 6
    for name in ("images_seen", "images_written"):
        assert counts[name] == sum(source[name] for source in sources)


def test_shards_without_shared_products_stay_as_they_are(shared: tuple[Path, Path], tmp_path: Path) -> None:
    """And a shard that loses all of its products is not there any more."""
    dataset = merge(tmp_path / "out", shared, on_duplicate="first")
    sources = [read_dataset(source)["shards"] for source in shared]
    sums = [line["sha256"] for line in dataset["shards"]]
    assert sums[: len(sources[0])] == [line["sha256"] for line in sources[0]]
    assert len(sums) < len(sources[0]) + len(sources[1])


def test_three_sources_with_one_product(tmp_path: Path) -> None:
    sources = [made(tmp_path / name, {"x": number + 1, name: 1}) for number, name in enumerate("abc")]
    merge(tmp_path / "out", sources, on_duplicate="merge")
    assert_whole(tmp_path / "out")
    assert content(tmp_path / "out")["x"][1] == [data for source in sources for data in content(source)["x"][1]]
    merge(tmp_path / "first", sources, on_duplicate="first")
    assert_whole(tmp_path / "first")
    assert content(tmp_path / "first")["x"] == content(sources[0])["x"]


def test_duplicates_follow_their_photographs(shared: tuple[Path, Path], tmp_path: Path) -> None:
    """Views of the second source are counted behind those of the first."""
    with_duplicates(shared[0], ("x", 1, "near", "x", 0, 2))
    rows = [("y", 1, "near", "y", 0, 1), ("x", 2, "near", "x", 1, 3)]
    with_duplicates(shared[1], *rows)
    merge(tmp_path / "out", shared, on_duplicate="merge")
    assert_whole(tmp_path / "out")
    found = [tuple(row.values()) for row in tables(tmp_path / "out", "duplicates.parquet")]
    assert found == [("x", 1, "near", "x", 0, 2), ("y", 2, "near", "y", 1, 1), ("x", 4, "near", "x", 3, 3)]
    merge(tmp_path / "first", shared, on_duplicate="first")
    assert_whole(tmp_path / "first")
    assert [tuple(row.values()) for row in tables(tmp_path / "first", "duplicates.parquet")] == found[:1]


def test_a_duplicate_that_moves_before_its_original_changes_places_with_it(tmp_path: Path) -> None:
    """b2 and x show the same bytes; x is behind b2 in the second source, and before it when it joins the first's x."""
    first = with_duplicates(made(tmp_path / "a", {"x": 1}))
    folder = tmp_path / "b" / "photographs"
    same = photograph(folder / "same.png", seed=5)
    lines = [{"product_id": name, "image_path": str(same)} for name in ("b2", "x")]
    (tmp_path / "b" / "catalogue.jsonl").write_text("\n".join(map(json.dumps, lines)))
    build(tmp_path / "b" / "catalogue.jsonl", tmp_path / "b" / "out", workers=0)
    second = with_duplicates(tmp_path / "b" / "out", ("x", 0, "exact", "b2", 0, 0))
    assert_whole(second)
    merge(tmp_path / "out", [first, second], on_duplicate="merge")
    assert_whole(tmp_path / "out")
    assert [tuple(row.values()) for row in tables(tmp_path / "out", "duplicates.parquet")] == [
        ("b2", 0, "exact", "x", 1, 0)
    ]
