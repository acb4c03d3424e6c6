"""One contender in a process of its own: ``python -m benchmarks.loaders JOB SECONDS``; prints one JSON object."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from typing import Any

import psutil
import torch

from benchmarks.gpu_use import gpu_fields, gpu_sampler
from benchmarks.loaders import CONTENDERS, MEAN, STD, Crops, Job
from benchmarks.loaders.window import USUAL_PREFETCH, Window
from benchmarks.processes import answer
from benchmarks.stopwatch import settle

OVERSHOOT = 0.3
"""How far a cubic filter without clipping may leave 0 to 1."""


def gate(first: Crops, job: Job) -> None:
    """What every contender must deliver before it is timed; raises AssertionError.

    Shapes and a floating dtype; values that normalised pixels can have; views that differ; two photographs of one
    product where the contender can tell.
    """
    if "decoded" in first.crops:
        assert first.crops["decoded"].shape == (2, job.batch, 3, 8, 8)
        return
    for group in job.views:
        crop = first.crops[group.name]
        assert crop.shape == (group.views, job.batch, 3, group.size, group.size), f"{group.name}: {tuple(crop.shape)}"
        assert crop.is_floating_point() and crop.device.type == torch.device(job.device).type, crop.device
        lowest, highest = crop.float().amin((0, 1, 3, 4)).cpu(), crop.float().amax((0, 1, 3, 4)).cpu()
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        within = (lowest > (-OVERSHOOT - mean) / std).all() and (highest < (1 + OVERSHOOT - mean) / std).all()
        assert within, f"values from {lowest.tolist()} to {highest.tolist()}: not normalised"
        assert (highest - lowest > 2).all(), "hardly any contrast: not normalised, or not photographs"
        assert not torch.equal(crop[0], crop[1]), "two views are the same"
    if first.products is not None:
        assert all(a == b for a, b in first.products), "two products in one sample"


def measure(job: Job, seconds: float) -> dict[str, Any]:
    """products/s over whole bursts and at least ``seconds``, batch intervals in ms, CPU and GPU use meanwhile."""
    torch.manual_seed(job.seed)
    window = Window.of(CONTENDERS[job.name], job.workers, job.settings.get("prefetch", USUAL_PREFETCH))
    found = importlib.import_module(f"benchmarks.loaders.{CONTENDERS[job.name]}").batches(job)
    gate(next(found), job)
    window.drain(found, time.perf_counter)
    settle(job.device)
    with gpu_sampler(job.device) as gpu:
        intervals, start, cpu = [], time.perf_counter(), _cpu_s()
        last = start
        while window.goes_on(len(intervals), last - start, seconds):
            next(found)
            settle(job.device)
            now = time.perf_counter()
            intervals.append((now - last) * 1e3)
            last = now
        wall, cpu = last - start, _cpu_s() - cpu
    cuts = statistics.quantiles(intervals, n=100, method="inclusive")
    return {
        "products_per_s": len(intervals) * job.batch / wall,
        "p50_ms": cuts[49],
        "p99_ms": cuts[98],
        "cpu_percent": 100 * cpu / wall,
        **window.fields(len(intervals), job.workers),
        **gpu_fields(gpu, 2 * len(intervals) * job.batch),
    }


def _cpu_s() -> float:
    """CPU seconds of this process and of its worker processes, which live as long as it does."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    answer(lambda: measure(job, float(sys.argv[2])))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # endless iterators with threads behind them: nothing is left to be finished
