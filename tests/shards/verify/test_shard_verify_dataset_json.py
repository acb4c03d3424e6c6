"""A dataset.json that is damaged, forged or from before its seal."""

import json
from pathlib import Path
from typing import Any

import pytest

from shards.errors import BadData
from shards.index import fingerprint, read_dataset, sealed
from shards.verify import verify
from tests.shards.verify.conftest import is_found


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"format": "skill-shards", "version": 2}', '{"format": "skill-shards", "version": 1}', "null"],
)
def test_a_damaged_dataset_json_is_an_error(dataset: Path, text: str) -> None:
    (dataset / "dataset.json").write_text(text)
    with pytest.raises(BadData):
        verify(dataset)


def test_a_shard_name_may_not_lead_out_of_the_folder(dataset: Path) -> None:
    path = dataset / "dataset.json"
    path.write_text(path.read_text().replace("shard-000000.tar", "../shard-000000.tar"))
    with pytest.raises(BadData, match="shards"):
        read_dataset(dataset)


def test_the_names_of_the_shards_are_numbered_without_a_gap(tiny: Path) -> None:
    dataset = read_dataset(tiny)
    dataset["shards"][1]["name"] = "shard-000007.tar"
    dataset["fingerprint"] = fingerprint(dataset["shards"])
    (tiny / "shard-000001.tar").rename(tiny / "shard-000007.tar")
    (tiny / "shard-000001.idx").rename(tiny / "shard-000007.idx")
    (tiny / "dataset.json").write_bytes(sealed(dataset))
    assert [finding.what for finding in verify(tiny).findings] == ["name of shard 1"]


def paths_of(value: Any, path: tuple = ()) -> list[tuple]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, child in children for found in paths_of(child, (*path, name)))]


def test_no_value_of_dataset_json_is_believed(tiny: Path) -> None:
    """Each value in turn replaced by each of these, or gone: an error that says so, or a finding."""
    dataset = read_dataset(tiny)
    for path in paths_of(dataset)[1:]:
        for value in ({}, [], None, -1, 1.5, True, "x", [{}], ...):
            changed = json.loads(json.dumps(dataset))
            parent = changed
            for name in path[:-1]:
                parent = parent[name]
            if value is ...:
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            if changed == dataset:
                continue
            (tiny / "dataset.json").write_text(json.dumps(changed, indent=1) + "\n")
            assert is_found(tiny, full=False), (path, value)


def test_a_data_set_from_before_the_seal_and_the_duplicates_is_whole(tiny: Path) -> None:
    (tiny / "duplicates.parquet").unlink()
    dataset = read_dataset(tiny)
    del dataset["sha256"], dataset["tables"]["duplicates.parquet"]
    (tiny / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")
    assert verify(tiny, full=True).findings == []
