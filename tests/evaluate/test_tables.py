"""Tables and comparison from finished evaluations: layout, escapes, and what is refused."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from skill_fast.evaluate.bootstrap import mean_of
from skill_fast.evaluate.compare import differences
from skill_fast.evaluate.finished import read_finished
from skill_fast.evaluate.suite import main


def finished(folder, accuracy, dataset="d"):
    folder.mkdir()
    scores = {
        f"probe/pattern/{k}/{s}": accuracy / 2 for k in ("linear", "nonlinear") for s in ("recall@90", "recall@95")
    }
    scores |= {f"probe/pattern/{k}/accuracy": accuracy for k in ("linear", "nonlinear")}
    scores |= {
        "probe/pattern/linear/accuracy_low": accuracy - 0.02,
        "probe/pattern/linear/accuracy_high": accuracy + 0.02,
    }
    scores |= {"probe/pattern/majority": 0.3, "color/clusters/mean": 1.01, "color/floor/mean": 0.2}
    scores |= {"color/ceiling/mean": 1.6, "color/design/pattern/purity": 0.5}
    result = {"dataset": dataset, "split": "test", "protocol": "p", "rows": {"trained": scores}}
    (folder / "evaluation.json").write_text(json.dumps(result))
    return folder


def test_tables_in_the_papers_layout(tmp_path, capsys):
    runs = [finished(tmp_path / "skill_1", 0.8125), finished(tmp_path / "dino", 0.5, dataset="other")]
    assert main(["tables", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    with open(tmp_path / "out" / "probes.csv", newline="") as file:
        heading, first, second = csv.reader(file)
    assert heading[1:4] == ["pattern Linear Acc", "pattern Linear R@90", "pattern Linear R@95"]
    assert heading[4] == "pattern Non-linear Acc" and len(heading) == 7
    assert first[:3] == ["skill_1", "81.25", "40.62"] and second[:2] == ["dino", "50.00"]
    text = (tmp_path / "out" / "probes.tex").read_text()
    assert r"skill\_1 & 81.25 & 40.62" in text and text.startswith(r"\begin{tabular}{lrrrrrr}")
    assert (tmp_path / "out" / "probes.md").read_text().splitlines()[2].startswith("| skill_1 | 81.25 |")
    with open(tmp_path / "out" / "color_entropy.csv", newline="") as file:
        assert list(csv.reader(file))[1] == ["skill_1", "1.0100", "0.2000", "1.6000", "0.5000"]
    with Image.open(tmp_path / "out" / "color_entropy.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 10
    assert "dino was scored on another dataset than skill_1" in capsys.readouterr().out


def test_the_papers_figures_stand_apart_and_are_marked(tmp_path):
    run = finished(tmp_path / "skill", 0.8)
    assert main(["tables", str(run), "--out", str(tmp_path / "out")]) == 0
    ours, *theirs = (tmp_path / "out" / "probes.md").read_text().split("\n\n")
    assert "paper" not in ours and len(theirs) == 3
    assert "| DINO, Shirt (SkiLL's paper, private data, Table 2) | 80.29 | 61.21 |" in theirs[0]
    assert (
        theirs[2].splitlines()[-1].startswith("| SkiLL, Women Dress (SkiLL's paper, private data, Table 4) | 83.99 |")
    )
    assert r"SkiLL\textbackslash{}H, Women Dress" in (tmp_path / "out" / "probes.tex").read_text()
    with open(tmp_path / "out" / "papers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # Eight rows of twelve, four of six, three of six, and the two entropies of the text.
    assert len(rows) == 8 * 12 + 4 * 6 + 3 * 6 + 2 and {row["whose"] for row in rows} == {"SkiLL's paper, private data"}
    sleeve = [
        r["printed"] for r in rows if r["method"] == "DINO" and r["data"] == "Shirt" and "Sleeve Linear" in r["score"]
    ]
    assert sleeve == ["91.39", "78.81", "77.81"]
    assert "1.01" in (tmp_path / "out" / "color_entropy.md").read_text()
    assert main(["tables", str(run), "--out", str(tmp_path / "bare"), "--no-papers"]) == 0
    assert not (tmp_path / "bare" / "papers.csv").exists()
    assert "paper" not in (tmp_path / "bare" / "probes.md").read_text()


def with_replicates(run, name, values):
    """Replicates as an evaluation of these per-product values writes them."""
    result = json.loads((run / "evaluation.json").read_text())
    result["replicates"] = {name: mean_of(values).replicates.tolist()}
    result["rows"]["trained"][name] = float(values.mean())
    (run / "evaluation.json").write_text(json.dumps(result))


def test_a_difference_is_drawn_over_the_same_products(tmp_path, capsys):
    a, b, c = (finished(tmp_path / name, 0.5) for name in "abc")
    name, rng = "probe/pattern/linear/accuracy", np.random.default_rng(0)
    right = rng.random(400) < 0.5
    better = right.copy()
    better[np.flatnonzero(~right)[:20]] = True
    # b is right wherever a is, and on 20 more; c has as many right answers as b, but elsewhere.
    for run, values in ((a, right), (b, better), (c, rng.permutation(better))):
        with_replicates(run, name, values)
    paired = next(d for d in differences(read_finished(a), read_finished(b)) if d.name == name)
    assert paired.b - paired.a == pytest.approx(0.05)
    # 20 of 400 differ, all one way: 0.05 +- 1.96 sqrt(0.05 * 0.95 / 400).
    assert (paired.low, paired.high) == (pytest.approx(0.0286, abs=0.005), pytest.approx(0.0714, abs=0.005))
    assert paired.verdict == "apart"
    unlike = next(d for d in differences(read_finished(a), read_finished(c)) if d.name == name)
    # Independent answers: 1.96 sqrt(2 * 0.25 / 400) = 0.069, which holds 0.
    assert unlike.verdict == "not told apart" and unlike.high - unlike.low == pytest.approx(0.138, abs=0.02)
    others = {d.name: d.verdict for d in differences(read_finished(a), read_finished(b)) if d.name != name}
    assert set(others.values()) == {""} and not any(each.endswith("_low") for each in others)
    assert main(["compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "+0.05" in printed and "apart" in printed


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        ("{", "no JSON"),
        ("[]", "no scores"),
        ('{"rows": {}}', "no scores"),
        ('{"rows": {"trained": {"x": 1}}, "replicates": {"x": "no"}}', "replicates"),
    ],
)
def test_what_is_no_evaluation_is_refused(tmp_path, capsys, content, says):
    (tmp_path / "run").mkdir()
    if content is not None:
        (tmp_path / "run" / "evaluation.json").write_text(content)
    assert main(["tables", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err
    assert says in error and "skill-eval" in error and "Traceback" not in error


def test_runs_on_different_data_are_not_compared(tmp_path, capsys):
    a, b = finished(tmp_path / "a", 0.5), finished(tmp_path / "b", 0.6, dataset="other")
    assert main(["compare", str(a), str(b)]) == 3
    assert "another dataset" in capsys.readouterr().err
