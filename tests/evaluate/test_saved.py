"""Saved embeddings score as the run that wrote them; files from elsewhere, and what is wrong with a file."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skill_fast.data.index import open_index
from skill_fast.errors import BadData
from skill_fast.evaluate.command import main
from skill_fast.evaluate.embed import main as embed
from skill_fast.evaluate.saved import open_saved

TASKS = ["--tasks", "knn,color,retrieval,orientation", "--device", "cpu"]


@pytest.fixture(scope="module")
def saved(run, demo, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "e.parquet"
    assert embed([str(run), "--data", str(demo), "--out", str(path), "--device", "cpu"]) == 0
    return path


def scored(what, demo, out) -> dict:
    assert main([str(what), "--data", str(demo), "--json", str(out), *TASKS]) == 0
    return json.loads(out.read_text())


def test_a_file_scores_as_the_run_that_wrote_it(run, demo, saved, tmp_path, capsys):
    of_run, of_file = scored(run, demo, tmp_path / "run.json"), scored(saved, demo, tmp_path / "file.json")
    assert list(of_file["rows"]) == ["trained", "raw pixels", "grey pixels", "colour histogram"]
    for row, scores in of_file["rows"].items():
        assert scores == {n: v for n, v in of_run["rows"][row].items() if not n.startswith("orientation")}, row
    same = ("dataset", "split", "products", "resize", "crop", "pooling", "step")
    assert [of_file[name] for name in same] == [of_run[name] for name in same]
    assert of_file["absent"]["orientation"] == "saved embeddings have no turned photographs"
    assert "orientation: saved embeddings" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "run.json"), str(tmp_path / "file.json")]) == 0


def test_a_file_from_elsewhere_in_any_order_and_type(demo, saved, tmp_path):
    """Rows turned about, lists of doubles, large strings, no metadata, rows of other products: same embeddings."""
    table, index = pq.read_table(saved), open_index(demo)
    order = np.random.default_rng(0).permutation(len(table))
    columns = {
        "embedding": pa.array(table.column("embedding").to_pylist(), pa.list_(pa.float64())).take(pa.array(order)),
        "view": table.column("view").take(pa.array(order)).cast(pa.int16()),
        "product_id": table.column("product_id").take(pa.array(order)).cast(pa.large_string()),
    }
    strange = {"embedding": pa.array([[9.0]], pa.list_(pa.float64())), "view": pa.array([0], pa.int16())}
    first = pa.table(strange | {"product_id": pa.array(["none"], pa.large_string())})
    pq.write_table(pa.concat_tables([first, pa.table(columns)]), tmp_path / "e.parquet")
    other = open_saved(tmp_path / "e.parquet")
    rows = np.arange(index.images)[::3]
    expected = np.array(table.column("embedding").to_pylist(), dtype=np.float32)[rows]
    np.testing.assert_array_equal(other.of(index, rows), expected)
    assert (other.resize, other.crop) == (256, 224)


def without_one(table):
    return table.slice(1)


def twice(table):
    return pa.concat_tables([table, table.slice(5, 1)])


def put(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, pa.chunked_array([values]))


def uneven(table):
    return put(table, "embedding", pa.array([[1.0], *table.column("embedding").to_pylist()[1:]]))


def infinite(table):
    lists = table.column("embedding").to_pylist()
    lists[0][0] = float("nan")
    return put(table, "embedding", pa.array(lists))


def without_a_vector(table):
    lists = table.column("embedding").to_pylist()
    lists[3] = None
    return put(table, "embedding", pa.array(lists, pa.list_(pa.float32(), len(lists[0]))))


def of_other_data(table):
    return table.replace_schema_metadata({"dataset": "0" * 64})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_one, "lacks 1 of .* photographs, view 0 of product '"),
        (twice, "has twice 1 of .* photographs, view"),
        (uneven, r"holds embeddings of 1, \d+ values"),
        (infinite, "not finite"),
        (of_other_data, "of another data set"),
        (lambda table: table.drop_columns(["view"]), "has no column view; it has product_id"),
        (lambda table: put(table, "view", pa.array(["front"] * len(table))), "columns of other types"),
        (lambda table: put(table, "embedding", pa.array([1] * len(table))), "columns of other types"),
        (lambda table: put(table, "embedding", pa.array([["a"]] * len(table))), "columns of other types"),
        (lambda table: put(table, "embedding", pa.array([[[1.0]]] * len(table))), "columns of other types"),
        (lambda table: put(table, "view", pa.array([{"n": 1}] * len(table))), "columns of other types"),
        (lambda table: put(table, "product_id", pa.array([{"n": 1}] * len(table))), "columns of other types"),
        (without_a_vector, "has no embedding for 1 photographs"),
    ],
)
def test_what_is_wrong_is_said(demo, saved, tmp_path, change, message):
    pq.write_table(change(pq.read_table(saved)), tmp_path / "e.parquet")
    index = open_index(demo)
    with pytest.raises(BadData, match=message):
        open_saved(tmp_path / "e.parquet").of(index, np.arange(index.images))


def test_what_is_no_such_file_is_refused(demo, saved, tmp_path, capsys):
    (tmp_path / "e.parquet").write_bytes(b"PAR1 and no more")
    assert main([str(tmp_path / "e.parquet"), "--data", str(demo)]) == 3
    assert "is no Parquet file" in capsys.readouterr().err
    assert main([str(tmp_path / "none.parquet"), "--data", str(demo)]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert main([str(saved)]) == 2
    assert "--data DIR" in capsys.readouterr().err


def test_whole_numbers_are_taken_and_large_ones_rounded(demo, saved, tmp_path):
    table, index = pq.read_table(saved), open_index(demo)
    whole = put(table, "embedding", pa.array([[2**24 + 1, row] for row in range(len(table))]))
    pq.write_table(whole.replace_schema_metadata(None), tmp_path / "e.parquet")
    got = open_saved(tmp_path / "e.parquet").of(index, np.arange(index.images))
    np.testing.assert_array_equal(got[:, 0], np.float32(2**24))
    np.testing.assert_array_equal(got[:, 1], np.arange(len(table)))


def test_damaged_pages_behind_a_whole_footer_are_told(demo, saved, tmp_path, capsys):
    data = bytearray(saved.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    (tmp_path / "e.parquet").write_bytes(data)
    assert main([str(tmp_path / "e.parquet"), "--data", str(demo)]) == 3
    assert "e.parquet" in capsys.readouterr().err


def test_a_pooling_for_what_is_pooled_is_refused(demo, saved, capsys):
    assert main([str(saved), "--data", str(demo), "--pooling", "last4"]) == 2
    assert "pooled already" in capsys.readouterr().err
