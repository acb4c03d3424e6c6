"""Loaders side by side: the same photographs, crops and machine, a process a contender, repeats interleaved.

    python -m benchmarks.loader --data SHARDS --out records.jsonl
    python -m benchmarks.loader --data SHARDS --rows ours "torchvision + PIL DataLoader" --repeats 5

2 x 224 + 8 x 96 crops of two photographs of a product: window, flip, jitter, grey, blur, normalise (SkiLL's G, without
A, which only ours has). Before it is timed every contender passes a gate: shapes, normalisation, two photographs of
one product. Rates are medians over the repeats; ratios are within a repeat. On a GPU ``--sweep`` adds rows of ours
with other shares for the hardware decoder, prefetches and threads. Records are written as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.archive import folder_name, write
from benchmarks.loaders import BASE, CONTENDERS, VIEWS, Job
from benchmarks.options import above_0, count, seconds
from benchmarks.pairing import by_round, ratio_to, told
from benchmarks.processes import demand_a_figure, in_a_process, rounds
from shards.errors import exit_with
from skill_fast.data.index import open_index
from skill_fast.telemetry.provenance import provenance

CROPS = sum(group.views for group in VIEWS)
SWEEP = {"hw_decoder_load": (0.0, 0.5, 0.8, 0.9), "prefetch": (1, 3, 4), "threads": (4, 8, 12)}
KEPT_EQUAL = (
    "photographs, crop sizes and areas, flip, jitter, grey, blur (sigma), normalisation, batch, workers = cores; "
    "not equal: DALI's reader takes each product's first two photographs; kornia starts from 512 x 512 squares"
)
TIMEOUT_S = 300
Record = dict[str, Any]


def jobs(options: argparse.Namespace) -> list[Job]:
    rows = options.rows or list(CONTENDERS)
    common = {"data": options.data, "batch": options.batch, "workers": options.workers, "device": options.device}
    found = [Job(name=name, **common) for name in rows]
    if options.sweep:
        ours = Job(name="ours", **common)
        found += [replace(ours, settings={name: value}) for name, values in SWEEP.items() for value in values]
    return found


def title(job: Job) -> str:
    """ours, decode only -> the same; ours at a point of a sweep -> ours, prefetch 3."""
    return ", ".join([job.name, *(f"{name} {value}" for name, value in job.settings.items())])


def measure(job: Job, seconds: float) -> Record:
    """One contender, once, in a process of its own; ``can_not`` with the reason where it did not come to a figure."""
    settings = dict(job.settings)
    workers = int(settings.pop("threads", job.workers))
    given = json.dumps(asdict(replace(job, settings=settings, workers=workers)))
    found = in_a_process("benchmarks.loaders", [given, str(seconds)], TIMEOUT_S + seconds)
    _tell(title(job), found)
    return found


def records(todo: Sequence[Job], found: Sequence[list[Record]], options: argparse.Namespace) -> list[Record]:
    """One record a job that has been measured, from its repeats so far."""
    index = open_index(options.data)
    megapixels = float(np.mean(np.asarray(index.height, np.int64) * index.width)) / 1e6
    shared: Record = {
        "shapes": {"batch": options.batch, "crops": {g.name: [g.views, g.size] for g in VIEWS}},
        "workers": options.workers,
        "device": options.device,
        "data": folder_name(options.data),
        "photographs": index.images,
        "kept_equal": KEPT_EQUAL,
    }
    rows = [(job, repeats) for job, repeats in zip(todo, found) if repeats]
    base = next((repeats for job, repeats in rows if job.name == BASE), None)
    made = []
    for job, repeats in rows:
        record = {"what": f"loader/{title(job)}", "value": None, "unit": "products/s", **shared}
        good = [repeat for repeat in repeats if "can_not" not in repeat]
        if not good:
            made.append(record | {"can_not": repeats[-1]["can_not"]})
            continue
        rates = by_round(repeats)
        paired = {} if base is None else ratio_to(BASE, rates, by_round(base))
        made.append(record | _figures(good, megapixels) | {"by_round": rates} | paired)
    return made


def _figures(repeats: list[Record], megapixels: float) -> Record:
    """The median of the rates, what follows from it, and the fields of the repeat that is nearest to it."""
    rates = sorted(record["products_per_s"] for record in repeats)
    rate = statistics.median(rates)
    middle = min(repeats, key=lambda repeat: abs(repeat["products_per_s"] - rate))
    rest = {name: value for name, value in middle.items() if name != "products_per_s"}
    return {
        "value": rate,
        "quantiles": {"min": rates[0], "max": rates[-1]},
        "repeats": len(rates),
        "photographs_per_s": 2 * rate,
        "megapixels_per_s": 2 * rate * megapixels,
        "crops_per_s": CROPS * rate,
        **rest,
    }


def _tell(name: str, found: Record) -> None:
    if "can_not" in found:
        print(f"{name:42} can not: {found['can_not']}", flush=True)
        return
    gpu = ""
    if "sm_percent" in found:
        gpu = f"   GPU {found['sm_percent']:.0f} %, NVJPG {found.get('nvjpg_percent', 0):.0f} %"
    print(
        f"{name:42} {found['products_per_s']:8,.1f} products/s   batch p50 {found['p50_ms']:6.0f} ms, p99 "
        f"{found['p99_ms']:6.0f} ms   CPU {found['cpu_percent']:4.0f} %{gpu}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.loader", description=__doc__.splitlines()[0])
    gpu = torch.cuda.is_available()
    parser.add_argument("--data", required=True, help="a folder of shards")
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    parser.add_argument("--rows", nargs="+", choices=list(CONTENDERS), help="contenders (default: all)")
    parser.add_argument("--batch", type=count, default=256 if gpu else 32, help="products (default %(default)s)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=count, default=cores, help="threads or processes (default: the cores)")
    where = {"choices": ["cpu", "cuda"], "default": "cuda" if gpu else "cpu"}
    parser.add_argument("--device", **where, help="where crops are made (default %(default)s)")
    parser.add_argument("--seconds", type=seconds, default=8.0, help="of each measurement, at least")
    parser.add_argument("--repeats", type=count, default=3, help="rounds over all rows (default %(default)s)")
    parser.add_argument("--budget-s", type=above_0, default=480.0, help="no measurement starts after it")
    parser.add_argument("--sweep", action="store_true", help="also ours over hw_decoder_load, prefetch, threads")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    todo, shared, made = jobs(options), provenance(), []

    def keep(found: list[list[Record]]) -> None:
        made[:] = records(todo, found, options)
        if options.out:
            write(options.out, (record | shared for record in made))

    how = {"repeats": options.repeats, "budget_s": options.budget_s}
    found = rounds(todo, lambda job: measure(job, options.seconds), after=keep, **how)
    print()
    for record in made:
        ratio = record.get("can_not") or told(record, BASE)
        print(f"{record['what'].removeprefix('loader/'):42} {record['value'] or 0:8,.1f} products/s   {ratio}")
    if options.out:
        print(f"{options.out}: {len(made)} records")
    demand_a_figure(found)


if __name__ == "__main__":
    sys.exit(main())
