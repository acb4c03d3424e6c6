"""compare: every name is readable, and what the two runs do not share is said."""

import json
import math

import pytest

from skill_fast.evaluate.command import main

LONG = "probe/sleeve length/nonlinear/recall@95/global"


def finished(folder, scores, **result):
    folder.mkdir(parents=True)
    about = {"dataset": "d", "split": "test", "protocol": "p", "pooling": "class", "resize": 256, "crop": 224}
    (folder / "evaluation.json").write_text(json.dumps(about | result | {"rows": {"trained": scores}}))
    return str(folder)


def compared(capsys, *runs):
    assert main(["compare", *runs]) == 0
    return capsys.readouterr().out


def test_names_are_whole_where_the_output_is_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = [LONG, "retrieval/other_color/recall@10", "retrieval/other_color/recall@1"]
    scores, drawn = dict.fromkeys(names, 0.123456), {name: [-0.123456, 0.3, 0.5] for name in names}
    a, b = (finished(tmp_path / name, scores, replicates=drawn) for name in "ab")
    lines = compared(capsys, a, b).splitlines()
    for name in names:
        [line] = [line for line in lines if line.strip().startswith(name + " ")]
        assert line.rstrip().endswith("not told apart")


def test_scores_that_one_run_alone_has_are_named(tmp_path, capsys):
    both = {"knn/pattern/accuracy": 0.5, "retrieval/same_product/map": 0.5}
    a = finished(tmp_path / "a", both | {LONG: 0.1, "probe/sleeve length/majority": 0.2, "variants/ari": 0.3})
    b = finished(tmp_path / "b", both | {"retrieval/same_product/recall@1": 0.4, "color/nearest": 1.0})
    text = compared(capsys, a, b)
    assert "only A has: probe/sleeve length/..., variants/ari\n" in text
    assert "only B has: retrieval/same_product/recall@1, color/nearest\n" in text
    assert "only" not in compared(capsys, a, a)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pooling": "last4"}, "A and B differ in pooling: class, last4"),
        ({"crop": 96}, "A and B differ in crop: 224, 96"),
        ({"color_source": "photographs for 3"}, "A and B differ in color_source: not recorded, photographs for 3"),
        ({"variants": {"validation": "halves"}}, "differ in variants: not recorded, {'validation': 'halves'}"),
    ],
)
def test_how_the_runs_were_scored_otherwise_is_said(tmp_path, capsys, changed, says):
    a, b = finished(tmp_path / "a", {"x": 1}), finished(tmp_path / "b", {"x": 1}, **changed)
    assert says in compared(capsys, a, b)
    assert "differ" not in compared(capsys, a, a)


def test_replicates_that_are_not_finite_give_no_interval(tmp_path, capsys):
    drawn = {"x": [0.1, math.nan, 0.3]}
    a, b = (finished(tmp_path / name, {"x": 1}, replicates=drawn) for name in "ab")
    text = compared(capsys, a, b)
    assert "nan" not in text and "apart" not in text


def test_two_runs_of_one_folder_name_are_told_apart(tmp_path, capsys):
    a, b = finished(tmp_path / "one" / "run", {"x": 1}), finished(tmp_path / "two" / "run", {"x": 1})
    assert "A = one/run, B = two/run" in compared(capsys, a, b)
