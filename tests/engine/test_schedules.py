"""Schedules against the definition, step by step in a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_fast.engine.schedules import (
    cosine_schedule,
    momentum_schedule,
    teacher_temp_schedule,
    weight_decay_schedule,
)
from skill_fast.errors import BadUsage


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (2, 1), (17, 0), (17, 5), (101, 100), (1380, 50)])
def test_cosine_with_warm_up(total: int, warmup: int) -> None:
    base, final, start = 5e-4, 1e-6, 1e-5
    expected = []
    for step in range(total):
        if step < warmup:
            expected.append(start + (base - start) * step / warmup)
        else:
            u = (step - warmup) / (total - warmup)
            expected.append(final + 0.5 * (base - final) * (1 + math.cos(math.pi * u)))
    got = cosine_schedule(base, final, total, warmup, start)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-13)  # the same formula in another order of operations
    assert got[warmup] == pytest.approx(base)


@given(
    total=st.integers(1, 400),
    share=st.floats(0, 0.99),
    base=st.floats(0, 1),
    final=st.floats(0, 1),
    start=st.floats(0, 1),
)
def test_a_schedule_stays_between_its_ends(total: int, share: float, base: float, final: float, start: float) -> None:
    warmup = int(share * total)
    got = cosine_schedule(base, final, total, warmup, start)
    assert len(got) == total
    assert got.min() >= min(base, final, start) - 1e-12 and got.max() <= max(base, final, start) + 1e-12
    rising = np.sign(final - base)
    assert (rising * np.diff(got[warmup:]) >= -1e-12).all()


def test_momentum_goes_to_one_and_never_back() -> None:
    got = momentum_schedule(0.996, 1000)
    expected = [1 - (1 - 0.996) * (math.cos(math.pi * t / 1000) + 1) / 2 for t in range(1000)]  # BYOL's way to write it
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert got[0] == pytest.approx(0.996) and 0.99999 < got[-1] <= 1
    np.testing.assert_array_equal(momentum_schedule(0.999, 5, final=0.999), [0.999] * 5)


def test_weight_decay_may_rise() -> None:
    got = weight_decay_schedule(0.04, 0.4, 100)
    assert got[0] == pytest.approx(0.04) and (np.diff(got) > 0).all() and got[-1] < 0.4


def test_teacher_temperature_warms_up_then_stays() -> None:
    got = teacher_temp_schedule(0.04, 0.07, 20, 7)
    expected = [*np.linspace(0.04, 0.07, 7), *[0.07] * 13]
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    np.testing.assert_array_equal(teacher_temp_schedule(0.04, 0.07, 3, 0), [0.07] * 3)
    assert teacher_temp_schedule(0.04, 0.07, 3, 30)[-1] < 0.05  # a run shorter than its warm-up


@pytest.mark.parametrize(
    "make",
    [
        lambda: cosine_schedule(1, 0, 0),
        lambda: cosine_schedule(1, 0, 10, 10),
        lambda: cosine_schedule(1, 0, 10, -1),
        lambda: cosine_schedule(math.nan, 0, 10),
        lambda: cosine_schedule(1, math.inf, 10),
        lambda: momentum_schedule(1.01, 10),
        lambda: momentum_schedule(0.9, 10, final=-0.1),
        lambda: weight_decay_schedule(-0.1, 0.4, 10),
        lambda: teacher_temp_schedule(0.0, 0.04, 10, 2),
        lambda: teacher_temp_schedule(0.04, 0.04, 10, -2),
    ],
)
def test_what_can_not_be_is_refused_with_what_to_change(make: object) -> None:
    with pytest.raises(BadUsage) as refused:
        make()  # type: ignore[operator]
    assert refused.value.allowed and refused.value.change
