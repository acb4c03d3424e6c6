"""Opening a folder of shards: the columns, and every way in which the files are not what dataset.json says."""

from __future__ import annotations

import hashlib
import json
import os
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skill_fast.data.index import open_index
from skill_fast.errors import BadData, BadUsage
from tests.data.conftest import Product, some_products


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
    with pytest.raises(BadData, match=r"dataset\.json' is not JSON"):
        open_index(path.parent)


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "message"),
    [
        ("products", "first_image", 1, 0, "first_image and images do not follow"),
        ("images", "shard", 2, 1, "names a shard that dataset.json does not list"),
        ("images", "offset", 3, 10**9, "points beyond the end of a shard"),
        ("images", "height", 0, 0, "has an empty photograph"),
        ("images", "size", 0, 2**62, "points beyond the end of a shard"),
        ("images", "offset", 1, -1, "points beyond the end of a shard"),
        ("images", "view", 2, 5, "the views of a product are not 0, 1, 2"),
        ("images", "crc32", 2, None, "the column crc32 has nulls"),
        ("products", "images", 0, 0, "first_image and images do not follow"),
        ("products", "images", 3, 9, r"products\.parquet counts 15 photographs, images\.parquet has 10"),
        ("products", "product_type", 2, None, "products.parquet has nulls"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(catalogue, table, column, row, value, message):
    folder = catalogue(some_products(4))
    path = folder / f"{table}.parquet"
    rows = pq.read_table(path)
    values = rows[column].to_pylist()
    values[row] = value
    place = rows.column_names.index(column)
    replace_table(path, rows.set_column(place, rows.field(place), pa.array(values, rows.field(place).type)))
    with pytest.raises(BadData, match=message):
        open_index(folder)


def replace_table(path, table):
    """Write another table, and vouch for it in dataset.json."""
    pq.write_table(table, path)
    vouch(path)


def vouch(path):
    manifest = json.loads((path.parent / "dataset.json").read_text())
    manifest["tables"][path.name] = {
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (path.parent / "dataset.json").write_text(json.dumps(manifest))


def test_shards_out_of_order_or_within_a_product_are_refused(catalogue):
    folder = catalogue(some_products(6), 3)
    path = folder / "images.parquet"
    rows = pq.read_table(path)
    shards = rows["shard"].to_pylist()
    assert shards == [0] * 3 + [1] * 7 + [2] * 6  # 1, 2; 3, 4; 5, 1 photographs
    for changed, message in (
        ([1, *shards[1:]], "not in the order of the shards"),
        ([*shards[:-1], 0], "not in the order of the shards"),
        ([0] * 2 + [1] * 8 + [2] * 6, "a product in two shards"),
    ):
        replace_table(path, rows.set_column(2, rows.field(2), pa.array(changed, pa.int32())))
        with pytest.raises(BadData, match=message):
            open_index(folder)


@pytest.mark.parametrize("name", ["images", "products"])
def test_a_table_that_is_none_is_named(catalogue, name):
    folder = catalogue(some_products(3))
    path = folder / f"{name}.parquet"
    replace_table(path, pq.read_table(path).drop_columns([{"images": "crc32", "products": "images"}[name]]))
    with pytest.raises(BadData, match=rf"{name}\.parquet lacks the column"):
        open_index(folder)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(BadData, match=rf"{name}\.parquet' is not the table that dataset\.json names(?s:.*)repair"):
        open_index(folder)
    vouch(path)
    with pytest.raises(BadData, match=rf"{name}\.parquet' can not be read"):
        open_index(folder)


def test_rows_beyond_what_the_first_rows_need(catalogue):
    index = open_index(catalogue([Product("a", [b"x"] * 250), Product("b", [b"y"] * 10)]))
    assert index.first_image.tolist() == [0, 250]  # fits 8 bits, row 259 does not
    assert index.product[np.array([249, 250, 259])].tolist() == [0, 1, 1] and index.view[259] == 9


@pytest.mark.parametrize("line", [{}, {"name": "../x.tar"}, {"bytes": "10"}, {"sha256": 7}, {"name": None}])
def test_a_shard_line_that_is_none_is_refused(catalogue, line):
    path = catalogue(some_products(3)) / "dataset.json"
    manifest = json.loads(path.read_text())
    manifest["shards"] = [manifest["shards"][0] | line if line else {}]
    path.write_text(json.dumps(manifest))
    with pytest.raises(BadData, match="has a line of shards or tables that is none"):
        open_index(path.parent)


def test_a_name_that_is_no_utf8_is_refused_and_a_link_to_it_is_not(catalogue, tmp_path):
    named = tmp_path / os.fsdecode(b"shards \xff")
    folder = catalogue(some_products(3))
    named.symlink_to(folder)
    with pytest.raises(BadUsage, match="is no UTF-8"):
        open_index(named)
    (tmp_path / "link").symlink_to(named)
    assert open_index(tmp_path / "link").fingerprint == open_index(folder).fingerprint
