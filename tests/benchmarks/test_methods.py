"""The one command: trains what is asked for, reads runs, and averages them right."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from benchmarks import method_runs, methods
from benchmarks.method_runs import CONTROLS, SCORES, Asked
from benchmarks.methods import cell, interval, main
from tests.conftest import TINY


def test_the_interval_is_students():
    """Of 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(.975, 2) = 4.302653."""
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(interval([5.0])[1]) and cell([0.25]) == "0.250"
    assert cell([1.0, 2.0, 3.0], 1) == "2.0 ±2.5"


def test_two_methods_are_trained_and_tabled_by_one_command(drawn, tmp_path, capfd):
    out = tmp_path / "records.jsonl"
    toy = [option for option in TINY if option != "--no-evaluate"]
    arguments = ["--methods", "simclr", "triplet", "--seeds", "0", "--steps", "3", "--data", str(drawn)]
    arguments += ["--runs", str(tmp_path / "runs"), "--out", str(out), *toy, "--watch-every", "0"]
    assert main(arguments) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(records) == 2 * (len(SCORES) + 1)
    assert {record["method"] for record in records} == {"simclr", "triplet"}
    by_what = {record["what"]: record for record in records}
    evaluation = json.loads((tmp_path / "runs" / "simclr-0" / "evaluation.json").read_text())
    score = by_what["methods/simclr/knn/pattern/accuracy"]
    assert score["value"] == evaluation["rows"]["trained"]["knn/pattern/accuracy"]
    assert score["controls"]["grey pixels"] == evaluation["rows"]["grey pixels"]["knn/pattern/accuracy"]
    shown = capfd.readouterr().out
    assert "simclr" in shown and "grey pixels" in shown
    before = (tmp_path / "runs" / "simclr-0" / "metrics.jsonl").stat().st_mtime_ns
    assert main(arguments) == 0, "what is finished is read, not trained again"
    assert (tmp_path / "runs" / "simclr-0" / "metrics.jsonl").stat().st_mtime_ns == before
    assert {record["precision"] for record in records} == {"fp32"}
    # Another learning rate is another study: neither the records nor the finished runs may pass for it.
    other = [*arguments, "--optimizer.lr", "0.5"]
    assert main(other) == 2 and "trained under other settings" in capfd.readouterr().err
    other[other.index("--out") + 1] = str(tmp_path / "other.jsonl")
    assert main(other) == 2 and "is a finished run of other settings" in capfd.readouterr().err
    assert not (tmp_path / "other.jsonl").exists()
    model = tmp_path / "runs" / "simclr-0" / "model.json"
    model.rename(model.with_suffix(".away"))
    assert main(other) == 3 and "does not say its settings" in capfd.readouterr().err
    model.with_suffix(".away").rename(model)
    speed = [*arguments, "--speed-only"]
    assert main(speed) == 0
    added = [json.loads(line) for line in out.read_text().splitlines()][len(records) :]
    assert [record["what"] for record in added] == ["methods/simclr/products_per_s", "methods/triplet/products_per_s"]
    assert not (tmp_path / "runs" / "simclr-0-speed" / "evaluation.json").exists()
    assert main([*speed, "--no-speed"]) == 2


def test_a_study_goes_on_from_its_records_and_ablations_change_one_thing(drawn, tmp_path, monkeypatch, capsys):
    """What has records is not trained; ``--no-speed`` leaves none; an ablation is the preset and one option."""
    out, trained = tmp_path / "records.jsonl", []
    line = {"seed": 0, "steps": 3, "value": 0.5, "unit": "share", "controls": dict.fromkeys(CONTROLS, 0.1)}

    def record(asked, run):
        shared = {"method": asked.name, "settings_sha256": "those", **line}
        yield from ({"what": f"methods/{asked.name}/{score}", **shared} for score in SCORES)

    monkeypatch.setattr(methods, "score_records", record)
    monkeypatch.setattr(Asked, "settings", lambda asked: "those")
    monkeypatch.setattr(
        method_runs.subprocess, "run", lambda command, check: trained.append(command) or SimpleNamespace(returncode=0)
    )
    arguments = ["--methods", "skill", "--seeds", "0", "--steps", "3", "--out", str(out), "--no-speed"]
    assert main([*arguments, "--ablations"]) == 0
    assert [command[command.index("--preset") + 1] for command in trained] == ["skill_demo"] * 6
    (weak,) = [command for command in trained if "--views.generic.gray-p" in command]
    assert weak[-6:-2] == ["--views.generic.gray-p", "0.1", "--views.generic.jitter-p", "0.1"]
    assert len(out.read_text().splitlines()) == 6 * len(SCORES)
    assert main([*arguments, "--ablations"]) == 0 and len(trained) == 6
    twice = out.read_text()
    out.write_text(twice + twice)
    assert len(method_runs.kept(out, Asked("skill", 0, 3, method_runs.TRAIN, ""))) == len(SCORES), "a run once"
    out.write_text(twice.replace('"settings_sha256": "those", ', ""))
    assert main(arguments) == 2 and "from before settings were recorded" in capsys.readouterr().err
    out.write_text(twice)
    torn = out.read_text().splitlines()[1:]
    out.write_text("\n".join(torn) + "\n")
    assert main(arguments) == 0 and len(trained) == 7, "a run with a record lacking is trained again"
    assert main([*arguments, "--ablations", "--data", str(drawn)]) == 2


def test_settings_are_all_that_weights_and_batches_depend_on(drawn):
    """The default precision, batch, data and one option; what only watches changes nothing."""
    ds_configs = method_runs.TRAIN.parents[1] / "ds_configs"
    usual = {"name": "byol", "seed": 0, "steps": 3, "ds_config": ds_configs / "zero2_fp32.json", "data": str(drawn)}
    same = Asked(**usual).settings()
    assert same == Asked(**usual, more=("--watch-every", "7")).settings()
    others = [{"seed": 1}, {"steps": 4}, {"name": "dino"}, {"ds_config": ds_configs / "zero2.json"}]
    others += [{"more": ("--views.global-scale", "0.4", "1.0")}, {"name": "skill"}, {"name": "skill_weak_color"}]
    found = [Asked(**(usual | other)).settings() for other in others]
    assert len({same, *found}) == len(others) + 1


def test_an_unknown_method_is_named(capsys):
    assert main(["--methods", "swav"]) == 2
    assert "method 'swav' is not known" in capsys.readouterr().err
