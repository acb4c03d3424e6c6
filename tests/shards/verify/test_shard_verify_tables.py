"""Tables whose sums are right and whose cells are not: verify believes none of them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.build import build
from shards.repeats import repeated
from shards.table_files import TABLES
from shards.verify import verify
from tests.shards.verify.conftest import change, redescribe


@pytest.mark.parametrize(
    ("table", "cells", "word"),
    [
        ("images.parquet", {"offset": 1024}, "offset"),
        ("images.parquet", {"crc32": 1}, "crc32"),
        ("images.parquet", {"width": 1}, "height x width"),
        ("images.parquet", {"size": 100}, "header"),
        ("products.parquet", {"color": "blue"}, "header"),
        ("products.parquet", {"first_image": 7}, "first_image"),
        ("rejected.parquet", {"reason": "bad_row"}, "by reason"),
    ],
)
def test_tables_that_do_not_agree_with_the_tars(catalogue: Path, tmp_path: Path, table, cells, word) -> None:
    (catalogue / "shirt" / "s 1" / "empty.jpg").touch()
    build(catalogue, tmp_path / "d", workers=0)
    change(tmp_path / "d", table, 0 if table == "rejected.parquet" else 2, **cells)
    redescribe(tmp_path / "d")
    assert verify(tmp_path / "d").findings == []
    assert any(word in finding.what for finding in verify(tmp_path / "d", full=True).findings)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"kind": "far"}, "kind 'far'"),
        ({"key": "nobody"}, "not in images.parquet"),
        ({"view": 2}, "not in images.parquet"),
        ({"view": -1}, "not in images.parquet"),
        ({"of_view": 1}, "not earlier"),
        ({"of_key": "a"}, "another product"),
        ({"distance": 65}, "impossible distance"),
        ({"kind": "exact", "distance": 0}, "differs in crc32"),
    ],
)
def test_duplicates_name_photographs_that_are_there(tiny: Path, row: dict[str, Any], word: str) -> None:
    change(tiny, "duplicates.parquet", 0, **row)
    redescribe(tiny)
    (finding,) = verify(tiny, full=True).findings
    assert finding.file == "duplicates.parquet" and word in str(finding.found)


def test_a_product_that_is_there_twice_is_found(tiny: Path) -> None:
    change(tiny, "products.parquet", 2, key="a", product_id="a")
    redescribe(tiny)
    assert "products.parquet: key of row 2: expected no other product's, found that of row 0" in [
        str(finding) for finding in verify(tiny, full=True).findings
    ]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "ü", ""]), max_size=4), max_size=4))
@settings(max_examples=60, deadline=None)
def test_repeated_texts_are_those_of_a_dict(parts: list[list[str]]) -> None:
    first: dict[str, int] = {}
    expected = []
    for row, text in enumerate(text for part in parts for text in part):
        if text in first:
            expected.append((row, first[text]))
        first.setdefault(text, row)
    assert repeated(lambda: [pa.array(part, pa.string()) for part in parts]) == expected


@pytest.mark.parametrize("name", sorted(TABLES))
@pytest.mark.parametrize("content", ["other columns", "other order", "text", "empty", "rows gone", "nulls"])
def test_tables_of_another_kind_are_a_finding(tiny: Path, name: str, content: str) -> None:
    table = pq.read_table(tiny / name)
    if content in ("text", "empty"):
        (tiny / name).write_text("no table" * (content == "text"))
    else:
        new = {
            "other columns": pa.table({"a": [1, 2]}),
            "other order": table.select(table.column_names[::-1]),
            "rows gone": table.slice(0, 0),
            "nulls": pa.Table.from_pylist([dict.fromkeys(table.column_names)] * len(table), schema=table.schema),
        }[content]
        pq.write_table(new, tiny / name)
    redescribe(tiny)
    findings = verify(tiny, full=True).findings
    if (name, content) != ("duplicates.parquet", "rows gone"):
        assert name in {finding.file for finding in findings}


NUMBERS = [-(2**31), -1, 0, 1, 513, 2**31 - 1]
TEXTS = ["", "b", "x" * 200, "ü/../\x00", "{", "[" * 5000, '{"a": 1e999}']


@given(
    st.sampled_from([(name, field.name) for name in TABLES for field in TABLES[name]]),
    st.integers(0, 5),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_cell_of_a_table_is_believed(tiny: Path, cell: tuple[str, str], row: int, number: int, text: str) -> None:
    """Whatever a table says, in a data set whose sums agree with it: findings or none, and nothing else is raised."""
    table, column = cell
    kept = {path: path.read_bytes() for path in (tiny / table, tiny / "dataset.json")}
    content = pq.read_table(tiny / table)
    cells, kind = content[column].to_pylist(), content.schema.field(column).type
    before = cells[row % len(cells)]
    cells[row % len(cells)] = (
        text if pa.types.is_string(kind) else number & 0xFFFFFFFF if kind == pa.uint32() else number
    )
    changed = cells[row % len(cells)] != before
    index = content.column_names.index(column)
    pq.write_table(content.set_column(index, content.schema.field(index), pa.array(cells, kind)), tiny / table)
    redescribe(tiny)
    findings = verify(tiny, full=True).findings
    unchecked = {("rejected.parquet", name) for name in ("product_id", "image_path", "detail")}
    # Of the duplicate, another distance and kind, or another earlier photograph, are as possible.
    unchecked |= {("duplicates.parquet", field.name) for field in TABLES["duplicates.parquet"]}
    assert findings or not changed or cell in unchecked
    for path, data in kept.items():
        path.write_bytes(data)
