from __future__ import annotations

import time

import numpy as np
import pytest

from skill_fast.telemetry.clock import Clock
from skill_fast.telemetry.throughput import Throughput, clock_text


def test_phases_add_up_inside_a_step_and_are_forgotten_with_a_failed_one() -> None:
    clock = Clock()
    with clock.step():
        with clock.phase("forward"):
            time.sleep(0.01)
        with clock.phase("forward"):
            time.sleep(0.01)
        clock.add("data_wait", 4.0)
        clock.add("data_wait", 1.0)
        clock.sync("metrics", lambda: time.sleep(0.002))
    assert clock.phase_ms("forward") >= 20
    assert clock.phase_ms("data_wait") == 5.0
    assert clock.phase_ms("sync:metrics") >= 2
    assert clock.step_ms >= clock.phase_ms("forward") + clock.phase_ms("sync:metrics")
    assert clock.share("data_wait") == pytest.approx(5.0 / clock.step_ms)
    with pytest.raises(ZeroDivisionError), clock.step():
        clock.add("data_wait", 1e9)
        raise ZeroDivisionError
    assert clock.phase_ms("data_wait") == 5.0
    clock.add("data_wait", 7.0)  # between steps: a sample of its own
    assert clock.phase_ms("data_wait") == 6.0
    assert clock.names() == ["data_wait", "forward", "sync:metrics"]


def test_quantiles_and_mean_are_over_the_window() -> None:
    clock = Clock(window=100)
    samples = list(np.random.default_rng(0).uniform(1, 9, 137))
    for sample in samples:
        clock.add_step(sample)
        clock.add("wait", sample / 2)
    last = sorted(samples[-100:])
    assert clock.step_ms == pytest.approx(sum(last) / 100)
    assert clock.quantiles_ms()["p50"] == pytest.approx((last[49] + last[50]) / 2)
    assert clock.quantiles_ms("wait")["p99"] == pytest.approx((last[98] * 0.99 + last[99] * 0.01) / 2)


def test_an_empty_clock_says_so() -> None:
    clock = Clock()
    assert np.isnan(clock.step_ms)
    assert clock.phase_ms("data_wait") == 0 and clock.share("data_wait") == 0
    assert np.isnan(clock.quantiles_ms("forward")["p99"])


def test_throughput_is_over_the_window_and_survives_gaps() -> None:
    now = 0.0
    rate = Throughput(total_steps=100, products_a_step=64, window=4, now_s=lambda: now)
    assert rate.products_per_s == 0 and rate.left_s is None
    rate.mark(10)  # resumed here
    assert rate.left_s is None
    for step, at in ((11, 60.0), (12, 61.0), (14, 63.0), (15, 64.0), (16, 65.0)):
        now = at
        rate.mark(step)
    # The window holds steps 11 to 16: the first minute is forgotten.
    assert rate.steps_per_s == pytest.approx(5 / 5)
    assert rate.products_per_s == pytest.approx(64)
    assert rate.photographs_per_s == pytest.approx(128)
    assert rate.left_s == pytest.approx(84)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "--:--"), (0, "0:00"), (59.6, "1:00"), (250, "4:10"), (3723, "1:02:03")]
)
def test_time_left_as_text(seconds: float | None, text: str) -> None:
    assert clock_text(seconds) == text
