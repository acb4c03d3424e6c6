"""Tables and comparison from finished evaluations: layout, escapes, and what is refused."""

import csv
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from skill_fast.evaluate.bootstrap import mean_of
from skill_fast.evaluate.command import main
from skill_fast.evaluate.compare import differences
from skill_fast.evaluate.finished import read_all, read_finished
from skill_fast.evaluate.tables import figure


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
    assert heading[4] == "pattern Non-linear Acc" and heading[7:] == ["dataset", "split", "protocol"]
    assert first[:3] == ["skill_1", "81.25", "40.62"] and second[:2] == ["dino", "50.00"]
    assert first[7:] == ["d", "test", "p"] and second[7:] == ["other", "test", "p"]
    text = (tmp_path / "out" / "probes.tex").read_text()
    assert r"skill\_1 & 81.25 & 40.62" in text and text.startswith(r"\begin{tabular}{lrrrrrr}")
    assert (tmp_path / "out" / "probes.md").read_text().splitlines()[2].startswith("| skill_1 | 81.25 |")
    with open(tmp_path / "out" / "color_entropy.csv", newline="") as file:
        row = dict(zip(*list(csv.reader(file))[:2]))
    assert [row[f"color/{name}"] for name in ("clusters/mean", "floor/mean", "ceiling/mean")] == [
        "1.0100",
        "0.2000",
        "1.6000",
    ]
    assert row["color/design/pattern/purity"] == "0.5000" and row["color/clusters/size_weighted"] == "-"
    with Image.open(tmp_path / "out" / "color_entropy.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 10
    assert "dino was scored on another dataset than skill_1" in capsys.readouterr().out
    # Each file says so by itself: it may be read without the others.
    for name in ("probes.md", "color_entropy.md"):
        assert "\n\nNote: dino was scored on another dataset than skill_1.\n" in (tmp_path / "out" / name).read_text()
    for name in ("probes.tex", "color_entropy.tex"):
        assert r"dino was scored on another dataset than skill\_1." in (tmp_path / "out" / name).read_text()


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


def cells(path):
    """The first column of a Markdown table's body, by its unescaped pipes."""
    return [re.split(r"(?<!\\)\|", line)[1].strip() for line in path.read_text().splitlines()[2:] if line[:1] == "|"]


def test_names_are_text_in_every_file(tmp_path):
    names = [r"$\frac$", "$a$", "a\nb", "*b* _c_ `d` <e> a|b", "[x] & ~y^ 100%", "run#1{z}"]
    runs = [finished(tmp_path / name, 0.5) for name in names]
    out = tmp_path / "out"
    assert main(["tables", *map(str, runs), "--out", str(out), "--no-papers"]) == 0
    assert cells(out / "probes.md") == [
        *(r"\$\\frac\$", r"\$a\$", r"a\\nb", r"\*b\* \_c\_ \`d\` \<e\> a\|b", r"\[x\] \& \~y^ 100%", "run#1{z}")
    ]
    rows = [line.split(" & ")[0] for line in (out / "probes.tex").read_text().splitlines()[4:-2]]
    assert rows[0] == r"\$\textbackslash{}frac\$" and rows[2] == r"a\textbackslash{}nb"
    assert rows[3] == r"{*}b{*} \_c\_ `d` \textless{}e\textgreater{} a\textbar{}b"
    assert rows[4] == r"{[}x] \& \textasciitilde{}y\textasciicircum{} 100\%" and rows[5] == r"run\#1\{z\}"
    with open(out / "probes.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [name.replace("\n", r"\n") for name in names]
    drawn = figure(read_all(runs), with_papers=False)
    drawn.draw_without_rendering()
    [axes] = drawn.axes
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())
    assert "$a$" in [label.get_text() for label in axes.get_xticklabels()]


def test_the_legend_covers_no_bar(tmp_path):
    runs = read_all([finished(tmp_path / f"run-{place}", 0.5) for place in range(7)])
    for with_papers in (True, False):
        drawn = figure(runs, with_papers=with_papers)
        drawn.draw_without_rendering()
        [legend], [axes] = drawn.legends, drawn.axes
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_nothing_is_written_where_one_table_can_not_be_made(tmp_path, monkeypatch):
    run = finished(tmp_path / "run", 0.5)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["tables", str(run), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_an_entropy_without_its_floor_is_drawn_without_that_mark(tmp_path):
    run = finished(tmp_path / "run", 0.5)
    result = json.loads((run / "evaluation.json").read_text())
    for name in ("color/floor/mean", "color/ceiling/mean", "color/design/pattern/purity"):
        del result["rows"]["trained"][name]
    (run / "evaluation.json").write_text(json.dumps(result))
    assert main(["tables", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "| run | 1.0100 | - | - |" in (tmp_path / "out" / "color_entropy.md").read_text()
    [axes] = figure(read_all([run]), with_papers=False).axes
    assert "purity\nnot recorded" in [text.get_text() for text in axes.texts]


def test_an_attribute_with_a_slash_or_a_space_keeps_its_column(tmp_path):
    run = finished(tmp_path / "run", 0.5)
    text = (run / "evaluation.json").read_text().replace("probe/pattern/", "probe/style/fit of it/")
    (run / "evaluation.json").write_text(text)
    assert main(["tables", str(run), "--out", str(tmp_path / "out")]) == 0
    with open(tmp_path / "out" / "probes.csv", newline="") as file:
        heading, row = csv.reader(file)
    assert heading[1] == "style/fit of it Linear Acc" and row[1:4] == ["50.00", "25.00", "25.00"]


def test_runs_of_one_folder_name_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    places = [finished(tmp_path / "one" / "run", 0.5), finished(tmp_path / "two" / "run", 0.6, dataset="other")]
    names = [run.name for run in read_all([*places, places[0], finished(tmp_path / "other", 0.5)])]
    assert names == ["one/run", "two/run", "one/run (2)", "other"]
    assert main(["tables", *map(str, places), "--out", str(tmp_path / "out")]) == 0
    assert "Note: two/run was scored on another dataset than one/run." in (tmp_path / "out" / "probes.md").read_text()


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
