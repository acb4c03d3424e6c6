import json
import os
import random
import re
import shutil
import tarfile
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.build import build
from shards.duplicates import KINDS
from shards.errors import BadData
from shards.index import describe, fingerprint, read_dataset, sealed
from shards.rejects import IMAGE_REASONS, PRODUCT_REASONS
from shards.repeats import repeated
from shards.table_files import TABLES
from shards.verify import verify
from tests.shards.conftest import photograph

LONG = os.environ.get("SKILL_FAST_LONG") == "1"


def redescribe(folder: Path) -> None:
    """Make dataset.json agree with the files as they are now, so that only --full can find a fault."""
    dataset = read_dataset(folder)
    for line in dataset["shards"]:
        line |= describe(folder / line["name"])
    names = [*dataset["tables"], *(["duplicates.parquet"] if (folder / "duplicates.parquet").exists() else [])]
    dataset["tables"] = {name: describe(folder / name) for name in names}
    dataset["fingerprint"] = fingerprint(dataset["shards"])
    (folder / "dataset.json").write_bytes(sealed(dataset))


def change(folder: Path, table: str, row: int, **cells) -> None:
    content = pq.read_table(folder / table)
    rows = content.to_pylist()
    rows[row] |= cells
    pq.write_table(pa.Table.from_pylist(rows, schema=content.schema), folder / table)


def test_a_whole_data_set_has_no_findings(dataset: Path) -> None:
    assert verify(dataset).findings == []
    report = verify(dataset, full=True)
    assert report.findings == [] and "12 images decoded" in report.checked


