"""The study's tables: runs by seed, differences within a seed, and a verdict only where seeds agree."""

from __future__ import annotations

import pytest

from benchmarks.archive import Record
from benchmarks.method_runs import CONTROLS, SCORES
from benchmarks.study import FINDINGS, by_steps, finding_table, runs_of, score_table, study, verdict

PATTERN = "knn/pattern/accuracy"


def run(method: str, seed: int, value: float, control: float = 0.1, steps: int = 900) -> list[Record]:
    """A run with the same value for every score."""
    shared = {"method": method, "seed": seed, "steps": steps, "controls": dict.fromkeys(CONTROLS, control)}
    lines = [{"what": f"methods/{method}/{score}", "value": value, "unit": unit} for score, (_, unit) in SCORES.items()]
    return [Record(line | shared, "study.jsonl", place) for place, line in enumerate(lines, 1)]


def texts(table) -> dict[str, list[str]]:
    return {row[0][0]: [text for text, _ in row[1:]] for row in table.rows}


def test_scores_are_means_over_seeds_and_the_best_comes_first():
    """byol .2 and .4: mean .3, standard error .1, t(.975, 1) = 12.7062, so 1.271 to either side."""
    rows = texts(score_table([*run("byol", 0, 0.2), *run("byol", 1, 0.4), *run("simclr", 0, 0.7)]))
    assert list(rows) == ["simclr", "byol", *CONTROLS]
    assert rows["byol"][:2] == ["2", "0.300 ±1.271"] and rows["simclr"][:2] == ["1", "0.700"]
    assert rows["grey pixels"][1] == "0.100 ±0.000", "a control once a seed, not once a run"


def test_speeds_of_runs_of_another_length_stand_beside_the_scores():
    speeds = [
        Record({"what": "methods/byol/products_per_s", "value": v, "unit": "products/s", "steps": 60}, "s.jsonl", 1)
        for v in (100.0, 100.0)
    ]
    rows = texts(score_table([*run("byol", 0, 0.2), *speeds, *run("simclr", 0, 0.7)]))
    assert rows["byol"][-1] == "100 ±0" and rows["simclr"][-1] == rows["grey pixels"][-1] == ""


def test_photographs_that_were_built_otherwise_lend_no_controls():
    records = [*run("skill", 0, 0.5, control=0.1), *run("skill_no_preprocessing", 0, 0.4, control=0.9)]
    rows = texts(score_table(records))
    assert rows["raw pixels"][1] == "0.100" and rows["skill_no_preprocessing"][1] == "0.400"


def test_the_later_record_of_a_run_counts():
    records = [*run("skill", 0, 0.6), *run("dino", 0, 0.2), *run("dino", 0, 0.3)]
    assert {name: of[0][PATTERN] for name, of in runs_of(records).items()} == {"skill": 0.6, "dino": 0.3}


def test_each_length_has_tables_of_its_own_and_the_one_with_most_records_comes_first():
    speed = Record(
        {"what": "methods/dino/products_per_s", "value": 70.0, "unit": "products/s", "steps": 80}, "s.jsonl", 1
    )
    records = [*run("skill", 0, 0.5, steps=1400), *run("skill", 0, 0.6), *run("dino", 0, 0.2), speed]
    lengths = by_steps(records)
    assert list(lengths) == [900, 1400], "speed is no length of its own"
    assert runs_of(lengths[900])["skill"][0][PATTERN] == 0.6 and runs_of(lengths[1400])["skill"][0][PATTERN] == 0.5
    first, second = study(records).split("### 1,400 steps\n\n")
    assert first.startswith("### 900 steps\n\nMeans over seeds") and "| dino | 1 | 0.200 |" in first
    assert "SkiLL before DINO | kNN pattern | 1 | +0.400 | one seed: as the papers say" in first
    assert "| 70 |" in first and "dino" not in second, "a method has a row where it has runs"
    assert second.endswith("No finding has runs on both of its sides.\n")


@pytest.mark.parametrize(
    ("differences", "says"),
    [
        ((), "no run"),
        ((0.1,), "one seed: as the papers say"),
        ((-0.1,), "one seed: the other way"),
        ((0.0,), "one seed: equal"),
        ((0.10, 0.11, 0.12), "holds"),  # .11 ± 4.303 * .01 / sqrt(3) = .025
        ((-0.10, -0.11, -0.12), "does not hold"),
        ((0.10, -0.05, 0.12), "not told apart"),
        ((0.0, 0.0), "not told apart"),
    ],
)
def test_a_verdict_needs_two_seeds_and_an_interval_without_0(differences, says):
    assert verdict(differences) == says


def test_differences_are_taken_within_a_seed():
    """Seeds lie far apart, skill is always .1 before dino: holds, though the two means' intervals overlap widely."""
    skill = [record for seed, value in enumerate((0.2, 0.5, 0.8)) for record in run("skill", seed, value)]
    dino = [record for seed, value in enumerate((0.1, 0.4, 0.7, 0.9)) for record in run("dino", seed, value)]
    by_pattern, by_other_color = [row for row in finding_table([*skill, *dino]).rows if row[0][0] == FINDINGS[0].says]
    assert [text for text, _ in by_pattern[1:]] == ["kNN pattern", "3", "+0.100 ±0.000", "holds"]
    assert by_other_color[1][0] == "other colour R@1"


def test_weak_color_is_judged_by_the_entropy():
    [finding] = [finding for finding in FINDINGS if "entropy" in finding.says]
    assert (finding.better, finding.worse, finding.score) == ("skill", "skill_weak_color", "color/clusters/mean")


def test_without_records_the_page_says_so():
    assert study([]) == "No run of `benchmarks.methods` is on record.\n"
