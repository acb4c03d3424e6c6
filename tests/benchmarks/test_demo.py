"""The demo's records: what a run must have learned to keep the promise, and runs that have not finished."""

from __future__ import annotations

import json

import pytest
import yaml

from benchmarks.demo import SCORES, collapsed, keeps_promise, main

UNTRAINED = {"knn/pattern/accuracy": 0.2, "knn/color/accuracy": 0.8, "retrieval/other_color/recall@5": 0.03}
LEARNED = {"knn/pattern/accuracy": 0.31, "knn/color/accuracy": 0.59, "retrieval/other_color/recall@5": 0.07}


def test_all_three_must_hold():
    assert keeps_promise(LEARNED, UNTRAINED)
    for score in LEARNED:
        assert not keeps_promise({**LEARNED, score: UNTRAINED[score]}, UNTRAINED)


@pytest.mark.parametrize(
    ("entropy", "kl", "wanted"), [(3.0, 0.5, False), (5.54, 0.5, True), (0.0, 0.5, True), (3.0, 0.0, True)]
)
def test_collapse_of_every_kind_is_seen(entropy, kl, wanted):
    assert collapsed(entropy, kl, prototypes=256) == wanted


def test_a_record_a_score_with_its_controls(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    row = {score: 0.5 for score in SCORES}
    rows = {"trained": row | LEARNED, "untrained": row | UNTRAINED}
    evaluation = {"rows": rows, "step": 7, "products": 9, "dataset": "abc"}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    (run / "config.yaml").write_text(
        yaml.safe_dump({"seed": 3, "head": {"prototypes": 256}, "provenance": {"versions": {"torch": "2.15.0"}}})
    )
    (run / "metrics.jsonl").write_text(json.dumps({"step": 7, "teacher_entropy": 3.0, "kl": 0.5}) + "\n")
    assert main([str(run), "--out", str(tmp_path / "records.jsonl")]) == 0
    written = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert len(written) == len(SCORES)
    assert written[0]["value"] == 0.31 and written[0]["controls"] == {"untrained": 0.2}
    assert all(record["keeps_promise"] and record["seed"] == 3 and record["versions"] for record in written)


def test_an_unfinished_run_is_named(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "r.jsonl")]) == 3
    assert "not a finished run" in capsys.readouterr().err
