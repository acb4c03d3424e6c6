"""Columns of a Parquet manifest that hold bytes, wherever in them: no file becomes an attribute, all else does."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.build import build
from shards.sources.manifest import catalogue
from shards.sources.product import Catalogue, Product
from shards.summary import summarize, summary_lines
from tests.shards.conftest import photograph

BYTES = b"\xff\xd8" + b"file" * 99
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
WHOLE: dict[str, tuple[Any, pa.DataType]] = {
    "binary": (BYTES, pa.binary()),
    "large": (BYTES, pa.large_binary()),
    "fixed": (BYTES, pa.binary(len(BYTES))),
    "view": (BYTES, pa.binary_view()),
    "dictionary": (BYTES, pa.dictionary(pa.int32(), pa.binary())),
    "list": ([BYTES], pa.list_(pa.binary())),
    "large list": ([BYTES], pa.large_list(pa.binary())),
    "fixed list": ([BYTES], pa.list_(pa.binary(), 1)),
    "list of lists": ([[BYTES]], pa.list_(pa.list_(pa.binary()))),
    "map": ([("a", BYTES)], pa.map_(pa.string(), pa.binary())),
    "map of keys": ([(BYTES, "a")], pa.map_(pa.binary(), pa.string())),
    "struct": ({"bytes": BYTES}, pa.struct([("bytes", pa.binary())])),
}
"""What goes as a whole."""
PARTS: dict[str, tuple[Any, pa.DataType, Any]] = {
    "struct": ({"bytes": BYTES, "path": "a"}, PICTURE, {"path": "a"}),
    "list": ([{"bytes": BYTES, "path": "a"}], pa.list_(PICTURE), [{"path": "a"}]),
    "map": ([("k", {"bytes": BYTES, "path": "a"})], pa.map_(pa.string(), PICTURE), [["k", {"path": "a"}]]),
    "struct of structs": (
        {"q": 3, "inner": {"bytes": BYTES, "path": "a"}},
        pa.struct([("q", pa.int64()), ("inner", PICTURE)]),
        {"q": 3, "inner": {"path": "a"}},
    ),
}
"""What loses its bytes alone: as it was, its type, what is left."""


def read(folder: Path, **columns: tuple[Any, pa.DataType]) -> tuple[Product, Catalogue]:
    arrays = {name: pa.array([value], kind) for name, (value, kind) in columns.items()}
    arrays = {"product_id": pa.array(["p"]), "image_path": pa.array(["0.png"]), **arrays, "size": pa.array([4])}
    pq.write_table(pa.table(arrays), folder / "m.parquet")
    found = catalogue(folder / "m.parquet")
    [product] = found.entries
    assert isinstance(product, Product)
    return product, found


@pytest.mark.parametrize("kind", WHOLE)
def test_bytes_are_left_out_and_noted(tmp_path: Path, kind: str) -> None:
    product, found = read(tmp_path, photo=WHOLE[kind])
    assert product.attributes == {"size": 4}
    assert found.notes["columns_of_files"] == (2 if "map" in kind else 1), "a map has two leaves"


@pytest.mark.parametrize("kind", PARTS)
def test_what_lies_beside_bytes_stays(tmp_path: Path, kind: str) -> None:
    value, column, left = PARTS[kind]
    product, found = read(tmp_path, photo=(value, column))
    assert json.loads(json.dumps(product.attributes)) == {"photo": left, "size": 4}
    assert dict(found.notes) == {"columns_of_files": 1}


def test_what_is_no_bytes_stays_without_a_note(tmp_path: Path) -> None:
    kinds = {"list": ([1, 2], pa.list_(pa.int64())), "map": ([("k", "v")], pa.map_(pa.string(), pa.string()))}
    product, found = read(tmp_path, id=(b"0123456789abcdef", pa.uuid()), **kinds)
    assert product.attributes["list"] == [1, 2] and product.attributes["size"] == 4 and not found.notes
    assert product.attributes["id"] == "30313233-3435-3637-3839-616263646566"
    assert json.loads(json.dumps(product.attributes["map"])) == [["k", "v"]]


def test_labels_may_be_bytes_of_text(tmp_path: Path) -> None:
    dictionary = pa.dictionary(pa.int32(), pa.binary())
    product, found = read(tmp_path, color=(b"red", dictionary), product_type=(b"shirt", pa.binary_view()))
    assert (product.color, product.product_type, dict(found.notes)) == ("red", "shirt", {})


def test_a_column_whose_name_reads_as_a_path_is_told_apart(tmp_path: Path) -> None:
    """pyarrow takes "photo.bytes" for a part of "photo"."""
    columns = {"photo": ("a", pa.string()), "photo.bytes": (BYTES, pa.binary())}
    assert read(tmp_path, **columns)[0].attributes == {"photo": "a", "size": 4}


@pytest.mark.parametrize("value", [["x" * 2**20], {"a": ["x" * 2**19] * 2}], ids=["list", "object"])
def test_lists_and_objects_have_the_limit_of_texts(tmp_path: Path, value: Any) -> None:
    rows = [{"product_id": name, "image_path": "0.png", "x": value} for name in ("p", "q")]
    rows[1]["x"] = "é" * 2**20
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reject, product = catalogue(tmp_path / "m.jsonl").entries
    assert reject.reason == "bad_row" and "row 1: x has 1048" in reject.detail
    assert product.product_id == "q"


def test_a_build_says_what_it_left_out(tmp_path: Path) -> None:
    photograph(tmp_path / "0.png")
    read(tmp_path, photo=WHOLE["list"], picture=(PARTS["struct"][0], PICTURE))
    dataset = build(tmp_path / "m.parquet", tmp_path / "out", workers=0)
    assert dataset["counts"]["notes"] == {"columns_of_files": 2}
    [told] = [line for line in summary_lines(tmp_path / "out", summarize(tmp_path / "out")) if "of bytes" in line]
    assert "2 columns or fields of bytes left out of the manifest" in told
