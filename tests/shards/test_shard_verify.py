import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import BadData
from shards.index import describe, fingerprint, read_dataset
from shards.verify import verify


def redescribe(folder: Path) -> None:
    """Make dataset.json agree with the files as they are now, so that only --full can find a fault."""
    path = folder / "dataset.json"
    dataset = json.loads(path.read_text())
    for line in dataset["shards"]:
        line |= describe(folder / line["name"])
    dataset["tables"] = {name: describe(folder / name) for name in dataset["tables"]}
    dataset["fingerprint"] = fingerprint(dataset["shards"])
    path.write_text(json.dumps(dataset))


def change(folder: Path, table: str, row: int, **cells) -> None:
    content = pq.read_table(folder / table)
    rows = content.to_pylist()
    rows[row] |= cells
    pq.write_table(pa.Table.from_pylist(rows, schema=content.schema), folder / table)


def test_a_whole_data_set_has_no_findings(dataset: Path) -> None:
    assert verify(dataset).findings == []
    report = verify(dataset, full=True)
    assert report.findings == [] and "12 images decoded" in report.checked


def test_every_flipped_bit_is_found(dataset: Path) -> None:
    """Any bit of any listed file, by its sha256; and any bit of a tar but its end even where the sums were redone."""
    rng = random.Random(0)
    names = [*(shard["name"] for shard in read_dataset(dataset)["shards"]), *read_dataset(dataset)["tables"]]
    original = (dataset / "dataset.json").read_bytes()
    for _ in range(60):
        path = dataset / rng.choice(names)
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert [finding.file for finding in verify(dataset).findings] == [path.name]
        if path.suffix == ".tar":
            redescribe(dataset)
            assert verify(dataset).findings == []
            assert {finding.file for finding in verify(dataset, full=True).findings} == {path.name}
            (dataset / "dataset.json").write_bytes(original)
        path.write_bytes(content)


def test_full_names_the_product_of_a_damaged_photograph(dataset: Path) -> None:
    row = pq.read_table(dataset / "images.parquet").to_pylist()[5]
    product = next(p for p in pq.read_table(dataset / "products.parquet").to_pylist() if p["key"] == row["key"])
    path = dataset / f"shard-{row['shard']:06d}.tar"
    content = bytearray(path.read_bytes())
    content[row["offset"] + row["size"] // 2] ^= 0xFF
    path.write_bytes(content)
    findings = verify(dataset, full=True).findings
    named = [finding for finding in findings if finding.product]
    assert {finding.product for finding in named} == {product["product_id"]}
    assert f"crc32 of {row['key']}.{row['view']:02d}.jpg: expected {row['crc32']:08x}" in str(named[0])


def test_cut_missing_and_stray_files(dataset: Path) -> None:
    first, second = dataset / "shard-000000.tar", dataset / "shard-000001.tar"
    content = first.read_bytes()
    for size in (0, 1, 511, 512, len(content) // 2, len(content) - 1):
        first.write_bytes(content[:size])
        for full in (False, True):
            findings = verify(dataset, full=full).findings
            assert (findings[0].file, findings[0].expected, findings[0].found) == (first.name, len(content), size)
    first.write_bytes(content)
    second.unlink()
    shutil.copy(first, dataset / "shard-000099.tar")
    (dataset / "shard-000002.idx").unlink()
    found = {finding.file: str(finding) for finding in verify(dataset, full=True).findings}
    assert set(found) == {"shard-000001.tar", "shard-000099.tar", "shard-000002.idx"}
    assert "does not list it" in found["shard-000099.tar"]


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
    from shards.build import build

    (catalogue / "shirt" / "s 1" / "empty.jpg").touch()
    build(catalogue, tmp_path / "d", workers=1)
    change(tmp_path / "d", table, 0 if table == "rejected.parquet" else 2, **cells)
    redescribe(tmp_path / "d")
    assert verify(tmp_path / "d").findings == []
    assert any(word in finding.what for finding in verify(tmp_path / "d", full=True).findings)


def test_a_foreign_index_is_found(dataset: Path) -> None:
    shutil.copy(dataset / "shard-000000.idx", dataset / "shard-000001.idx")
    assert [finding.file for finding in verify(dataset, full=True).findings] == ["shard-000001.idx"]


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
