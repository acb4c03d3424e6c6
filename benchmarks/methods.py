"""Every method on the demo catalogue under one setting: one command, one table, one record a score and run.

    python -m benchmarks.methods --steps 2600 --seeds 0 1 2 --runs runs/methods --out benchmarks/records/methods.jsonl

Each run is ``train.py --preset METHOD_demo``: the same backbone, crops, augmentation, batch, steps and schedules;
methods differ in head, loss, teacher, views and, but for skill and dino, a learning rate of 4e-3 instead of 1e-2 (docs/
methods.md). ``--ablations`` adds SkiLL with one thing changed. A run whose records are in ``--out`` is read from there,
so that a study can go on elsewhere; one with a run folder is gone on with; what was trained under other settings is
refused. products/s is the median of a run's own log; ``--speed-only`` trains ``--steps`` steps without any evaluation
and records nothing else, a round a seed, so that the methods take turns.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import t as student_t

from benchmarks import archive
from benchmarks.method_runs import (
    ABLATIONS,
    CONTROLS,
    METHODS,
    OTHER_PIXELS,
    SCORES,
    SPEED,
    TRAIN,
    Asked,
    kept,
    score_records,
    speed_record,
    train,
)
from benchmarks.options import count, count_or_none
from skill_fast.errors import BadUsage, exit_with


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; nan for the width of a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return mean, float(student_t.ppf(0.975, len(values) - 1)) * spread


def cell(values: Sequence[float], digits: int = 3) -> str:
    """``.445 ±.031``, or the value alone."""
    mean, half = interval(values)
    shown = f"{mean:.{digits}f}"
    return shown if math.isnan(half) else f"{shown} ±{half:.{digits}f}"


def table(found: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    """A row a method, then the controls (of all runs: the untrained encoder differs by seed)."""
    drawn = Table(title="means over seeds, ± half a 95 % interval")
    drawn.add_column("embedding")
    for heading, _ in SCORES.values():
        drawn.add_column(heading, justify="right")
    drawn.add_column("products/s", justify="right")
    for method, lines in found.items():
        by_score = [[r["value"] for r in lines if r["what"].endswith(f"/{score}")] for score in SCORES]
        speed = [r["value"] for r in lines if r["what"].endswith(SPEED)]
        drawn.add_row(method, *(cell(values) if values else "" for values in by_score), cell(speed, 0) if speed else "")
    drawn.add_section()
    every = [record for name, lines in found.items() if name not in OTHER_PIXELS for record in lines]
    for control in CONTROLS:
        seeds = [{r["seed"]: r["controls"][control] for r in every if r["what"].endswith(f"/{s}")} for s in SCORES]
        if all(seeds):
            drawn.add_row(control, *(cell(list(values.values())) for values in seeds), "")
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, read, write and print; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--ablations", action="store_true", help=f"also {', '.join(ABLATIONS)}")
    parser.add_argument("--seeds", nargs="+", type=count_or_none, default=[0, 1, 2])
    parser.add_argument("--steps", type=count, default=2600)
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--ds-config", type=Path, default=TRAIN.parents[1] / "ds_configs" / "zero2_fp32.json")
    parser.add_argument("--data", default="", help="folder of shards (default: the demo catalogue)")
    parser.add_argument("--out", type=Path, help="append the records there, after each run")
    parser.add_argument("--no-speed", action="store_true", help="no products/s: other programs use this machine too")
    parser.add_argument("--speed-only", action="store_true", help="only products/s, of runs that evaluate nothing")
    options, more = parser.parse_known_args(arguments)
    names = options.methods + [name for name in ABLATIONS if options.ablations and name not in options.methods]
    unknown = [name for name in names if name not in METHODS and name not in ABLATIONS]
    if unknown:
        allowed = ", ".join([*METHODS, *ABLATIONS])
        raise BadUsage(f"method '{unknown[0]}' is not known", allowed=allowed, change="--methods NAME ...")
    if options.speed_only and options.no_speed:
        raise BadUsage("--speed-only and --no-speed leave nothing to measure", allowed="one of them")
    if options.data and "skill_no_preprocessing" in names:
        raise BadUsage("--data has its pre-processing in its pixels", allowed="skill_no_preprocessing without --data")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in options.seeds:
        for name in names:
            asked = Asked(name, seed, options.steps, options.ds_config, options.data, tuple(more))
            mine = [] if options.speed_only else kept(options.out, asked)
            if not mine:
                run = train(asked, options.runs, evaluate=not options.speed_only)
                mine = [] if options.speed_only else list(score_records(asked, run))
                mine += [] if options.no_speed else [speed_record(asked, run)]
                if options.out:
                    archive.append(options.out, mine)
            found[name] += mine
    Console(width=None if sys.stdout.isatty() else 120).print(table(found))


if __name__ == "__main__":
    sys.exit(main())
