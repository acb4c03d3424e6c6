"""Every benchmark's record says with what it was measured (docs/contracts.md, section 4)."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.archive import FOLDER, folder_name, read
from benchmarks.method_runs import SCORES
from benchmarks.tables import KINDS
from skill_fast.config import parse, save
from skill_fast.presets import PRESETS

ALWAYS = {"commit", "dirty", "versions", "cpu", "cores", "host_load", "gpu", "gpus", "driver", "clocks", "date"}
ROW = {"what": "x/y", "value": 1.0, "unit": "ms"}
FAILED = {"can_not": "a stub"}
FAULTS = {"ratio_of_cpu_time": 1, "broken": 0, "found": 0, "found_wrongly": 0, "skipped": {}}


def a_run(folder: Path) -> Path:
    """A finished run as far as its scores are asked for, its config.yaml as training writes it."""
    folder.mkdir(parents=True)
    config = parse(["--preset", "skill_demo"], PRESETS).config
    save(folder / "config.yaml", config, {})
    (folder / "model.json").write_text(json.dumps({"dataset": "abc"}))
    import benchmarks.demo as demo

    row = dict.fromkeys([*demo.SCORES, *SCORES], 0.5)
    rows = dict.fromkeys(("trained", "untrained", "raw pixels", "grey pixels", "colour histogram"), row)
    (folder / "evaluation.json").write_text(json.dumps({"rows": rows, "step": 7, "products": 9, "dataset": "abc"}))
    (folder / "metrics.jsonl").write_text(json.dumps({"teacher_entropy": 3.0, "kl": 0.5, "products_per_s": 9.0}) + "\n")
    return folder


EVALUATED = {"rows": {"trained": {}}, "products": 1, "photographs": 1, "tasks": [], "seconds": {"scores": 1.0}}
EVALUATED["seconds"]["embedding"] = 1.0
STUBS: dict[str, dict[str, Callable[..., object]]] = {
    "train": {"measure": lambda *_: FAILED},
    "peers": {"measure": lambda *_: FAILED},
    "loader": {"measure": lambda *_: FAILED},
    "step": {"measure": lambda *_: FAILED},
    "scaling": {"measure": lambda *_: {"can_not": "not begun: a stub"}},
    "kernels": {"copy_bandwidth": lambda *_: ROW, "tasks": lambda *_: []},
    "arrangements": {"measure": lambda *_: iter([[ROW | FAILED | {"value": None}]])},
    "feeding": {"measure": lambda _: iter([ROW])},
    "faults": {"measure": lambda *_: iter([[ROW | FAULTS]])},
    "shards": {"speed": lambda *_: iter([[ROW]]), "drawn_photographs": lambda _: [Path("a")]},
    "evaluate": {"measure": lambda _: iter([ROW])},
    "full_report": {"evaluated": lambda *_: (EVALUATED, 1.0)},
    "demo": {},
    "methods": {"train": lambda asked, runs, evaluate: a_run(runs / asked.name)},
}
DATA = ["--data", "{data}"]
ASKED = {
    **{kind: DATA for kind in ("train", "peers", "loader", "arrangements", "feeding", "faults", "scaling")},
    "shards": ["--memory"],
    "full_report": ["{run}", "--data", "x={data}"],
    "demo": ["{run}"],
    "methods": ["--methods", "skill", "--seeds", "0"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_says_with_what_it_was_measured(kind, drawn, tmp_path, monkeypatch):
    """What measures is replaced, what makes the record is not."""
    module, out = import_module(f"benchmarks.{kind}"), tmp_path / "records.jsonl"
    for name, stub in STUBS[kind].items():
        monkeypatch.setattr(module, name, stub)
    monkeypatch.chdir(tmp_path)
    run = a_run(tmp_path / "run") if kind == "demo" else tmp_path
    asked = [text.format(data=drawn, run=run) for text in ASKED.get(kind, [])]
    assert module.main([*asked, "--out", str(out)]) in (0, 1)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found and all(record.keys() >= {"what", "value"} | ALWAYS for record in found)
    assert str(drawn) not in out.read_text(), "where data lay is nobody's business"


def test_a_data_set_is_called_by_its_folder_and_records_hold_no_paths():
    assert [folder_name(data) for data in ("/x/luma/manifest.csv", "x/luma/", "luma", "")] == ["luma"] * 3 + [""]
    names = {record.fields["data"] for record in read(FOLDER) if "data" in record.fields}
    assert names and not [name for name in names if "/" in name]
