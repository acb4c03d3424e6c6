"""Appending to a data set of chosen types: what arrives need not have each of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import build
from shards.index import read_dataset
from shards.selection import Selection
from shards.verify import verify
from tests.shards.conftest import photograph


def catalogue(folder: Path, name: str, types: dict[str, str]) -> Path:
    """A manifest of products with their types, a photograph each."""
    lines = []
    for product, product_type in types.items():
        path = photograph(folder / f"{product}.png", 30, 30, seed=sum(map(ord, product)))
        lines.append({"product_id": product, "image_path": str(path), "product_type": product_type})
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / f"{name}.jsonl"


@pytest.mark.parametrize(
    "options",
    [
        {"selection": Selection(types=("CHAIR", "SOFA"))},
        {"crop_to_item": ("SOFA",)},
        {"selection": Selection(types=("CHAIR", "SOFA")), "crop_to_item": ("SOFA",)},
    ],
    ids=["types", "crop", "both"],
)
def test_a_catalogue_without_one_of_the_types_is_appended(tmp_path: Path, options: dict[str, Any]) -> None:
    out = tmp_path / "out"
    build(catalogue(tmp_path, "old", {"c": "CHAIR", "s": "SOFA"}), out, workers=0, **options)
    dataset = append(catalogue(tmp_path, "new", {"c2": "CHAIR", "c3": "CHAIR"}), out, workers=0)
    assert pq.read_table(out / "products.parquet")["product_id"].to_pylist() == ["c", "s", "c2", "c3"]
    assert [str(finding) for finding in verify(out, full=True, workers=1).findings] == []
    # Nor need it have any of them.
    if "selection" in options:
        assert append(catalogue(tmp_path, "other", {"l": "LAMP"}), out, workers=0) == dataset == read_dataset(out)
