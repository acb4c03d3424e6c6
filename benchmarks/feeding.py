"""Three ways to plan and read batches beside a training thread: a thread, a process, DALI's parallel external source.

    python -m benchmarks.feeding --data SHARDS --out records.jsonl

Each one delivers what the pixel graph is fed, photographs' bytes (read and held against their crc32) and plan, to the
training process; no pixel is decoded. Two figures a way: products/s as fast as it goes, and how much longer a training
thread of plain Python takes for its work while batches come at ``--pace`` products/s (it shares the interpreter's lock
with a thread, and the cores with everything).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.archive import SLOWDOWN, folder_name, write
from benchmarks.feeds import AHEAD, WAYS, Source
from benchmarks.options import above_0, count
from shards.errors import exit_with
from skill_fast.data.index import open_index


def rate(way: Callable[..., Any], data: str, batch: int, batches: int) -> float:
    """products/s as fast as batches come."""
    with way(Source(data, batch, 0.0), batch) as get:
        for _ in range(AHEAD + 1):
            get()
        began = time.perf_counter()
        for _ in range(batches):
            get()
        return batches * batch / (time.perf_counter() - began)


def training_work(n: int = 60_000) -> int:
    """What a training thread's own Python is like to the interpreter: small calls, none of which frees its lock."""
    total = 0
    for number in range(n):
        total += len(str(number)) ^ total & 7
    return total


def slowdown(way: Callable[..., Any], data: str, batch: int, batches: int, pace: float) -> dict[str, float]:
    """The training thread's work between two batches, in ms, beside the feeding; and its get in ms."""
    worked, waited = [], []
    with way(Source(data, batch, pace), batch) as get:
        for step in range(batches + 2):
            began = time.perf_counter()
            get()
            got = time.perf_counter()
            while time.perf_counter() - got < batch / pace:
                start = time.perf_counter()
                training_work()
                if step >= 2:
                    worked.append((time.perf_counter() - start) * 1e3)
            if step >= 2:
                waited.append((got - began) * 1e3)
    return {"work_ms": statistics.fmean(worked), "work_worst_ms": max(worked), "get_ms": statistics.median(waited)}


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    open_index(options.data)  # what is no data set is told before anything is measured
    alone = []
    for _ in range(50):
        began = time.perf_counter()
        training_work()
        alone.append((time.perf_counter() - began) * 1e3)
    shapes = {"batch": options.batch, "views": [2, 8], "pace": options.pace}
    quiet = statistics.fmean(alone)
    yield {"what": "feeding/training work alone", "value": quiet, "unit": "ms", "shapes": shapes}
    for name in options.ways:
        way = WAYS[name]
        rates = sorted(rate(way, options.data, options.batch, options.batches) for _ in range(options.repeats))
        yield {
            "what": f"feeding/{name}/rate", "value": statistics.median(rates), "unit": "products/s",
            "quantiles": {"min": rates[0], "max": rates[-1]}, "repeats": options.repeats, "shapes": shapes,
            "warm_up": AHEAD + 1,
        }  # fmt: skip
        beside = slowdown(way, options.data, options.batch, options.batches, options.pace)
        times = beside["work_ms"] / quiet
        yield {"what": f"feeding/{name}/training work", "value": times, "unit": SLOWDOWN, "shapes": shapes, **beside}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.feeding", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder of shards")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="(default: all)")
    parser.add_argument("--batch", type=count, default=256)
    parser.add_argument("--batches", type=count, default=20)
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--pace", type=above_0, default=3000.0, help="products/s of a training (default %(default)s)")
    options = parser.parse_args(arguments)

    def run() -> None:
        from skill_fast.telemetry.provenance import provenance

        about = {"data": folder_name(options.data), **provenance()}
        made: list[dict[str, Any]] = []
        for record in measure(options):
            made.append(record | about)
            write(options.out, made)
            print(f"{record['what']:<45}{record['value']:>10.4g} {record['unit']}", flush=True)

    return exit_with(run)


if __name__ == "__main__":
    sys.exit(main())
