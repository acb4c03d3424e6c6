"""The benchmark of shards: what is compared with what, and its synthetic catalogues."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import shards
from benchmarks.catalogues import build_and_open, children_of, manifest_of, peak_of, synthetic_catalogue
from shards.normalize import Normalization, normalize_file


def test_the_loop_and_the_build_without_h_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draft mode, filter, size and quality are the builder's."""
    rng = np.random.default_rng(0)
    files = []
    for number, size in enumerate(((2300, 1700), (700, 900), (300, 200))):
        files.append(tmp_path / f"{number}.jpg")
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(size).save(files[-1], subsampling=0)
    encoded = [io.BytesIO() for _ in files]
    with monkeypatch.context() as patch:
        buffers = iter(encoded)
        patch.setattr(shards, "io", SimpleNamespace(BytesIO=lambda: next(buffers)))
        shards.pillow_loop(files)
    built = [normalize_file(file, Normalization("none", max_side=shards.SIDE)).data for file in files]
    assert [buffer.getvalue() for buffer in encoded] == built


def test_the_loop_for_h_makes_squares_of_the_builder_s_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph without a white border: what H makes of it is the loop's own bytes."""
    rng = np.random.default_rng(1)
    file = tmp_path / "wide.jpg"
    Image.fromarray(rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)).resize((900, 700)).save(file, subsampling=0)
    encoded = io.BytesIO()
    monkeypatch.setattr(shards, "io", SimpleNamespace(BytesIO=lambda: encoded))
    shards.squares_loop([file])
    monkeypatch.undo()
    assert encoded.getvalue() == normalize_file(file, Normalization("catalog", max_side=shards.SIDE)).data


def test_a_ratio_is_of_the_same_repeat_and_says_which_way() -> None:
    seconds = {"fast": [(1.0, 2.0), (2.0, 2.0), (1.0, 4.0)], "slow": [(3.0, 2.0), (4.0, 4.0), (9.0, 4.0)]}
    record = shards._ratio(seconds, "fast", "slow", 1.8, 0, {})
    assert (record["value"], record["quantiles"], record["repeats"]) == (3.0, {"min": 2.0, "max": 9.0}, 3)
    assert shards._ratio(seconds, "fast", "slow", None, 1, {})["value"] == 1.0


def test_records_are_there_after_each_measurement_and_none_begins_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, there = tmp_path / "out.jsonl", []
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    (tmp_path / "list.csv").write_text("product_id,image_path\np,a.jpg\n")

    def timed(work: object) -> tuple[float, float]:
        there.append(sum('"shards/speed/' in line for line in out.read_text().splitlines()) if out.exists() else 0)
        return 1.0, 1.0

    monkeypatch.setattr(shards, "_timed", timed)
    monkeypatch.setattr(shards, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    arguments = ["--data", str(tmp_path / "list.csv"), "--images", "1", "--repeats", "2", "--memory", "--out", str(out)]
    assert shards.main(arguments) == 0
    assert there == [*range(8), *[8] * 8]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["repeats"] for line in lines} == {2} and len(lines) == 8 + 9
    clock = iter(range(100))
    monkeypatch.setattr(shards.time, "perf_counter", lambda: float(next(clock)))
    out.unlink()
    assert shards.main([*arguments, "--budget-s", "3.5"]) == 0
    assert len(there) == 16 + 3
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["what"] for line in lines if "ratio" in line["what"]] == [
        "shards/ratio/build without H, 1 worker to pillow loop, 1 process",
        "shards/ratio/build without H, 1 worker to pillow loop, 1 process, CPU",
    ]


@pytest.mark.parametrize(
    "words",
    ["--repeats 0", "--repeats -1", "--images -1", "--workers 0", "--scale -5", "--memory 100 0", "--memory -1"],
)
def test_nothing_is_measured_of_nothing(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --repeats 0 there were no records, and nothing said so."""
    option, *_, value = words.split()
    arguments = ["--images", "0", "--memory", "--out", str(tmp_path / "out.jsonl"), *words.split()]
    with pytest.raises(SystemExit) as ended:
        shards.main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {option}: " in said and value in said and "allowed: " in said
    assert not (tmp_path / "out.jsonl").exists()


def test_a_synthetic_catalogue_is_built_and_opened_in_processes_of_their_own(tmp_path: Path) -> None:
    records = {record["what"]: record for record in build_and_open(40, tmp_path, 0, "scale")}
    assert records["shards/scale/40/open for training"]["goal"] == 3.0
    assert all(json.dumps(record) and record["shapes"]["products"] == 40 for record in records.values())
    assert records["shards/scale/40/build, peak of the parent"]["value"] > 20
    assert list(tmp_path.iterdir()) == []


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_manifests_name_each_photograph(tmp_path: Path) -> None:
    rows = rows_of(manifest_of([tmp_path / "a.jpg"] * 2, tmp_path / "m.csv"))
    assert [row["product_id"] for row in rows] == ["p0000000", "p0000001"]
    rows = rows_of(synthetic_catalogue(700, tmp_path / "s"))
    assert len({row["product_id"] for row in rows}) == 700
    assert len({row["image_path"] for row in rows}) == 300
    assert all((tmp_path / "s" / row["image_path"]).is_file() for row in rows)


def test_the_peak_of_a_process_is_at_least_what_it_holds_and_nothing_of_one_that_is_gone() -> None:
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert peak_of(os.getpid()) > 64
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of(os.getpid())
    assert peak_of(child.pid) == 0
