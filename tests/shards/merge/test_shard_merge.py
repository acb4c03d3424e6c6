"""What a merge writes: the tars of its sources as they are, their tables one behind the other."""

import json
from pathlib import Path
from typing import Any

import pytest

from shards.errors import BadData, BadUsage
from shards.index import DATASET, read_dataset
from shards.merge import merge
from tests.shards.data_sets import assert_whole, made
from tests.shards.merge.conftest import content, tables, with_duplicates


def test_tars_are_copied_byte_for_byte_and_tables_follow(two: tuple[Path, Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    dataset = merge(tmp_path / "out", two, progress=lambda *state: told.append(state))
    assert_whole(tmp_path / "out")
    sources = [read_dataset(source) for source in two]
    lines = [line for source in sources for line in source["shards"]]
    assert len(sources[0]["shards"]) > 1 < len(sources[1]["shards"])
    for suffix in (".tar", ".idx"):
        before = [path.read_bytes() for source in two for path in sorted(source.glob(f"*{suffix}"))]
        assert [path.read_bytes() for path in sorted((tmp_path / "out").glob(f"*{suffix}"))] == before
    assert [line | {"name": ""} for line in dataset["shards"]] == [line | {"name": ""} for line in lines]
    assert content(tmp_path / "out") == content(two[0]) | content(two[1])
    assert dataset == read_dataset(tmp_path / "out")
    for name in ("products", "images_seen", "images_written"):
        assert dataset["counts"][name] == sum(source["counts"][name] for source in sources)
    assert dataset["counts"]["images_rejected"] == {"missing_file": 2}
    assert dataset["options"]["merged_from"] == [source["fingerprint"] for source in sources]
    assert tables(tmp_path / "out", "rejected.parquet") == [
        row for source in two for row in tables(source, "rejected.parquet")
    ]
    total = sum(line["bytes"] for line in lines)
    assert len(told) == len(lines) and told[-1] == (total, total)


def test_the_same_sources_give_the_same_bytes(two: tuple[Path, Path], tmp_path: Path) -> None:
    for out in ("x", "y"):
        merge(tmp_path / out, two)
    files = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "y").iterdir()} == files
    assert not any(name.startswith(".") for name in files)


def test_merged_data_sets_can_be_merged(two: tuple[Path, Path], tmp_path: Path) -> None:
    third = made(tmp_path / "c", {"c1": 1})
    once = merge(tmp_path / "out", two)
    merge(tmp_path / "more", [tmp_path / "out", third])
    assert_whole(tmp_path / "more")
    assert read_dataset(tmp_path / "more")["options"]["merged_from"][0] == once["fingerprint"]
    assert content(tmp_path / "more") == content(tmp_path / "out") | content(third)


@pytest.mark.parametrize(("option", "value"), [("preprocess", "none"), ("max_side", 64), ("jpeg_quality", 80)])
def test_what_decides_pixels_must_agree(two: tuple[Path, Path], tmp_path: Path, option: str, value: Any) -> None:
    other = made(tmp_path / "c", {"c1": 1}, **{option: value})
    with pytest.raises(BadUsage, match=f"{option} .* with {value}"):
        merge(tmp_path / "out", [*two, other])
    assert not (tmp_path / "out").exists()


def test_what_one_source_did_not_record_is_not_recorded(two: tuple[Path, Path], tmp_path: Path) -> None:
    with_duplicates(two[0])
    dataset = read_dataset(two[1])
    dataset["tables"].pop("duplicates.parquet", None)
    (two[1] / "duplicates.parquet").unlink(missing_ok=True)
    (two[1] / DATASET).write_text(json.dumps({name: value for name, value in dataset.items() if name != "sha256"}))
    assert "duplicates.parquet" not in merge(tmp_path / "out", two)["tables"]
    assert_whole(tmp_path / "out")


@pytest.mark.parametrize("damage", ["tar", "size", "index"])
def test_a_damaged_source_leaves_no_data_set(two: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    path = two[1] / ("shard-000001.idx" if damage == "index" else "shard-000001.tar")
    data = bytearray(path.read_bytes())
    data[700 if damage == "tar" else 0] ^= 1
    path.unlink() if damage == "index" else path.write_bytes(data + b"\0" * (damage == "size"))
    with pytest.raises(BadData, match=path.name):
        merge(tmp_path / "out", two)
    assert not (tmp_path / "out" / DATASET).exists()
    assert not list((tmp_path / "out").glob("*.partial")) if (tmp_path / "out").exists() else True


def test_an_interrupted_merge_starts_over(two: tuple[Path, Path], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    merge(tmp_path / "whole", two)
    with pytest.raises(KeyboardInterrupt):
        merge(tmp_path / "out", two, progress=stop)
    with pytest.raises(BadData):
        read_dataset(tmp_path / "out")
    merge(tmp_path / "out", two)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("sizes", [(1, 0.005), (0.005, 1)])
def test_of_two_sizes_of_shards_the_larger_is_noted(tmp_path: Path, sizes: tuple[float, float]) -> None:
    """No shard is larger than the data set says."""
    sources = [made(tmp_path / name, {name: 1}, shard_mib=size) for name, size in zip("ab", sizes, strict=True)]
    assert merge(tmp_path / "out", sources)["options"]["shard_mib"] == 1
