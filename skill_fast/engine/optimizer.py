"""How a run is optimised, step by step: the configuration, and every value that changes over a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from skill_fast.engine.schedules import cosine_schedule, momentum_schedule, teacher_temp_schedule, weight_decay_schedule
from skill_fast.errors import BadUsage


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and schedules (DINO's, as the SkiLL paper is silent); ds_config owns precision, batch and clipping."""

    name: Literal["adamw", "lars"] = "adamw"
    """lars: for CNNs and large batches, with momentum ``beta1``, at ZeRO stage 0."""
    lr: float = 5e-4
    """For a global batch of 256; scaled linearly with the batch."""
    final_lr: float = 1e-6
    warmup_epochs: float = 10.0
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    beta1: float = 0.9
    beta2: float = 0.999
    ema_momentum: float = 0.996
    """Use 0.9995 for a global batch of 256 or less on a long run."""
    final_ema_momentum: float = 1.0
    teacher_temp: float = 0.04
    final_teacher_temp: float = 0.04
    teacher_temp_warmup_epochs: float = 0.0
    freeze_last_layer_epochs: float = 1.0

    def without_average(self) -> OptimizerConfig:
        """For methods without a teacher: its place is taken by a copy of the student."""
        return replace(self, ema_momentum=0.0, final_ema_momentum=0.0)


@dataclass(frozen=True)
class StepValues:
    """What one optimizer step is taken with."""

    lr: float
    weight_decay: float
    ema_momentum: float
    teacher_temp: float
    last_layer_frozen: bool
    peak_lr: float
    """Of parameters whose learning rate is not scheduled."""


class Course:
    """Every step's values, from the first step to the last.

    Warm-ups are given in epochs and cut to the length of the run, so a run of 50 steps is a short run and not the
    beginning of a long one.
    """

    def __init__(self, config: OptimizerConfig, *, total_steps: int, steps_per_epoch: int, global_batch: int) -> None:
        if total_steps < 1:
            raise BadUsage(f"a run of {total_steps} steps", allowed="at least one step", change="--steps or --epochs")

        def steps(epochs: float) -> int:
            return min(round(epochs * steps_per_epoch), total_steps - 1)

        self.total_steps = total_steps
        self.peak_lr = peak = config.lr * global_batch / 256
        self.lr = cosine_schedule(peak, min(config.final_lr, peak), total_steps, steps(config.warmup_epochs))
        self.weight_decay = weight_decay_schedule(config.weight_decay, config.final_weight_decay, total_steps)
        self.ema_momentum = momentum_schedule(config.ema_momentum, total_steps, config.final_ema_momentum)
        self.teacher_temp = teacher_temp_schedule(
            config.teacher_temp,
            config.final_teacher_temp,
            total_steps,
            steps(config.teacher_temp_warmup_epochs),
        )
        self.frozen_steps = steps(config.freeze_last_layer_epochs)

    def __getitem__(self, step: int) -> StepValues:
        return StepValues(
            lr=float(self.lr[step]),
            weight_decay=float(self.weight_decay[step]),
            ema_momentum=float(self.ema_momentum[step]),
            teacher_temp=float(self.teacher_temp[step]),
            last_layer_frozen=step < self.frozen_steps,
            peak_lr=self.peak_lr,
        )
