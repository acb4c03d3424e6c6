"""The benchmark of scores at scale on few products: what it draws, what it records."""

import json

import numpy as np

from benchmarks import evaluate, full_report
from benchmarks.archive import read
from benchmarks.evaluate import drawn as drawn_embeddings
from benchmarks.evaluate import main
from benchmarks.headlines import scored_at


def test_designs_come_in_four_colours_and_lie_near_their_pattern():
    catalogue, again = drawn_embeddings(2001), drawn_embeddings(2001)
    np.testing.assert_array_equal(catalogue.embeddings, again.embeddings)
    assert catalogue.embeddings.shape == (2001, 384) and catalogue.embeddings.dtype == np.float32
    assert [len(set(catalogue.color[start : start + 4])) for start in range(0, 2000, 4)] == [4] * 500
    assert (catalogue.group[:2000].reshape(-1, 4) == catalogue.group[:2000:4, None]).all()
    unit = catalogue.embeddings / np.linalg.norm(catalogue.embeddings, axis=1, keepdims=True)
    cosines, same = unit @ unit.T, catalogue.pattern[:, None] == catalogue.pattern
    assert cosines[same].mean() > cosines[~same].mean() + 0.3


def test_every_part_is_recorded_with_its_time_and_the_whole_with_its_memory(tmp_path):
    out = tmp_path / "records.jsonl"
    assert main(["--count", "1200", "--out", str(out)]) == 0
    records = {record.name: record for record in read(out)}
    parts = ("neighbours", "k-means", "retrieval", "kNN of two attributes")
    assert all(records[part].unit == "s" and records[part].value > 0 for part in parts)
    assert records["all parts"].value >= sum(records[part].value for part in parts)
    assert 0.1 < records["peak memory"].value < 100
    assert 0.5 < records["score/knn/pattern"].value <= 1
    low, high = (records["score/retrieval/other_color/map"].fields["quantiles"][q] for q in ("p2.5", "p97.5"))
    assert low < records["score/retrieval/other_color/map"].value < high
    assert json.loads(out.read_text().splitlines()[0])["shapes"] == {"products": 1200, "dimensions": 384}
    (row,) = scored_at(1200)(list(records.values()))
    assert row[1].endswith("GB") and scored_at(999)(list(records.values())) == []


def test_too_few_products_are_refused(capsys):
    assert main(["--count", "10"]) == 2
    assert "1000 or more" in capsys.readouterr().err


def test_a_full_report_is_timed_as_a_user_starts_it(trainer, drawn, tmp_path, capfd):
    """On a run of two steps, without the probes, which take long: five embeddings, each repeat of both parts."""
    trainer.run(tmp_path / "run", "--steps", "2")
    out = tmp_path / "records.jsonl"
    arguments = [str(tmp_path / "run"), "--data", f"toy={drawn}", "--out", str(out), "--tasks", "knn,retrieval"]
    assert full_report.main(arguments) == 0
    scores, embedding = (record for record in read(out))
    assert (scores.what, embedding.what) == ("full_report/scores", "full_report/embedding")
    assert scores.unit == "s" and 0 < scores.value == scores.fields["repeats"][0] and scores.fields["goal"] == 180
    assert scores.fields["shapes"]["embeddings"] == 5 and scores.fields["shapes"]["attributes probed"] == 0
    assert scores.fields["tasks"] == ["knn", "retrieval"] and scores.data == "toy"
    assert scores.fields["cpu_s_of_all"][0] > 0
    capfd.readouterr()
    assert full_report.main([str(tmp_path / "none"), "--data", f"toy={drawn}"]) != 0
    assert "skill-eval ended with exit code" in capfd.readouterr().err
    assert full_report.main([str(tmp_path / "run"), "--data", "toy"]) == 2


def test_a_part_is_written_when_it_is_done(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    out = tmp_path / "records.jsonl"
    monkeypatch.setattr(evaluate, "cluster", stopped)
    assert main(["--count", "1000", "--out", str(out)]) == 130
    parts = ["neighbours", "kNN of two attributes", "colour entropy of neighbours"]
    assert [record.name for record in read(out)] == parts
    assert all(r.fields["dtype"] == "float32" and r.fields["host_load"] >= 0 for r in read(out))
