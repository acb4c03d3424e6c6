"""The kernels against their definitions, torch.compile of those, the original loops, a foreach average, a plain copy.

    python -m benchmarks.kernels --out benchmarks/records/kernels.jsonl [--batch 64 256 512] [--sweep]

Per task: first the gate, every contender's results against the definition's in this process; then the median time of
each, the share of copy bandwidth at which it moves the least bytes, and ratios to the fused kernel (on a CPU, where
there is none, to the definition). The copy is of as many bytes as the task's least, so that both lie in a cache or
neither does, and takes its turn among the contenders. ``--sweep`` times the fused kernels with other launch numbers
instead. Records are written as they come; no task begins after ``--budget-s``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.archive import write
from benchmarks.contenders import Task, centering_task, distillation_task, ema_task, sinkhorn_task
from benchmarks.options import above_0, count, count_or_none
from benchmarks.stopwatch import Timing, clocked, together
from skill_fast.errors import BadData, BadUsage, exit_with
from skill_fast.telemetry.provenance import provenance

TURNS = 5
COPY = "copy"
VIT_S, VIT_B = 22_000_000 + 23_000_000, 86_000_000 + 24_000_000
"""Parameters of backbone and head (2048-2048-256, K = 65,536)."""


LARGEST_COPY = {"cuda": 2**31, "cpu": 2**27}
"""Bytes read and written, past every cache: more says nothing more."""


def copy_bandwidth(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """The record of a plain copy past every cache: what this machine's memory gives in this run."""
    moved_bytes = LARGEST_COPY[device.type]
    timing = clocked(plain_copy(moved_bytes, device), device, repeats=options.repeats, warm_up=options.warm_up)
    about = {"gb_per_s": moved_bytes / timing.median_ms / 1e6, "shapes": {"source": [moved_bytes // 8]}}
    return timing.record("kernels/copy", **about, dtype="float32")


def plain_copy(moved_bytes: int, device: torch.device) -> Callable[[], Any]:
    """A copy that reads and writes ``moved_bytes`` together."""
    source = torch.empty(max(1, moved_bytes // 8), device=device).normal_()
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def tasks(device: torch.device, options: argparse.Namespace) -> Iterator[Callable[[], Task]]:
    """What is compared; made one at a time, because the tensors of two large ones would not fit together."""
    fused = fused_modules() if device.type == "cuda" else {}
    how: dict[str, Any] = {"compiled": options.compile and not options.sweep}
    dtype = getattr(torch, options.dtype)
    for elements in options.elements:
        yield lambda elements=elements: ema_task(elements, device, fused=fused.get("ema"), **how)
    for batch, part in product(options.batch, ("forward", "both")):
        shape = (batch, options.prototypes, dtype, device)
        yield lambda s=shape, p=part: distillation_task(*s, fused=fused.get("distillation"), part=p, **how)
    yield lambda: centering_task(options.prototypes, device, fused=fused.get("centering"), **how)
    if not options.sweep:
        yield lambda: sinkhorn_task(options.batch[0], options.prototypes, dtype, device, **how)


def fused_modules() -> dict[str, Any]:
    from skill_fast.kernels.centering import fused as centering
    from skill_fast.kernels.distillation import fused as distillation
    from skill_fast.kernels.ema import fused as ema

    return {"centering": centering, "distillation": distillation, "ema": ema}


def gate(task: Task) -> None:
    """Raise BadData where a contender does not compute what the definition does."""
    wanted = task.ways["reference"]()
    for name in [name for name in task.ways if name != "reference"]:
        for place, (got, right) in enumerate(zip(task.ways[name](), wanted)):
            # Fused and compiled may round to the neighbour; DINO's loop divides by the temperature in half precision.
            loose = name == "loops" and task.name.startswith("distillation") and task.dtype != "float32"
            rtol = 0.15 if loose else max(2e-5, 2 * torch.finfo(right.dtype).eps)
            # Loss, entropy and KL are differences of numbers as large as a logit over the temperature, 25.
            near = rtol * max(right.float().abs().max().item(), 5.0 if right.dim() == 0 else 1e-9)
            far = (got.float() - right.float()).abs().max().item()
            if not far <= near:
                raise BadData(
                    f"{task.name}: result {place} of '{name}' is off by {far:.2e}",
                    allowed=f"{near:.2e} from the definition's",
                    change="nothing is timed before this is mended",
                )


def measure(task: Task, device: torch.device, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record a contender, and one a ratio to the fused kernel, or to the definition where there is none.

    Contenders and the copy take turns, so that a slow moment of the machine hits all alike; a ratio, and the share of
    copy bandwidth, is the median of the turns'.
    """
    copied_bytes = min(task.least_bytes, LARGEST_COPY[device.type])
    ways = {**task.ways, COPY: plain_copy(copied_bytes, device)}
    turns: dict[str, list[Timing]] = {name: [] for name in ways}
    for turn in range(TURNS):
        for name, way in ways.items():
            warm_up = 1 if turn else options.warm_up
            turns[name].append(clocked(way, device, repeats=-(-options.repeats // TURNS), warm_up=warm_up))
    ceilings = [copied_bytes / timing.median_ms for timing in turns.pop(COPY)]
    shared: dict[str, Any] = {"shapes": task.shapes, "dtype": task.dtype}
    for name, timings in turns.items():
        timing = together(timings)
        shares = sorted(task.least_bytes / its.median_ms / ceiling for its, ceiling in zip(timings, ceilings))
        yield timing.record(
            f"kernels/{task.name}/{name}",
            least_bytes=task.least_bytes,
            copy_share=statistics.median(shares),
            copy_shares=[shares[0], shares[-1]],
            copy_gb_per_s=statistics.median(ceilings) / 1e6,
            memory_ratio=None if timing.extra_bytes is None else _memory_ratio(task, timing.extra_bytes),
            held_bytes=task.held_bytes,
            **shared,
        )
    base = "fused" if "fused" in turns else "reference"
    for name in [name for name in turns if name != base]:
        ratios = sorted(mine.median_ms / its.median_ms for mine, its in zip(turns[name], turns[base]))
        about = {"what": f"kernels/{task.name}/{name} over {base}", "value": statistics.median(ratios)}
        yield about | {"unit": "ratio", "ratios": [ratios[0], ratios[-1]], "repeats": TURNS} | shared


def _memory_ratio(task: Task, extra_bytes: int) -> float:
    """Peak memory of inputs, outputs and all between, over inputs and outputs."""
    inputs = task.held_bytes * 12 // 22 if task.name == "distillation/both" else task.held_bytes
    return (inputs + extra_bytes) / task.held_bytes


def sweep(task: Task, device: torch.device, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The fused kernel with other launch numbers."""
    fused = fused_modules()[task.name.partition("/")[0]]
    if task.name == "distillation/forward":
        numbers = product((512, 1024, 2048), (1, 2, 4), (768, 1536, 3072))
        settings = [{"LAUNCH": fused.Launch(tile=t, warps=w, programs=p)} for t, w, p in numbers]
    elif task.name == "distillation/both":
        numbers = product((512, 1024, 2048, 4096), (1, 2, 4, 8))
        settings = [{"LAUNCH": fused.Launch(gradient_block=b, gradient_warps=w)} for b, w in numbers]
    else:
        settings = [{"BLOCK": b, "WARPS": w} for b, w in product((512, 1024, 2048, 4096), (2, 4, 8))]
    for setting in settings:
        kept = {name: getattr(fused, name) for name in setting}
        vars(fused).update(setting)
        timing = clocked(task.ways["fused"], device, repeats=options.repeats, warm_up=options.warm_up)
        vars(fused).update(kept)
        launch = {k: v._asdict() if k == "LAUNCH" else v for k, v in setting.items()}
        yield timing.record(f"kernels/sweep/{task.name}", launch=launch, shapes=task.shapes, dtype=task.dtype)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.kernels", description=__doc__.splitlines()[0])
    gpu = torch.cuda.is_available()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=count, nargs="+", default=[64, 256, 512] if gpu else [4])
    parser.add_argument("--prototypes", type=count, default=65_536)
    parser.add_argument("--elements", type=count, nargs="+", default=[VIT_S, VIT_B] if gpu else [4_000_000])
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16" if gpu else "float32")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=gpu, help="torch.compile's rows")
    parser.add_argument("--repeats", type=count, default=50 if gpu else 15)
    parser.add_argument("--warm-up", type=count_or_none, default=10 if gpu else 3)
    parser.add_argument("--budget-s", type=above_0, default=240.0, help="no task begins after it (default %(default)s)")
    parser.add_argument("--sweep", action="store_true", help="other launch numbers of the fused kernels; needs a GPU")
    options = parser.parse_args(arguments)
    return exit_with(lambda: run(options))


def run(options: argparse.Namespace) -> None:
    device, start = torch.device("cuda" if torch.cuda.is_available() else "cpu"), time.perf_counter()
    if options.sweep and device.type != "cuda":
        raise BadUsage("--sweep without a GPU", allowed="on a GPU: it times Triton's launches", change="leave it out")
    about = provenance() | {"threads": torch.get_num_threads()}
    made: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> None:
        made.append(record | about)
        write(options.out, made)
        share = f"  {record['copy_share']:.0%} of copy" if "copy_share" in record else ""
        print(f"{record['what']:<44}{record['value']:>10.3f} {record['unit']}{share}  {record.get('launch', '')}")

    keep(copy_bandwidth(device, options))
    todo = list(tasks(device, options))
    for done, make in enumerate(todo):
        if time.perf_counter() - start > options.budget_s:
            print(f"{len(todo) - done} of {len(todo)} tasks not begun within {options.budget_s:.0f} s")
            break
        torch.compiler.reset()  # after some shapes of one function torch.compile would fall back to eager
        task = make()
        gate(task)
        for record in sweep(task, device, options) if options.sweep else measure(task, device, options):
            keep(record)


if __name__ == "__main__":
    sys.exit(main())
