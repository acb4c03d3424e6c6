"""Names of files that are no UTF-8, and texts that no file can be called: an error or a reject, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shards.append import append
from shards.build import build
from shards.cli import main
from shards.errors import BadUsage
from shards.index import read_dataset
from shards.merge import merge
from shards.places import place
from tests.shards.conftest import photograph

NAME = os.fsdecode(b"p\xffq")
"""As Python holds the byte 0xff of a file's name: half of a surrogate pair."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two products, one of them and its photograph under a name that is no UTF-8."""
    folder = tmp_path / f"source {NAME}"
    photograph(folder / "a" / "0.png", seed=1)
    photograph(tmp_path / "1.png", seed=2)
    (folder / f"b {NAME}").mkdir()
    shutil.move(tmp_path / "1.png", folder / f"b {NAME}" / f"{NAME}.png")
    (folder / "a" / f"{NAME}.jpg").write_bytes(b"")
    return folder


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    # Arrow opens no such name by itself.
    with (folder / name).open("rb") as file:
        return pq.read_table(file).to_pylist()


def command(*words: object) -> int:
    return main([str(word) for word in words])


def test_every_command_takes_names_that_are_no_utf8(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """stdout of a test is strict UTF-8, as that of most terminals."""
    out, merged = tmp_path / f"out {NAME}", tmp_path / f"merged {NAME}"
    for _ in range(2):
        assert command("build", source, out, "--workers", 0) == 0
    assert "already built" in capsys.readouterr().out
    products = rows(out, "products.parquet")
    assert [row["product_id"] for row in products] == ["a", "b p\\xffq"]
    (reject,) = rows(out, "rejected.parquet")
    assert reject["reason"] == "empty_file" and reject["image_path"].endswith("/a/p\\xffq.jpg")
    photograph(source / "c" / "0.png", seed=3)
    assert command("build", source, out, "--workers", 0) == BadUsage.exit_code
    assert command("append", source, out, "--workers", 0) == 0
    manifest = tmp_path / f"{NAME}.jsonl"
    lines = [{"product_id": name, "image_path": str(source / "a" / "0.png")} for name in ("a", "d")]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    assert command("build", manifest, tmp_path / f"second {NAME}", "--workers", 0) == 0
    for _ in range(2):
        assert command("merge", merged, out, tmp_path / f"second {NAME}", "--on-duplicate", "first") == 0
    rejects = rows(merged, "rejected.parquet")
    assert [row["detail"].count("p\\xffq") for row in rejects if row["reason"] == "duplicate_product"] == [2]
    for folder in (out, merged):
        assert command("verify", "--full", folder) == 0
        assert command("repair", folder) == 0
        assert command("info", folder) == command("info", folder, "--json") == 0
    assert command("sheet", out, tmp_path / f"{NAME}.png", "--source", source) == 0
    assert command("merge", merged, out) == BadUsage.exit_code
    assert command("verify", tmp_path / f"gone {NAME}") == 3
    said = capsys.readouterr()
    assert "p\\udcffq" in said.out and "gone p\\udcffq" in said.err


@pytest.mark.parametrize("name", ["half \ud83d", "a\0b", "file:///x/%00", "s3://bucket/\udcff", "s3://\ud83d/x"])
def test_what_no_place_can_be_called_is_refused(source: Path, tmp_path: Path, name: str) -> None:
    out = build(source, tmp_path / "out", workers=0) and tmp_path / "out"
    for given in (name, Path(name)) if "://" not in name else (name,):
        for use in (
            lambda given=given: place(given),
            lambda given=given: build(given, tmp_path / "new", workers=0),
            lambda given=given: build(given, tmp_path / "new", workers=0, format="folder"),
            lambda given=given: build(source, given, workers=0),
            lambda given=given: append(given, out, workers=0),
            lambda given=given: append(source, given, workers=0),
            lambda given=given: merge(place(given), [out]),
            lambda given=given: merge(tmp_path / "new", [place(given)]),
        ):
            with pytest.raises(BadUsage, match=r"is no Unicode text|holds a NUL character") as caught:
                use()
            assert str(caught.value).encode("utf-8")
    assert not (tmp_path / "new").exists() and read_dataset(out)["counts"]["products"] == 2


def test_a_byte_of_a_name_may_be_written_as_an_address_has_it(source: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "plain" / "a" / "0.png")
    build(tmp_path / "plain", f"file://{tmp_path}/o%FFut", workers=0)
    assert read_dataset(tmp_path / os.fsdecode(b"o\xffut"))["counts"]["products"] == 1
    assert build(f"file://{tmp_path}/source%20p%FFq", tmp_path / "out", workers=0)["counts"]["products"] == 2