def regions(folder: Path) -> dict[str, list[tuple[Path, int, int]]]:
    """(file, first byte, last byte + 1) of each kind of place that a data set consists of."""
    found: dict[str, list[tuple[Path, int, int]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix != ".tar":
            found[path.suffix if path.suffix == ".idx" else path.name].append((path, 0, path.stat().st_size))
            continue
        end = 0
        with tarfile.open(path) as archive:
            members = archive.getmembers()
        for member in members:
            found["header"].append((path, member.offset, member.offset_data))
            found[member.name.rpartition(".")[2]].append((path, member.offset_data, member.offset_data + member.size))
            end = -(-(member.offset_data + member.size) // 512) * 512
            if end > member.offset_data + member.size:
                found["padding"].append((path, member.offset_data + member.size, end))
        found["end"].append((path, end, path.stat().st_size))
    return found


def is_found(folder: Path, full: bool) -> bool:
    try:
        return bool(verify(folder, full=full, workers=1).findings)
    except BadData:
        return True


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three products in two shards, a reject and a duplicate."""
    root = tmp_path_factory.mktemp("tiny")
    for number, name in enumerate(("a", "b", "c")):
        for view in range(2):
            photograph(root / "tiny" / name / f"{view}.png", 16 + number, 16, seed=view + 5 * number)
    (root / "tiny" / "a" / "9.png").touch()
    build(root / "tiny", root / "out", shard_mib=0.008, workers=0)
    row = {"key": "b", "view": 1, "kind": "near", "of_key": "b", "of_view": 0, "distance": 3}
    pq.write_table(pa.Table.from_pylist([row], schema=TABLES["duplicates.parquet"]), root / "out/duplicates.parquet")
    redescribe(root / "out")
    assert verify(root / "out", full=True).findings == []
    return root / "out"


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "tiny"))


def test_every_flipped_bit_is_found(tiny: Path) -> None:
    """B2: one bit anywhere; tars, tables and dataset.json in turn, each kind of place as often as the others."""
    rng, kinds = random.Random(0), regions(tiny)
    assert len(kinds) == 12, "the note of the build, .built.json, among them"
    for trial in range(1000 if LONG else 200):
        kind = sorted(kinds)[trial % len(kinds)]
        path, first, end = rng.choice(kinds[kind])
        content = path.read_bytes()
        damaged = bytearray(content)
        at, bit = rng.randrange(first, end), rng.randrange(8)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        assert is_found(tiny, full=True), f"bit {bit} of byte {at} of {path.name} ({kind})"
        path.write_bytes(content)
    assert not is_found(tiny, full=True)


def test_every_cut_is_found_at_once(tiny: Path) -> None:
    """Any file cut at any byte, and any file that grew, by its size alone; an index by --full, as it is derived."""
    rng = random.Random(1)
    files = sorted(path for path in tiny.iterdir() if path.suffix != ".idx")
    for trial in range(1000 if LONG else 200):
        path = files[trial % len(files)]
        content = path.read_bytes()
        cut = rng.randrange(len(content)) if trial >= len(files) else len(content) - 1
        path.write_bytes(content[:cut] if trial % 10 else content + b"\n")
        assert is_found(tiny, full=False), f"{path.name} of {len(content)} bytes cut at {cut}"
        path.write_bytes(content)
    index = next(tiny.glob("*.idx"))
    index.write_bytes(index.read_bytes()[:-1])
    assert not is_found(tiny, full=False) and is_found(tiny, full=True)


def test_the_walk_finds_a_flipped_bit_where_the_sums_were_redone(dataset: Path) -> None:
    """Whoever wrote the damage also wrote its sha256: headers, contents and zeros are still held against the tables."""
    rng, original = random.Random(0), (dataset / "dataset.json").read_bytes()
    for _ in range(40):
        path = dataset / rng.choice(read_dataset(dataset)["shards"])["name"]
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
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


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"subsampling": 0}, "sampling"), ({"progressive": True}, "frame"), ({"comment": b"x"}, "COM")],
)
def test_full_finds_a_photograph_of_another_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], fault: str
) -> None:
    """Though all sums are right, and every decoder takes it: the hardware's does not."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    Image.new("RGB", (40, 40), (80, 90, 100)).save(tmp_path / "in" / "a" / "0.jpg", **{"subsampling": 2, **options})
    build(tmp_path / "in", tmp_path / "right", preprocess="none", workers=0)
    assert verify(tmp_path / "right", full=True, workers=1).findings == []
    monkeypatch.setattr("shards.normalize.is_plain", lambda data: True)
    build(tmp_path / "in", tmp_path / "out", preprocess="none", workers=0)
    assert verify(tmp_path / "out").findings == []
    (finding,) = verify(tmp_path / "out", full=True, workers=1).findings
    assert finding.product == "a" and finding.what == "JPEG of a.00.jpg" and fault in str(finding.found)


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
    (catalogue / "shirt" / "s 1" / "empty.jpg").touch()
    build(catalogue, tmp_path / "d", workers=0)
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


def test_a_tar_is_read_even_where_the_tables_can_not_be_believed(tiny: Path) -> None:
    for name in ("images.parquet", "shard-000001.tar"):
        content = bytearray((tiny / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tiny / name).write_bytes(content)
    assert [(f.file, f.what) for f in verify(tiny, full=True).findings] == [
        ("images.parquet", "sha256"),
        ("shard-000001.tar", "sha256"),
    ]


def test_the_names_of_the_shards_are_numbered_without_a_gap(tiny: Path) -> None:
    dataset = read_dataset(tiny)
    dataset["shards"][1]["name"] = "shard-000007.tar"
    dataset["fingerprint"] = fingerprint(dataset["shards"])
    (tiny / "shard-000001.tar").rename(tiny / "shard-000007.tar")
    (tiny / "shard-000001.idx").rename(tiny / "shard-000007.idx")
    (tiny / "dataset.json").write_bytes(sealed(dataset))
    assert [finding.what for finding in verify(tiny).findings] == ["name of shard 1"]


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


def test_children_find_what_one_process_finds(dataset: Path) -> None:
    """And a child that ends in the middle costs a finding for its shard."""
    path = dataset / "shard-000002.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    told: list[tuple[int, int]] = []
    alone, together = (
        verify(dataset, full=True, workers=1),
        verify(dataset, full=True, workers=2, progress=lambda *state: told.append(state)),
    )
    assert [str(finding) for finding in alone.findings] == [str(finding) for finding in together.findings] != []
    total = sum(shard["bytes"] for shard in read_dataset(dataset)["shards"])
    assert len(told) == len(read_dataset(dataset)["shards"]) and told[-1] == (total, total)


def test_a_child_that_dies_costs_its_shards(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr("shards.walkers.COMMAND", ("-c", kill))
    findings = verify(dataset, full=True, workers=2).findings
    assert len(findings) == len(read_dataset(dataset)["shards"])
    assert "ended by signal 9" in str(findings[0])


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        (tmp_path / "noise" / str(number)).mkdir(parents=True)
        pixels = rng.integers(0, 200, (400, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noise" / str(number) / "0.bmp")
    build(tmp_path / "noise", tmp_path / "out", workers=0)
    (shard,) = read_dataset(tmp_path / "out")["shards"]
    verify(tmp_path / "out", full=True, workers=1)
    tracemalloc.start()
    assert verify(tmp_path / "out", full=True, workers=1).findings == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shard["bytes"] > 3_000_000 and peak < shard["bytes"] / 2


def test_the_page_names_every_reason_column_and_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "shard_format.md").read_text()
    names = [
        *IMAGE_REASONS,
        *PRODUCT_REASONS,
        *KINDS,
        *(name for table in TABLES for name in (table, *TABLES[table].names)),
    ]
    assert [name for name in names if f"`{name}`" not in page] == []
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} >= {*IMAGE_REASONS, *PRODUCT_REASONS}
