"""Curves: what is read, which ticks are drawn, where the points lie."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.report.curves import chart, read_metrics, series, ticks

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def test_half_a_line_and_strangers_are_left_out_and_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 0, "loss": 5.5}', "", "[1]", '{"loss": 3}', '{"step": 10, "loss": NaN}', '{"step": 20, "lo']
    path.write_text("\n".join(lines))
    rows, broken = read_metrics(path)
    assert [row["step"] for row in rows] == [0, 10]
    assert broken == 3
    assert series(rows, "loss") == [(0.0, 5.5)]
    assert series(rows, "unheard") == []


@pytest.mark.parametrize("count", [1, 599, 600, 601, 1200, 5003])
def test_thinning_keeps_the_last_point(count):
    points = series([{"step": step, "loss": 1.0} for step in range(count)], "loss")
    assert len(points) <= 600 and len(points) >= min(count, 300)
    assert points[-1][0] == count - 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 50, 100]),
        (0, 8, [0, 2, 4, 6, 8]),
        (0.13, 0.31, [0.15, 0.2, 0.25, 0.3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_points_stay_inside_the_picture(points):
    tree = ElementTree.fromstring(chart("a < b & c", {"one": points, "none": []}))
    drawn = [tuple(map(float, pair.split(","))) for pair in tree.find("polyline").get("points").split()]
    assert len(drawn) == len(points)
    assert all(56 <= x <= 450 and 28 <= y <= 194 for x, y in drawn)


def test_higher_values_stand_higher_and_later_steps_further_right():
    tree = ElementTree.fromstring(chart("loss", {"loss": [(0, 1.0), (5, 3.0), (10, 2.0)]}))
    (x0, y0), (x1, y1), (x2, y2) = (
        tuple(map(float, pair.split(","))) for pair in tree.find("polyline").get("points").split()
    )
    assert x0 < x1 < x2 and y1 < y2 < y0
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)


def test_no_points_no_chart():
    assert chart("loss", {"loss": []}) == ""
    assert json.dumps(chart("loss", {"loss": [(0, 1.0)]})).count("circle") == 1
