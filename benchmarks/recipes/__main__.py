"""One recipe in a process of its own: ``python -m benchmarks.recipes JOB``; prints one JSON object."""

from __future__ import annotations

import importlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.gpu_use import gpu_fields, gpu_sampler, memory_fields
from benchmarks.loaders import Crops
from benchmarks.loaders.__main__ import gate as gate_of_crops
from benchmarks.loaders.window import Window
from benchmarks.processes import answer
from benchmarks.recipes import Job, networks
from benchmarks.recipes import ours as our_recipe
from benchmarks.stopwatch import moment, ms_between, settle
from benchmarks.training.__main__ import loader_settings
from benchmarks.training.work import megapixels_a_photograph, of_run
from skill_fast.data.index import open_index

GATE_STEPS = 6
WARM_UP = 3
Step = Callable[[dict[str, Tensor]], Tensor]


def parts(job: Job, folder: Path) -> tuple[Generator[Crops], Step, dict[str, Any]]:
    """(batches without end, the step on one of them, what a record tells of the loader)."""
    if job.recipe.step == "ours":
        run = our_recipe.built(job, folder)
        return our_recipe.batches(run), our_recipe.make(run), {"loader": loader_settings(run)}
    batches = importlib.import_module(job.recipe.loader).batches(job.loader_job())
    step = importlib.import_module(f"benchmarks.recipes.{job.recipe.step}").make(job, networks(job))
    if job.setting.precision != "fp32":
        return batches, step, {}
    # On a GPU some loaders deliver half precision, which autocast takes and fp32 weights do not.
    return batches, lambda crops: step({name: crop.float() for name, crop in crops.items()}), {}


def gate(crops: Crops, step: Step, job: Job) -> list[float]:
    """What every recipe must do before it is timed: the loader's gate, then losses on one batch finite and falling.

    Returns the losses; one of them has to lie under the first. Not the last: on a batch that stays the same the center
    soon takes away what the targets had, and the loss rises to ln K however well the step learns.
    Raises AssertionError.
    """
    gate_of_crops(crops, job.loader_job())
    fixed = {name: crop.clone() for name, crop in crops.crops.items()}
    losses = [float(step(fixed)) for _ in range(GATE_STEPS)]
    assert all(math.isfinite(loss) for loss in losses), f"losses {losses}"
    assert min(losses[1:]) < losses[0], f"the loss does not fall on a fixed batch: {losses}"
    return losses


def measure(job: Job, folder: Path) -> dict[str, Any]:
    """products/s of whole steps over whole bursts and at least ``job.seconds``; step and wait times in ms."""
    torch.manual_seed(0)
    batches, step, about = parts(job, folder)
    window = Window.of(job.recipe.loader, job.workers)
    losses = gate(next(batches), step, job)
    window.drain(batches, time.perf_counter)
    for _ in range(WARM_UP):
        step(next(batches).crops)
    settle(job.device)  # else the warm-up's kernels would run within the time that is counted
    waited_ms, moments = 0.0, [moment(job.device)]
    with gpu_sampler(job.device) as gpu:
        cpu_s, start = _cpu_s(), time.perf_counter()
        while window.goes_on(len(moments) - 1, time.perf_counter() - start, job.seconds):
            asked = time.perf_counter()
            crops = next(batches).crops
            waited_ms += (time.perf_counter() - asked) * 1e3
            step(crops)
            moments.append(moment(job.device))
        settle(job.device)
        wall_s, cpu_s = time.perf_counter() - start, _cpu_s() - cpu_s
    memory = memory_fields(job.device)  # before the product of matrices below, which resets a GPU's peak
    batches.close()  # and which would be of what the loader leaves of a CPU
    steps = len(moments) - 1
    p50, p99 = np.percentile(ms_between(moments), [50, 99])
    products = steps * job.setting.batch
    return {
        "products_per_s": products / wall_s,
        "steps": steps,
        **window.fields(steps, job.workers),
        "step_ms": {"p50": float(p50), "p99": float(p99)},
        "data_wait_share": waited_ms / 1e3 / wall_s,
        "cpu_percent": 100 * cpu_s / wall_s,
        "gate_losses": [losses[0], min(losses)],
        **memory,
        **gpu_fields(gpu, 2 * products),
        **about,
        **of_run(job.config, job.loader_job().views, torch.device(job.device), job.setting.precision),
        "megapixels_a_photograph": megapixels_a_photograph(open_index(job.data)),
    }


def _cpu_s() -> float:
    """CPU seconds of this process and of its worker processes, which live as long as it does."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        answer(lambda: measure(Job.of(sys.argv[1]), Path(folder) / "run"))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # endless iterators with threads behind them: nothing is left to be finished
