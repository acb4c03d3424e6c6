"""What verify finds in files: flipped bits, cuts, strays, photographs of another form; in one process or several."""

import os
import random
import shutil
import tarfile
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shards.build import build
from shards.index import read_dataset
from shards.verify import verify
from tests.shards.verify.conftest import is_found, redescribe

LONG = os.environ.get("SKILL_FAST_LONG") == "1"


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


def test_a_foreign_index_is_found(dataset: Path) -> None:
    shutil.copy(dataset / "shard-000000.idx", dataset / "shard-000001.idx")
    assert [finding.file for finding in verify(dataset, full=True).findings] == ["shard-000001.idx"]


def test_a_tar_is_read_even_where_the_tables_can_not_be_believed(tiny: Path) -> None:
    for name in ("images.parquet", "shard-000001.tar"):
        content = bytearray((tiny / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tiny / name).write_bytes(content)
    assert [(f.file, f.what) for f in verify(tiny, full=True).findings] == [
        ("images.parquet", "sha256"),
        ("shard-000001.tar", "sha256"),
    ]


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
