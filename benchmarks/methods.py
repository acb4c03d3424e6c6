"""Every method on the demo catalogue under one setting: one command, one table, one record a score and run.

    python -m benchmarks.methods --steps 2600 --seeds 0 1 2 --runs runs/methods --out benchmarks/records/methods.jsonl

Each run is ``train.py --preset METHOD_demo``: the same backbone, crops, augmentation, batch, steps and schedules;
methods differ in head, loss, teacher, views and, but for skill and dino, a learning rate of 4e-3 instead of 1e-2 (docs/
methods.md). ``--ablations`` adds SkiLL with one thing changed. A run whose records are in ``--out`` is read from there,
so that a study can go on elsewhere; one with a run folder is gone on with. products/s is the median of a run's own log.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student_t

from benchmarks import archive
from benchmarks.options import count, count_or_none
from skill_fast.config import MethodName
from skill_fast.errors import BadData, BadUsage, exit_with

METHODS = get_args(MethodName)
ABLATIONS = {
    "skill_no_local_augmentation": ["--loader.recipes", "none"],
    "skill_no_preprocessing": ["--demo.preprocess", "none"],
    "skill_weak_color": ["--views.generic.gray-p", "0.1", "--views.generic.jitter-p", "0.1"],
    "skill_single_photograph": ["--views.photographs", "one"],
    "skill_cross_resolution": ["--skill.pairs", "cross_resolution"],
}
"""SkiLL with one thing changed; the demo has no blur that weak colour could weaken."""
OTHER_PIXELS = ("skill_no_preprocessing",)
"""Their photographs are built in another way, so their controls are others too, and stand in their records alone."""
SCORES = {
    "knn/pattern/accuracy": ("kNN\npattern", "share"),
    "knn/type/accuracy": ("kNN\ntype", "share"),
    "retrieval/same_product/recall@1": ("same\nproduct\nR@1", "share"),
    "retrieval/other_color/recall@1": ("other\ncolour\nR@1", "share"),
    "color/clusters/mean": ("colour\nentropy", "nats"),
    "color/design/pattern/purity": ("pattern\npurity", "share"),
}
"""Score of evaluation.json -> its heading and unit; the entropy never without the purity of the same clusters."""
CONTROLS = ("untrained", "raw pixels", "grey pixels", "colour histogram")
SPEED = "products_per_s"
TRAIN = Path(__file__).parents[1] / "skill_fast" / "train.py"


def train(name: str, seed: int, runs: Path, steps: int, ds_config: Path, data: str, more: Sequence[str]) -> Path:
    """Train a method or ablation with one seed, or go on with it; returns its run folder. Raises BadData on failure."""
    out = runs / f"{name}-{seed}"
    done = out / "evaluation.json"
    if done.is_file() and json.loads(done.read_text(encoding="utf-8"))["step"] == steps:
        return out
    preset = "skill_demo" if name in ABLATIONS else f"{name}_demo"
    command = [sys.executable, str(TRAIN), "--preset", preset, "--ds_config", str(ds_config)]
    command += ["--out", str(out), "--steps", str(steps), "--seed", str(seed), *ABLATIONS.get(name, [])]
    code = subprocess.run([*command, *(["--data", data] if data else []), *more], check=False).returncode
    if code:
        raise BadData(
            f"{name} with seed {seed} ended with exit code {code}",
            allowed="a run that trains to its end",
            change=f"see {out}/exit.json, then the same command goes on",
        )
    return out


def read(run: Path) -> tuple[dict[str, dict[str, float]], float, dict[str, Any]]:
    """(rows of the evaluation, median products/s, config) of a finished run."""
    try:
        evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        speed = statistics.median(json.loads(line)[SPEED] for line in lines)
    except (OSError, ValueError, KeyError, statistics.StatisticsError) as error:
        raise BadData(f"'{run}' is not a finished run: {error}", change="train it to its end, evaluated") from error
    return evaluation["rows"], speed, config


def records(method: str, run: Path) -> Iterator[dict[str, Any]]:
    """One record a score of one run, its controls beside it."""
    rows, speed, config = read(run)
    shared = {"method": method, "seed": config["seed"], "steps": config["steps"], **config["provenance"]}
    for score, (_, unit) in SCORES.items():
        controls = {name: rows[name][score] for name in CONTROLS}
        value = rows["trained"][score]
        yield {"what": f"methods/{method}/{score}", "value": value, "unit": unit, "controls": controls, **shared}
    yield {"what": f"methods/{method}/{SPEED}", "value": speed, "unit": "products/s", "controls": {}, **shared}


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
        drawn.add_row(method, *map(cell, by_score), cell(speed, 0) if speed else "")
    drawn.add_section()
    every = [record for name, lines in found.items() if name not in OTHER_PIXELS for record in lines]
    for control in CONTROLS:
        seeds = [{r["seed"]: r["controls"][control] for r in every if r["what"].endswith(f"/{s}")} for s in SCORES]
        drawn.add_row(control, *(cell(list(values.values())) for values in seeds), "")
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, read, write and print; returns the exit code."""
    return exit_with(lambda: _run(arguments))


def kept(out: Path | None, name: str, seed: int, steps: int) -> list[dict[str, Any]]:
    """The records of a run that ``--out`` holds whole; of none otherwise."""
    if out is None or not out.is_file():
        return []
    lines = (record.fields for record in archive.read(out, damaged=[]))
    mine = [dict(line) for line in lines if tuple(map(line.get, ("method", "seed", "steps"))) == (name, seed, steps)]
    return mine if {f"methods/{name}/{score}" for score in SCORES} <= {line["what"] for line in mine} else []


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
    options, more = parser.parse_known_args(arguments)
    names = options.methods + [name for name in ABLATIONS if options.ablations and name not in options.methods]
    unknown = [name for name in names if name not in METHODS and name not in ABLATIONS]
    if unknown:
        allowed = ", ".join([*METHODS, *ABLATIONS])
        raise BadUsage(f"method '{unknown[0]}' is not known", allowed=allowed, change="--methods NAME ...")
    if options.data and "skill_no_preprocessing" in names:
        raise BadUsage("--data has its pre-processing in its pixels", allowed="skill_no_preprocessing without --data")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in options.seeds:
        for name in names:
            mine = kept(options.out, name, seed, options.steps)
            if not mine:
                run = train(name, seed, options.runs, options.steps, options.ds_config, options.data, more)
                mine = [r for r in records(name, run) if not (options.no_speed and r["what"].endswith(SPEED))]
                if options.out:
                    archive.append(options.out, mine)
            found[name] += mine
    Console(width=None if sys.stdout.isatty() else 120).print(table(found))


if __name__ == "__main__":
    sys.exit(main())
