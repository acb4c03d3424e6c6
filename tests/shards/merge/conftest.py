"""Two data sets to merge, and what the tables and tars of one say."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.index import DATASET, describe, read_dataset, sealed
from shards.table_files import TABLES
from tests.shards.data_sets import made

Found = dict[str, tuple[dict[str, Any], list[bytes]]]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path / "a", {"a1": 1, "a2": 2, "a3": 3}), made(tmp_path / "b", {"b1": 2, "b2": 1, "b3": 1, "b4": 1})


def with_duplicates(folder: Path, *rows: tuple[str, int, str, str, int, int]) -> Path:
    """Give a data set a table of duplicates."""
    schema = TABLES["duplicates.parquet"]
    named = [dict(zip(schema.names, row, strict=True)) for row in rows]
    pq.write_table(pa.Table.from_pylist(named, schema=schema), folder / "duplicates.parquet")
    dataset = read_dataset(folder)
    dataset["tables"]["duplicates.parquet"] = describe(folder / "duplicates.parquet")
    (folder / DATASET).write_bytes(sealed(dataset))
    return folder


def content(folder: Path) -> Found:
    """Product id -> (labels, photographs), read by way of the tables."""
    images = pq.read_table(folder / "images.parquet").to_pylist()
    found: Found = {}
    for product in pq.read_table(folder / "products.parquet").to_pylist():
        own = images[product["first_image"] : product["first_image"] + product["images"]]
        tars = [folder / f"shard-{image['shard']:06d}.tar" for image in own]
        data = [
            path.read_bytes()[image["offset"] : image["offset"] + image["size"]]
            for path, image in zip(tars, own, strict=True)
        ]
        labels = {name: product[name] for name in ("product_type", "color", "split", "attributes")}
        assert product["product_id"] not in found
        found[product["product_id"]] = (labels, data)
    return found


def tables(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / name).to_pylist()
