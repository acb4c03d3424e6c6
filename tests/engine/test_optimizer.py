"""A course's values against the schedules' formulas, written out."""

from __future__ import annotations

import math

import pytest

from skill_fast.engine.optimizer import Course, OptimizerConfig
from skill_fast.errors import BadUsage

CONFIG = OptimizerConfig(
    lr=1e-3,
    final_lr=1e-5,
    warmup_epochs=2,
    weight_decay=0.04,
    final_weight_decay=0.4,
    ema_momentum=0.99,
    final_ema_momentum=1.0,
    teacher_temp=0.04,
    final_teacher_temp=0.07,
    teacher_temp_warmup_epochs=1,
    freeze_last_layer_epochs=0.5,
)


def cosine(base: float, final: float, step: int, steps: int) -> float:
    return final + (base - final) * (1 + math.cos(math.pi * step / steps)) / 2


def test_every_value_of_every_step():
    course = Course(CONFIG, total_steps=100, steps_per_epoch=10, global_batch=64)
    peak = 1e-3 * 64 / 256
    for step in range(100):
        values = course[step]
        wanted_lr = peak * step / 20 if step < 20 else cosine(peak, 1e-5, step - 20, 80)
        assert values.lr == pytest.approx(wanted_lr, abs=1e-12)
        assert values.weight_decay == pytest.approx(cosine(0.04, 0.4, step, 100), abs=1e-12)
        assert values.ema_momentum == pytest.approx(cosine(0.99, 1.0, step, 100), abs=1e-12)
        assert values.teacher_temp == pytest.approx(min(0.07, 0.04 + 0.03 * step / 9), abs=1e-12)
        assert values.last_layer_frozen == (step < 5)


@pytest.mark.parametrize("total_steps", [1, 2, 7])
def test_a_short_run_still_has_a_warm_up_shorter_than_itself(total_steps):
    course = Course(CONFIG, total_steps=total_steps, steps_per_epoch=1000, global_batch=256)
    assert all(math.isfinite(course[step].lr) for step in range(total_steps))
    assert course[total_steps - 1].lr > 0 or total_steps == 1


def test_a_final_rate_above_a_small_batchs_peak_does_not_make_the_rate_rise():
    course = Course(
        OptimizerConfig(lr=1e-6, final_lr=1e-5, warmup_epochs=0), total_steps=9, steps_per_epoch=3, global_batch=2
    )
    assert max(course.lr) == pytest.approx(1e-6 * 2 / 256)


def test_a_run_of_no_steps_is_refused():
    with pytest.raises(BadUsage, match="0 steps"):
        Course(CONFIG, total_steps=0, steps_per_epoch=3, global_batch=2)
