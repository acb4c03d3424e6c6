"""Record files: whole at every moment, damaged lines told in words, nothing lost behind half a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compare, report
from benchmarks.archive import append, read, write
from shards.errors import BadData

ROOT = Path(__file__).parents[2]
OLD, NEW = {"what": "a/old", "value": 1.0}, {"what": "a/new", "value": 2.0}


def whats(path: Path) -> list[str]:
    return [record.what for record in read(path)]


@pytest.mark.parametrize("dies_in", ["fsync", "replace"])
def test_a_kill_while_writing_leaves_what_was_there(dies_in, tmp_path):
    """At the latest moments before the new file takes the old one's place; a folder's reader sees no third file."""
    file = tmp_path / "r.jsonl"
    write(file, [OLD])
    stub = {
        "fsync": "os.fsync = lambda _: os._exit(9)",
        "replace": "pathlib.Path.replace = lambda *_: os._exit(9)",
    }[dies_in]
    code = f"import os, pathlib; from benchmarks.archive import write; {stub}; "
    code += f"write(pathlib.Path({str(file)!r}), [{OLD!r}, {NEW!r}])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 9
    assert whats(tmp_path) == ["a/old"]
    write(file, [OLD, NEW])
    assert whats(tmp_path) == ["a/old", "a/new"]


def test_what_fails_to_be_json_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "r.jsonl"
    write(file, [OLD])
    with pytest.raises(TypeError):
        write(file, [{"what": "a/b", "value": object()}])
    assert whats(file) == ["a/old"] and os.listdir(tmp_path) == ["r.jsonl"]


def test_folders_are_made_links_stay_and_a_device_is_written_to(tmp_path):
    write(tmp_path / "deep" / "er" / "r.jsonl", [OLD])
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "deep" / "er" / "r.jsonl")
    write(link, [NEW])
    assert link.is_symlink() and whats(tmp_path / "deep") == ["a/new"]
    write(Path("/dev/null"), [NEW])
    assert not Path("/dev/null").is_file()


def test_half_a_last_line_is_left_out_and_told_by_file_and_line(tmp_path):
    file = tmp_path / "r.jsonl"
    write(file, [OLD, NEW])
    file.write_bytes(file.read_bytes()[:-8])
    told: list[str] = []
    assert [record.what for record in read(file, damaged=told)] == ["a/old"]
    assert len(told) == 1 and told[0].startswith(f"{file}:2: not JSON")
    with pytest.raises(BadData, match=r"r\.jsonl:2: not JSON"):
        read(file)


@pytest.mark.parametrize(
    "line",
    [
        '{"what": "a/b", "value": ' + "9" * 5000 + "}",
        '{"what": "a/b", "value": 1, "date": 5}',
        '{"what": "a/b", "value": 1, "quantiles": [1, 2]}',
        '{"what": "a/b", "value": 1, "settings": "batch 8"}',
        '{"what": "a/b", "value": 1, "unit": ["ms"]}',
        '{"what": "train/total", "value": 1, "settings": null}',
        '{"what": "a/b", "value": 1, "date": null}',
        '{"what": "a/b", "value": 1, "ratio": "x"}',
        '{"what": "a/b", "value": 1, "repeats": "x", "quantiles": {"min": 1, "max": 2}}',
        '{"what": "a/b", "value": 1, "repeats": null, "quantiles": {"min": 1, "max": 2}}',
        '{"what": "a/b", "value": 1, "repeats": 2, "quantiles": {"min": "x", "max": 2}}',
        '{"what": "a/b", "value": 1, "by_round": [1, "x"]}',
        '{"what": "a/b", "value": 1, "gpus": "two", "gpu": "x"}',
        "\x00\x00\x00\x00",
    ],
    ids=["digits", "date", "quantiles", "settings", "unit", "no settings", "no date", "ratio", "repeats", "no repeats",
         "quantile", "rate", "gpus", "zeros"],
)  # fmt: skip
def test_damage_of_any_kind_is_told_in_words(line, tmp_path, capsys):
    (tmp_path / "r.jsonl").write_text(json.dumps(OLD) + "\n" + line + "\n")
    told: list[str] = []
    assert [record.what for record in read(tmp_path, damaged=told)] == ["a/old"]
    assert len(told) == 1 and "r.jsonl:2: " in told[0]
    write(tmp_path / "whole.jsonl", [OLD])
    assert report.main(["--records", str(tmp_path)]) == 0
    assert compare.main([str(tmp_path / "whole.jsonl"), str(tmp_path / "r.jsonl")]) == 0
    assert "r.jsonl:2: " in capsys.readouterr().err


def test_what_a_record_may_leave_open_is_no_damage(tmp_path):
    """A row that did not run in a round, no commit outside of a checkout, no GPU, each repeat's own seconds."""
    fields = {"by_round": [1.0, None], "commit": None, "gpu": None, "driver": None, "ratio": None, "repeats": [1.0]}
    write(tmp_path / "r.jsonl", [OLD | fields])
    assert whats(tmp_path) == ["a/old"]


def test_what_is_appended_behind_half_a_line_is_whole(tmp_path):
    file = tmp_path / "r.jsonl"
    append(file, [OLD])
    with file.open("a") as half:
        half.write('{"what": "a/half", "val')
    append(file, [NEW])
    append(file, [NEW])
    told: list[str] = []
    assert [record.what for record in read(file, damaged=told)] == ["a/old", "a/new", "a/new"]
    assert len(told) == 1 and "r.jsonl:2: " in told[0]
