"""Rows of a known product that can not be used: listed once, and told where nothing is recorded."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import build
from shards.index import read_dataset
from shards.verify import verify
from tests.shards.conftest import photograph


def catalogue(folder: Path, *rows: tuple[str, str]) -> Path:
    for path in {path for _, path in rows if path.endswith(".png")}:
        photograph(folder / path, 20, 20, seed=sum(map(ord, path)))
    lines = [json.dumps({"product_id": product, "image_path": path}) for product, path in rows]
    (folder / "m.jsonl").write_text("\n".join(lines))
    return folder / "m.jsonl"


OLD = [("p1", "1.png"), ("p1", "pipe:old"), ("p2", "2.png")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    build(catalogue(tmp_path, *OLD), tmp_path / "out", workers=0)
    return tmp_path / "out"


def bad_rows(out: Path) -> list[tuple[str, str]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "rejected.parquet").to_pylist()
    return [(row["product_id"], row["image_path"]) for row in rows if row["reason"] == "bad_row"]


def test_a_row_that_was_never_counted_is_listed_though_its_product_is_there(out: Path, tmp_path: Path) -> None:
    """Counted as a photograph that was seen, once however often the source is appended."""
    for number in range(2):
        source = catalogue(tmp_path, *OLD, ("p1", "pipe:new"), *((f"q{n}", f"q{n}.png") for n in range(number + 1)))
        counts = append(source, out, workers=0)["counts"]
        assert bad_rows(out) == [("p1", "pipe:old"), ("p1", "pipe:new")]
        assert counts["images_rejected"] == {"bad_row": 2}
        assert counts["images_seen"] == 2 + 2 + number + 1
        assert [str(finding) for finding in verify(out, full=True, workers=1).findings] == []


def test_where_nothing_new_arrives_such_rows_are_told(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_dataset(out)
    append(catalogue(tmp_path, *OLD), out, workers=0)
    assert capsys.readouterr().err == ""
    source = catalogue(tmp_path, *OLD, ("p1", "pipe:new"), ("", "3.png"))
    assert append(source, out, workers=0) == before
    said = capsys.readouterr().err
    assert "2 rows or files of the source can not be used and are not listed" in said
    assert "bad_row" in said and "row 4: " in said
    # With a new product that can not be used either.
    assert append(catalogue(tmp_path, *OLD, ("p1", "pipe:new"), ("r", "gone.jpg")), out, workers=0) == before
    assert "1 row or file of the source can not be used and is not listed" in capsys.readouterr().err
