"""A step that is not finite leaves no trace in batch norm's running statistics, the student's or the teacher's."""

from __future__ import annotations

import json
import math

import pytest

from tests.engine.launch import launch


def test_running_statistics_are_those_of_a_twin_that_never_saw_the_nan(tmp_path):
    path = tmp_path / "report.json"
    [done] = launch("norm_worker.py", 1, str(path))
    assert done.returncode == 0, done.stdout
    for spoilt, twin in json.loads(path.read_text()):
        assert spoilt[2] == [True, False, True, True, True] and twin[2] == [True] * 4
        for held, expected in zip(spoilt[:2], twin[:2]):
            assert held.keys() == expected.keys() and len(held) == 2
            for name in held:
                assert all(math.isfinite(value) for value in held[name])
                assert held[name] == pytest.approx(expected[name], rel=1e-6)
        assert twin[0] == twin[1], "the teacher keeps the student's"
