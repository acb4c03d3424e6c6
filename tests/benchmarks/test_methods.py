"""The one command: trains what is asked for, reads runs, and averages them right."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.methods import SCORES, cell, interval, main
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


def test_an_unknown_method_is_named(capsys):
    assert main(["--methods", "swav"]) == 2
    assert "method 'swav' is not known" in capsys.readouterr().err
