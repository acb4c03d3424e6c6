"""Measurements in processes of their own: what becomes of one that fails, hangs, or comes too late."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import pytest

from benchmarks.processes import CanNot, answer, demand_a_figure, in_a_process, rounds
from shards.errors import BadUsage, Failure

ROOT = Path(__file__).parents[2]


def test_a_process_that_fails_or_hangs_says_so_and_takes_its_children_with_it():
    failed = in_a_process("timeit", ["-n1", "-r1", "1 / 0"], 60)
    assert failed == {"can_not": "exit code 1: ZeroDivisionError: division by zero"}
    began = time.perf_counter()
    # The child holds the pipe: were it left alive, its 60 s would be waited for.
    hung = in_a_process("timeit", ["-n1", "-r1", "import subprocess; subprocess.run(['sleep', '60'])"], 1.0)
    assert hung == {"can_not": "no figure within 1 s"} and time.perf_counter() - began < 30


def test_an_answer_is_one_json_line(capsys):
    def raising(error):
        def measure():
            raise error

        return measure

    answer(lambda: {"value": 1})
    answer(raising(CanNot("no kornia")))
    answer(raising(AssertionError("two views are the same")))
    answer(raising(BadUsage("stage 3", allowed="0, 1 or 2")))
    assert capsys.readouterr().out.splitlines() == [
        '{"value": 1}',
        '{"can_not": "no kornia"}',
        '{"can_not": "the gate: two views are the same"}',
        '{"can_not": "stage 3 allowed: 0, 1 or 2"}',
    ]


def test_rounds_are_interleaved_and_what_can_not_is_not_tried_again():
    asked = []

    def measure(job):
        asked.append(job)
        return {"can_not": "no"} if job == "b" else {"value": len(asked)}

    seen = []
    found = rounds("abc", measure, repeats=3, budget_s=60, after=lambda all_: seen.append([len(r) for r in all_]))
    assert "".join(asked) == "abcacac"
    assert found[0] == [{"value": 1}, {"value": 4}, {"value": 6}] and found[1] == [{"can_not": "no"}]
    assert seen == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 1, 1], [2, 1, 2], [3, 1, 2], [3, 1, 3]]


def test_without_time_left_a_first_measurement_says_so_and_later_rounds_end():
    found = rounds("ab", lambda job: time.sleep(0.05) or {"value": 1}, repeats=3, budget_s=0.01)
    assert found == [[{"value": 1}], [{"can_not": "not begun within the budget of 0 s"}]]


TELLS = """
from benchmarks.processes import answer, tell
tell({"rows": 1}); tell({"rows": 2}); print("something else")
"""


def in_python(tmp_path, monkeypatch, code: str, timeout_s: float, told: list) -> dict:
    (tmp_path / "measures.py").write_text(TELLS + code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return in_a_process("measures", [], timeout_s, told.append)


@pytest.mark.parametrize(
    ("code", "timeout_s", "wanted"),
    [
        ("answer(lambda: {'rows': 3})", 60, {"rows": 3}),
        ("raise SystemExit('no memory')", 60, {"rows": 2, "cut_short": "exit code 1: no memory"}),
        ("import time; time.sleep(60)", 4, {"rows": 2, "cut_short": "no figure within 4 s"}),
    ],
)
def test_what_a_measurement_tells_on_its_way_comes_at_once_and_stays(code, timeout_s, wanted, tmp_path, monkeypatch):
    told: list = []
    assert in_python(tmp_path, monkeypatch, code, timeout_s, told) == wanted
    assert told == [{"rows": 1}, {"rows": 2}]


def test_rounds_hand_on_what_is_told_before_a_measurement_has_ended():
    seen = []

    def measure(job, so_far):
        so_far({"rows": 1})
        return {"rows": 2}

    rounds("ab", measure, repeats=1, budget_s=60, after=lambda all_: seen.append([r[:] for r in all_]), telling=True)
    first, whole = [{"rows": 1}], [{"rows": 2}]
    assert seen == [[first, []], [whole, []], [whole, first], [whole, whole]]


def test_rows_of_which_none_could_run_are_an_error_and_those_that_were_not_begun_none():
    late, lost, good = {"can_not": "not begun within the budget of 1 s"}, {"can_not": "no tar"}, {"value": 1}
    for found in ([[good], [lost]], [[good, lost], [lost]], [[late], [late]], [[], [late]], []):
        demand_a_figure(found)
    for found in ([[lost], [late]], [[lost], []], [[lost, lost]]):
        with pytest.raises(Failure, match=r"none of \d could run: no tar"):
            demand_a_figure(found)


@pytest.mark.parametrize("name", ["train", "peers", "loader", "step"])
def test_a_benchmark_without_a_figure_keeps_its_records_and_ends_with_an_error(name, drawn, tmp_path, monkeypatch):
    module, out = importlib.import_module(f"benchmarks.{name}"), tmp_path / "records.jsonl"
    monkeypatch.setattr(module, "measure", lambda *_: {"can_not": "no tar"})
    data = [] if name == "step" else ["--data", str(drawn)]
    assert module.main([*data, "--out", str(out), "--repeats", "1"]) == 1
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert told and all(record["can_not"] == "no tar" for record in told)


def test_a_device_that_nothing_runs_on_is_refused(drawn, capsys):
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("benchmarks.loader").main(["--data", str(drawn), "--device", "foo"])
    assert "invalid choice: 'foo'" in capsys.readouterr().err
