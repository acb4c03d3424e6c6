"""The step alone, one setting in a process of its own: ``python -m benchmarks.training.no_loader JOB``.

::

    student, teacher, optimizer as train.py builds them; random crops on the device; the gate
    steps, timed; then some with every part marked

Prints one JSON object. There is no loader, no data set and no run folder.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_use import memory_fields
from benchmarks.processes import answer
from benchmarks.training import STEPS, Setting
from benchmarks.training.__main__ import gate, phases_ms, timed
from benchmarks.training.work import of_run
from skill_fast.config import Config
from skill_fast.data.batch import Batch
from skill_fast.engine.loop import Run
from skill_fast.engine.not_finite import NotFiniteSteps
from skill_fast.engine.optimizer import Course
from skill_fast.kernels import describe
from skill_fast.train import build_learner


@dataclass(frozen=True)
class StepJob:
    """What one process measures."""

    setting: Setting
    seconds: float
    """Of timed steps, at least."""
    collected_by_hand: bool = True
    """Garbage: between measurements only, as in training; else whenever Python finds it due."""

    def text(self) -> str:
        """As a command line carries it."""
        return json.dumps(self, default=vars)

    @staticmethod
    def of(text: str) -> StepJob:
        found = json.loads(text)
        return StepJob(**(found | {"setting": Setting(**found["setting"])}))


def build_step(setting: Setting) -> tuple[Config, Run]:
    """As much of a run as ``one_step`` uses. Raises BadUsage for levers that this machine lacks."""
    config = setting.config("", "")
    method, engine, teacher = build_learner(config, setting.ds_config())
    course = Course(config.optimizer, total_steps=STEPS, steps_per_epoch=1000, global_batch=engine.global_batch)
    not_finite = NotFiniteSteps(None, list, judged=engine.precision != "fp16")
    nothing: Any = None
    return config, Run(engine, teacher, method, nothing, course, nothing, nothing, not_finite)


def random_batch(run: Run) -> Batch:
    """Crops of the method's views as the loader would hand them over: fp16 on a GPU, fp32 on a CPU."""
    engine, samples = run.engine, run.engine.micro_batch
    dtype = torch.float16 if engine.device.type == "cuda" else torch.float32
    generator = torch.Generator(engine.device).manual_seed(0)

    def crops(views: int, size: int) -> torch.Tensor:
        shape = (views, samples, 3, size, size)
        return torch.randn(shape, generator=generator, device=engine.device).to(dtype)

    rows = np.arange(samples)
    return Batch(
        crops={group.name: crops(group.views, group.size) for group in run.method.views()},
        epoch=0,
        step=0,
        positions=rows,
        images=np.stack([rows, rows], axis=1),
        products=rows,
        product_types=np.zeros_like(rows),
        labels={},
        wait_ms=0.0,
    )


def measure(job: StepJob) -> dict[str, Any]:
    """products/s, step times, phases, FLOPs, peaks and memory."""
    config, run = build_step(job.setting)
    engine = run.engine
    batches = itertools.repeat(random_batch(run))
    gc.collect()
    if job.collected_by_hand:
        gc.disable()
    gate(run, batches)
    steps = timed(run, batches, job.seconds)
    for of_a_loader in ("data_wait_ms", "data_wait_share"):
        del steps[of_a_loader]
    memory = memory_fields(engine.device)
    return {
        **steps,
        "phases_ms": phases_ms(run, batches),
        **memory,
        **of_run(config, run.method.views(), engine.device, engine.precision),
        "parameters": sum(parameter.numel() for parameter in engine.module.parameters()),
        "kernels": describe(engine.device),
    }


if __name__ == "__main__":
    answer(lambda: measure(StepJob.of(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # DeepSpeed leaves threads behind that nothing needs any more
