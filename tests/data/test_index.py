"""Opening a folder of shards: the columns, and every way in which the files are not what dataset.json says."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from skill_fast.data.index import open_index
from skill_fast.errors import BadData, BadUsage
from tests.data.conftest import some_products


def test_columns_are_those_of_the_contract(index):
    products = some_products(24) + some_products(4, "test")
    assert index.products == 28 and index.images == sum(len(p.photographs) for p in products)
    sizes = [size for p in products for size in p.photographs]
    assert list(zip(index.height.tolist(), index.width.tolist())) == sizes
    assert index.images_per_product.tolist() == [len(p.photographs) for p in products]
    assert [index.product_types[t] for t in index.product_type] == [p.product_type for p in products]
    assert index.column("color").tolist() == [p.color for p in products]
    assert index.attribute("sleeve").tolist() == [p.attributes.get("sleeve", "") for p in products]
    assert index.attribute_names() == ["sleeve"]
    for image in range(index.images):
        with open(index.shard_path(image), "rb") as file:
            file.seek(index.offset[image])
            data = file.read(index.size[image])
        assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" and zlib.crc32(data) == index.crc32[image]
        product = index.product[image]
        assert 0 <= image - index.first_image[product] == index.view[image] < index.images_per_product[product]


def test_selection_by_split(index):
    assert index.select("train").tolist() == list(range(24))
    assert index.select("test").tolist() == [24, 25, 26, 27]
    assert len(index.select(None)) == 28
    images = index.images_of(np.array([3, 1]))
    assert index.product[images].tolist() == [3] * 4 + [1] * 2
    with pytest.raises(BadUsage, match=r"split 'val'(?s:.*)test, train"):
        index.select("val")
    with pytest.raises(BadUsage, match="no column 'colour'"):
        index.column("colour")


@pytest.mark.parametrize("name", ["shard-000001.tar", "images.parquet", "products.parquet"])
@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_a_file_of_another_size_is_named_with_its_bytes(catalogue, name, damage):
    path = catalogue(some_products(8), 2) / name
    size = path.stat().st_size
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: size // 2 if damage == "short" else 0])
    state = {"missing": "is missing", "short": f"has {size // 2} bytes", "empty": "has 0 bytes"}[damage]
    with pytest.raises(BadData, match=rf"{name}' {state}, dataset.json says {size} bytes"):
        open_index(path.parent)


def test_a_folder_without_manifest_is_not_finished(tmp_path):
    with pytest.raises(BadData, match=r"holds no dataset\.json"):
        open_index(tmp_path)
    with pytest.raises(BadData, match=r"holds no dataset\.json"):
        open_index(tmp_path / "gone")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"version 2\n  allowed: format 'skill-shards' version 1"),
        ({"format": "other"}, "format 'other'"),
        ({"shards": None}, "lacks shards"),
        ({"tables": {}}, "lists no images.parquet, products.parquet"),
    ],
)
def test_another_manifest_is_refused(catalogue, change, message):
    path = catalogue(some_products(3)) / "dataset.json"
    manifest = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
    with pytest.raises(BadData, match=message):
        open_index(path.parent)
    path.write_text("{")
    with pytest.raises(BadData, match=r"dataset\.json' is not the JSON object"):
        open_index(path.parent)


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "message"),
    [
        ("products", "first_image", 1, 0, "first_image and images do not follow"),
        ("images", "shard", 2, 1, "names a shard that dataset.json does not list"),
        ("images", "offset", 3, 10**9, "points beyond the end of a shard"),
        ("images", "height", 0, 0, "has an empty photograph"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(catalogue, table, column, row, value, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = catalogue(some_products(4))
    path = folder / f"{table}.parquet"
    rows = pq.read_table(path)
    values = rows[column].to_pylist()
    values[row] = value
    place = rows.column_names.index(column)
    pq.write_table(rows.set_column(place, rows.field(place), pa.array(values, rows.field(place).type)), path)
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["tables"][path.name]["bytes"] = path.stat().st_size
    (folder / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(BadData, match=message):
        open_index(folder)
