"""Arrangements of the pixel graph: the same crops to a rounding, and a benchmark that compares like with like."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from benchmarks import arrangements
from benchmarks.arrangements import build, fed, main, ways
from benchmarks.feeds import Source
from skill_fast.data.loader import LoaderConfig

PIXEL = 1 / (255 * min(LoaderConfig().std))
"""One level of 255 in normalised values, at most."""


@pytest.fixture(scope="module")
def crops(drawn):
    """Way -> all crops of one batch of four products, [views, batch, 3, size, size] flattened."""
    options = argparse.Namespace(batch=4, threads=1, device="cpu")
    feed, found = Source(str(drawn), 4, pace=0.0)(0), {}
    for name, way in ways(True).items():
        graph = build(way, options)
        for _ in range(2):
            graph.submit(fed(way, feed))
        found[name] = np.concatenate([np.asarray(views).ravel() for views in graph.collect()])
    return found


@pytest.mark.parametrize("name", ["one decode a crop", "dynamic executor"])
def test_who_decodes_and_who_executes_changes_no_bit(crops, name):
    assert np.array_equal(crops[name], crops["as the loader has it"])


@pytest.mark.parametrize("name", ["the other rounding", "no conditions"])
def test_roundings_move_pixels_by_levels_at_most(crops, name):
    """Floats lack the roundings after the twist, the blur and the turn to 8 bits; an identity warp is one more."""
    difference = np.abs(crops[name] - crops["as the loader has it"])
    assert difference.mean() < PIXEL / 2 and np.quantile(difference, 0.999) < 2 * PIXEL


@pytest.mark.parametrize("name", ["without colour", "without blur", "without A", "decode, resize, normalise"])
def test_what_is_left_out_was_there(crops, name):
    assert np.abs(crops[name] - crops["as the loader has it"]).max() > 10 * PIXEL


def test_a_record_a_way_with_ratios_within_a_turn(drawn, tmp_path, capsys):
    out = tmp_path / "records.jsonl"
    assert main(["--data", str(drawn), "--batch", "2", "--batches", "2", "--turns", "2", "--out", str(out)]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["what"] for record in records] == [f"arrangements/{name}" for name in ways(True)]
    assert all(record["warm_up"] == 1 and record["dtype"] == "float32" for record in records)
    assert records[0]["ratio"] == 1 and all(record["value"] > 0 < record["cpu_ms_a_product"] for record in records)
    assert "one decode a crop" in capsys.readouterr().out
    assert main(["--data", str(drawn), "--turns", "1"]) == 2


@pytest.fixture
def timed(monkeypatch):
    """Turns that take 1 s, 2 s, 3 s, ... by the stopwatch and no time at all; what is to happen in one of them."""
    happens, taken = {}, []

    def turn(*_):
        taken.append(float(len(taken) + 1))
        happens.get(len(taken), lambda: None)()
        return taken[-1], 1.0

    monkeypatch.setattr(arrangements, "turn", turn)
    monkeypatch.setattr(arrangements, "build", lambda *_: None)
    monkeypatch.setattr(arrangements, "Source", lambda *_, **__: lambda step: {})
    monkeypatch.setattr(arrangements, "fed", lambda way, feed: feed)
    return happens


class Stopped(Exception):
    pass


def test_what_had_its_turn_is_written_when_it_is_stopped(timed, tmp_path):
    """Turns 1, 3, 5 ... of the first round warm up; it is stopped in the first turn of the second arrangement."""

    def stop():
        raise Stopped

    out = tmp_path / "records.jsonl"
    asked = ["--data", "x", "--batch", "3", "--batches", "2", "--turns", "2", "--out", str(out)]
    timed[4] = stop
    with pytest.raises(Stopped):
        main(asked)
    (first,) = (json.loads(line) for line in out.read_text().splitlines())
    assert (first["value"], first["repeats"], first["what"]) == (6 / 2, 1, "arrangements/as the loader has it")


def test_no_turn_begins_after_the_budget_and_ratios_are_within_a_turn(timed, tmp_path, monkeypatch, capsys):
    """Time passes in turn 6, the first of the third arrangement."""
    clock = [0.0]
    timed[6] = lambda: clock.append(9.0)
    monkeypatch.setattr(arrangements.time, "perf_counter", lambda: clock[-1])
    out = tmp_path / "records.jsonl"
    asked = ["--data", "x", "--batch", "3", "--batches", "2", "--turns", "2", "--budget-s", "5", "--out", str(out)]
    assert main(asked) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["value"] for r in records] == [6 / 2, 6 / 4, 6 / 6, *[None] * (len(ways(True)) - 3)]
    assert [r["ratio"] for r in records[:3]] == pytest.approx([1, 2 / 4, 2 / 6])
    assert records[-1]["can_not"] == "not begun within the budget of 5 s" in capsys.readouterr().out
