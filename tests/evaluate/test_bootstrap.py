"""The bootstrap: coverage of known means, replicates by hand from the draws, and draws that two runs share."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_fast.evaluate import bootstrap
from skill_fast.evaluate.bootstrap import Estimate, centred, draws, mean_of, ratio_of


def all_draws(units):
    return np.concatenate(list(draws(units)))


def test_the_interval_covers_a_known_mean():
    score = mean_of(np.repeat([0.0, 1.0], 200))
    # Normal approximation: 1.96 * 0.5 / sqrt(400) = 0.049.
    assert score == 0.5 and isinstance(score, float)
    assert score.low == pytest.approx(0.451, abs=0.008) and score.high == pytest.approx(0.549, abs=0.008)
    constant = mean_of(np.ones(5))
    assert (constant.low, constant.high) == (1.0, 1.0)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    # 300 samples of 60 from a population of mean 0.3: 95 % within three standard deviations of that count.
    rng = np.random.default_rng(0)
    scores = [mean_of(rng.random(60) < 0.3) for _ in range(300)]
    held = np.mean([score.low <= 0.3 <= score.high for score in scores])
    assert abs(held - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 300)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=1, max_size=9))
def test_replicates_are_the_ratio_of_each_draw(rows):
    values, times = np.array(rows).T
    score = ratio_of(values * times, times)
    for drawn, replicate in zip(all_draws(len(rows))[:20], score.replicates, strict=False):
        below = sum(d * t for d, t in zip(drawn.tolist(), times.tolist()))
        above = sum(d * v * t for d, v, t in zip(drawn.tolist(), values.tolist(), times.tolist()))
        assert replicate == pytest.approx(above / below if below else 0.0)


def test_a_draw_takes_as_many_as_there_are():
    table = all_draws(37)
    assert table.shape == (bootstrap.RESAMPLES, 37) and (table.sum(axis=1) == 37).all()


def test_many_units_are_drawn_one_at_a_time_and_alike(monkeypatch):
    kept = all_draws(50)
    monkeypatch.setattr(bootstrap, "KEPT_COUNTS", 0)
    np.testing.assert_array_equal(all_draws(50), kept)
    monkeypatch.setattr(bootstrap, "MANY_UNITS", 40)
    assert len(all_draws(50)) == bootstrap.FEW_RESAMPLES


def test_a_mean_of_nothing_is_refused_and_an_estimate_is_a_number_in_json():
    with pytest.raises(ValueError, match="no units"):
        mean_of(np.array([]))
    assert json.dumps({"x": Estimate(0.25, np.zeros(3))}) == '{"x": 0.25}'


@settings(max_examples=30, deadline=None)
@given(st.floats(-1, 1), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_centred_replicates_keep_their_spread_and_stand_around_the_value(value, drawn):
    score, moved = centred(value, np.array(drawn)), np.sort(np.array(drawn))
    assert score.low - 1e-9 <= value <= score.high + 1e-9
    np.testing.assert_allclose(np.diff(np.sort(score.replicates)), np.diff(moved), atol=1e-9)
