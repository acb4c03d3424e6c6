"""What changes over a run, as pure functions of the step: learning rate, weight decay, EMA momentum, temperature.

Steps count from 0; step t of ``total_steps`` uses ``schedule[t]``. All arrays are float64.
Sources: DINO (Caron et al. 2021), section 3 and appendix; METHOD section 1.
"""

from __future__ import annotations

import math

import numpy as np

from skill_fast.errors import BadUsage


def cosine_schedule(
    base: float, final: float, total_steps: int, warmup_steps: int = 0, start: float = 0.0
) -> np.ndarray:
    """[total_steps] linear warm-up from ``start`` to ``base``, then half a cosine to ``final``.

    ``t < W``: ``start + (base - start) t / W`` ;
    else ``final + (base - final) (1 + cos(pi u)) / 2`` with ``u = (t - W) / (T - W)``.
    ``base`` stands at step W; ``final`` would be reached at step T, one after the last (as in DINO).
    Raises BadUsage when a number is not finite or the warm-up does not leave a step.
    """
    _check_steps(total_steps, warmup_steps)
    _check_finite(base=base, final=final, start=start)
    step = np.arange(total_steps, dtype=np.float64)
    warm = start + (base - start) * step / max(1, warmup_steps)
    share = (step - warmup_steps) / (total_steps - warmup_steps)
    fall = final + (base - final) * (1 + np.cos(math.pi * share)) / 2
    return np.where(step < warmup_steps, warm, fall)


def momentum_schedule(base: float, total_steps: int, final: float = 1.0) -> np.ndarray:
    """[total_steps] the teacher's EMA momentum from ``base`` to ``final`` by half a cosine (DINO section 3.1)."""
    for name, value in (("base", base), ("final", final)):
        if not 0.0 <= value <= 1.0:
            raise BadUsage(f"EMA momentum {name} is {value}", allowed="0 to 1", change="--optimizer.ema-momentum 0.996")
    return cosine_schedule(base, final, total_steps)


def weight_decay_schedule(base: float, final: float, total_steps: int) -> np.ndarray:
    """[total_steps] weight decay from ``base`` to ``final`` by half a cosine; it may rise (DINO: .04 to .4)."""
    if base < 0 or final < 0:
        raise BadUsage(f"weight decay from {base} to {final}", allowed="0 or more", change="--optimizer.weight-decay")
    return cosine_schedule(base, final, total_steps)


def teacher_temp_schedule(start: float, final: float, total_steps: int, warmup_steps: int) -> np.ndarray:
    """[total_steps] teacher temperature: linear from ``start`` to ``final`` over the warm-up, then constant.

    ``t < W``: ``start + (final - start) t / (W - 1)``, both ends included as in DINO's linspace; else ``final``.
    """
    _check_steps(total_steps, min(warmup_steps, total_steps - 1))
    if not (0 < start < math.inf and 0 < final < math.inf) or warmup_steps < 0:
        raise BadUsage(
            f"teacher temperature from {start} to {final} over {warmup_steps} steps",
            allowed="temperatures over 0, 0 steps or more",
            change="--optimizer.teacher-temp 0.04",
        )
    step = np.arange(total_steps, dtype=np.float64)
    share = np.minimum(1.0, step / max(1, warmup_steps - 1)) if warmup_steps else np.ones(total_steps)
    return start + (final - start) * share


def _check_steps(total_steps: int, warmup_steps: int) -> None:
    if total_steps < 1 or warmup_steps < 0 or warmup_steps >= total_steps:
        raise BadUsage(
            f"a schedule of {total_steps} steps with {warmup_steps} steps of warm-up",
            allowed="at least 1 step, and a warm-up shorter than the run",
            change="--steps, --epochs or the warm-up",
        )


def _check_finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise BadUsage(f"schedule: {name} is {value}", allowed="a finite number", change=name)
