"""One setting in a process of its own: ``python -m benchmarks.training JOB``; prints one JSON object.

::

    build the run as train.py does; a few steps; the gate
    total         steps on batches from the loader, from disk
    phases        a few more of them with every part marked
    headroom      the loader stopped, steps on batches kept from it
    compute only  steps on random tensors that were made on the device
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_use import gpu_fields, gpu_sampler, memory_fields
from benchmarks.processes import answer, tell
from benchmarks.stopwatch import moment, ms_between, settle
from benchmarks.training import Job, build_run
from benchmarks.training.phases import marked
from benchmarks.training.work import matmul_tflops, megapixels_a_photograph, of_run
from skill_fast.config import Config
from skill_fast.data.batch import Batch
from skill_fast.engine.loop import Run
from skill_fast.kernels import describe
from skill_fast.telemetry.clock import Clock

WARM_UP, WARM_UP_FP16 = 8, 30
"""Steps before the first figure; in fp16 the loss scale has to be found by overflowing."""
LEAST_STEPS = 8
PHASE_STEPS = 8
KEPT_BATCHES = 4
LOG_EVERY = 10
"""As train.py by default: where metrics and flags are read, the only waits of the host."""


def advance(run: Run, batches: Iterator[Batch], clock: Clock) -> dict[str, torch.Tensor]:
    """One step, with what ``Run.train`` does every ``log_every`` steps."""
    with clock.step():
        tensors = run.one_step(batches, run.course[run.step], clock)
    run.step += 1
    if run.step % LOG_EVERY == 0:
        clock.sync("not finite", run.not_finite.look)
        clock.sync("metrics", lambda: [float(tensor) for tensor in tensors.values()])
    return tensors


def gate(run: Run, batches: Iterator[Batch]) -> None:
    """Steps before anything is timed: finite losses, every one applied, student and teacher moved.

    Raises AssertionError.
    """
    clock = Clock()
    before = [group.fp32_shard.detach().clone() for group in run.engine.flat_groups]
    teachers = [shard.clone() for shard in run.teacher.shards]
    fp16 = run.engine.precision == "fp16"
    for _ in range(WARM_UP_FP16 if fp16 else WARM_UP):
        loss = float(advance(run, batches, clock)["loss"])
        assert math.isfinite(loss) or fp16, f"the loss is {loss}"
    run.not_finite.look()
    assert bool(run.engine.finite), "the last step of the warm-up was not applied"
    assert fp16 or not run.not_finite.steps, f"steps {run.not_finite.steps} were not applied"
    after = (group.fp32_shard for group in run.engine.flat_groups)
    assert any(not torch.equal(a, b) for a, b in zip(before, after)), "the student did not move"
    assert any(not torch.equal(a, b) for a, b in zip(teachers, run.teacher.shards)), "the teacher did not move"


def timed(run: Run, batches: Iterator[Batch], seconds: float) -> dict[str, Any]:
    """Steps for at least ``seconds``: rate, step times, waiting for data, and what the GPU did."""
    device, clock, skipped = run.engine.device, Clock(window=1_000_000), len(run.not_finite.steps)
    settle(device)
    marks = [moment(device)]
    with gpu_sampler(device) as gpu:
        start = time.perf_counter()
        while len(marks) <= LEAST_STEPS or time.perf_counter() - start < seconds:
            advance(run, batches, clock)
            marks.append(moment(device))
        settle(device)
        wall_s = time.perf_counter() - start
    run.not_finite.look()
    steps = len(marks) - 1
    p50, p99 = np.percentile(ms_between(marks), [50, 99])
    products = steps * run.engine.global_batch
    return {
        "products_per_s": products / wall_s,
        "steps": steps,
        "steps_not_applied": len(run.not_finite.steps) - skipped,
        "step_ms": {"p50": float(p50), "p99": float(p99)},
        "data_wait_ms": clock.quantiles_ms("data_wait"),
        "data_wait_share": clock.phase_ms("data_wait") * steps / 1e3 / wall_s,
        **gpu_fields(gpu, 2 * products),
    }


def phases_ms(run: Run, batches: Iterator[Batch]) -> dict[str, float]:
    with marked(run, batches) as (phases, marked_batches):
        run.one_step(marked_batches, run.course[run.step], Clock())  # compiled blocks meet the hooks
        phases.start()
        for _ in range(PHASE_STEPS):
            run.one_step(marked_batches, run.course[run.step], Clock())
            phases.finish_step()
        run.step += PHASE_STEPS + 1
        return phases.ms(PHASE_STEPS)


def kept(batches: Iterable[Batch]) -> list[Batch]:
    """Copies of the next batches, which cost no wait."""
    found = itertools.islice(batches, KEPT_BATCHES)
    return [replace(b, crops={name: crop.clone() for name, crop in b.crops.items()}, wait_ms=0.0) for b in found]


def synthetic(batch: Batch) -> Batch:
    """The same shapes and dtypes, random numbers."""
    return replace(batch, crops={name: torch.randn_like(crop) for name, crop in batch.crops.items()})


def measure(job: Job, folder: Path, so_far: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, Any]:
    """{"rows": {row: figures}, and what holds for all three}."""
    config, run = build_run(job.setting, job.data, folder, job.loader)
    gc.collect()
    gc.disable()  # as the training loop has it
    with run:
        batches = iter(run.loader)
        gate(run, batches)
        rows = {"total": timed(run, batches, job.seconds)}
        # Here: batches that are kept would count, and the product of matrices that follows resets a GPU's peak.
        memory = memory_fields(run.engine.device)
        found = {"rows": rows, **_about(config, run), **memory}
        so_far(found)
        found["phases_ms"] = phases_ms(run, batches)
        so_far(found)
        held = [] if job.only_total else kept(batches)
        run.loader.close()
        # Once more: beside the loader's threads it was of what they had left of a CPU.
        found["matmul_tflops"] = matmul_tflops(run.engine.device, run.engine.precision)
        if job.only_total:
            return found
        rows["headroom"] = timed(run, itertools.cycle(held), job.seconds)
        so_far(found)
        rows["compute only"] = timed(run, itertools.cycle([synthetic(held[0])]), job.seconds)
    return found


def _about(config: Config, run: Run) -> dict[str, Any]:
    engine = run.engine
    return {
        **of_run(config, run.method.views(), engine.device, engine.precision),
        "megapixels_a_photograph": megapixels_a_photograph(run.loader.index),
        "parameters": sum(parameter.numel() for parameter in engine.module.parameters()),
        "kernels": describe(engine.device),
        "loader": loader_settings(run),
    }


def loader_settings(run: Run) -> dict[str, Any]:
    """What the loader runs with, calibrated or given."""
    return vars(run.loader.config) | {"type_weights": dict(run.loader.config.type_weights)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        answer(lambda: measure(Job.of(sys.argv[1]), Path(folder) / "run", tell))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # DeepSpeed and the loader leave threads behind that nothing needs any more
