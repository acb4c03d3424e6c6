"""One and two ranks of a real training on this machine: products/s, and what a step sends.

    python -m benchmarks.scaling --out records.jsonl [--data SHARDS] [--ranks 1 2] [--stages 0 2]

Every rank has the same batch and one thread, whatever the number of ranks, so that a second rank brings a second core
along: the ratio to one rank, divided by the ranks, is the efficiency. Ranks talk over loopback (gloo; NCCL on GPUs).
Records are written as they come; no measurement begins after ``--budget-s``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.archive import folder_name, write
from benchmarks.options import above_0, count
from benchmarks.pairing import by_round, ratio_to
from benchmarks.processes import Record, end, failures, rounds
from shards.errors import Failure, exit_with
from skill_fast.demo import DemoConfig, demo_shards
from skill_fast.telemetry.provenance import provenance

TIMEOUT_S = 240
NAMES = ("bytes", "calls", "parameters", "element_bytes", "prototypes", "warm_up")
"""What a rank tells beside its times, the same in every round."""


@dataclass(frozen=True)
class Job:
    """So many ranks at a stage of ZeRO."""

    stage: int
    ranks: int

    @property
    def title(self) -> str:
        return f"{self.ranks} ranks, ZeRO {self.stage}"


def measure(job: Job, options: argparse.Namespace) -> Record:
    """What rank 0 of ``benchmarks.ranks`` found; ``can_not`` with the last line it said where there is nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        out, said = Path(scratch) / "found.json", Path(scratch) / "said.txt"
        ranks = str(job.ranks)
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", ranks, "-m", "benchmarks.ranks"]
        about = ["--stage", str(job.stage), "--data", str(options.data), "--batch", str(options.batch)]
        about += ["--precision", options.precision, "--steps", str(options.steps), "--out", str(out)]
        command = [sys.executable, "-m", *launcher, *about, "--", "--loader.threads", "1", *options.settings]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with said.open("w") as errors:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            try:
                process.wait(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                return {"can_not": f"no figure within {TIMEOUT_S} s"}
            finally:
                if process.poll() is None:  # its ranks have sessions of their own
                    end(process)
        if process.returncode or not out.is_file():
            why = why_it_ended(said.read_text(errors="replace"))
            return {"can_not": f"{job.title}: ended with {process.returncode}: {why}"}
        found = json.loads(out.read_text())
    return found | {"products_per_s": rate(found, job.ranks, options.batch)}


def why_it_ended(said: str) -> str:
    """The first rank's own error: what it told as a failure, else the exception of its traceback, else its exit code.

    The launcher ends with a traceback of its own behind those of the ranks, which says only that one of them failed.
    """
    lines = [re.sub(r"^\[rank\d+\]: ", "", line) for line in said.splitlines()]
    told = [line for line in lines if line.startswith("error: ")]
    raised, within = [], False
    for line in lines:
        if within and line and not line[0].isspace():
            raised, within = [*raised, line], False
        within = within or line.startswith("Traceback (most recent call last)")
    own = [line for line in raised if "ChildFailedError" not in line]
    ended = [" ".join(line.split()) for line in lines if line.strip().startswith("exitcode")]
    return next(iter([*told, *own, *ended]), "no message")


def records(todo: Sequence[Job], found: Sequence[Sequence[Record]], options: argparse.Namespace) -> list[Record]:
    """A record a stage and number of ranks that was measured so far; the ratio to one rank is taken within a round."""
    alone = {job.stage: by_round(repeats) for job, repeats in zip(todo, found) if job.ranks == 1}
    made = []
    for job, repeats in [pair for pair in zip(todo, found) if pair[1]]:
        shared = {"batch": options.batch, "threads": 1, "precision": options.precision}
        record: Record = {"what": f"scaling/{job.title}", "value": None, "unit": "products/s"}
        record |= {"settings": {"ranks": job.ranks, "stage": job.stage, **shared}}
        good = [repeat for repeat in repeats if "can_not" not in repeat]
        if not good:
            made.append(record | {"can_not": repeats[-1]["can_not"]})
            continue
        rates = by_round(repeats)
        measured = sorted(repeat["products_per_s"] for repeat in good)
        record |= {"value": statistics.median(measured), "quantiles": {"min": measured[0], "max": measured[-1]}}
        record |= {"repeats": len(measured), "by_round": rates, **{name: good[0][name] for name in NAMES}}
        if job.stage in alone:
            record |= ratio_to(f"1 ranks, ZeRO {job.stage}", rates, alone[job.stage])
        if "ratio" in record:
            record["efficiency"] = record["ratio"] / job.ranks
        made.append(record)
    return made


def rate(found: dict[str, Any], ranks: int, batch: int) -> float:
    """products/s of all ranks by the median step of rank 0."""
    return ranks * batch / statistics.median(found["steps_ms"]) * 1e3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file for the records, one JSON object a line")
    parser.add_argument("--data", help="a folder of shards (default: the demo's)")
    gpus = torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0))
    usual = [n for n in (1, 2, 4, 8) if n <= (gpus or min(cores, 2))]
    parser.add_argument("--ranks", type=count, nargs="+", default=usual, help="how many, in turn (default %(default)s)")
    parser.add_argument("--stages", type=int, nargs="+", choices=[0, 1, 2], default=[0, 1, 2])
    parser.add_argument("--batch", type=count, default=256 if gpus else 32, help="products a rank")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if gpus else "fp32")
    parser.add_argument("--steps", type=count, default=10, help="that are timed (default %(default)s)")
    parser.add_argument("--repeats", type=count, default=2)
    parser.add_argument("--budget-s", type=above_0, default=480.0, help="no measurement starts after it")
    parser.add_argument("settings", nargs="*", help="options of train.py, behind --")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    options.data = options.data or demo_shards(DemoConfig())
    about = {"data": folder_name(options.data), **provenance()}
    todo = [Job(stage, ranks) for stage, ranks in product(options.stages, options.ranks)]

    def keep(found: list[list[Record]]) -> None:
        made = records(todo, found, options)
        write(options.out, (record | about for record in made))
        print()
        for record in made:
            _tell(record)

    how = {"repeats": options.repeats, "budget_s": options.budget_s, "after": keep}
    failed = failures(rounds(todo, lambda job: measure(job, options), **how))
    if failed:
        raise Failure(f"{len(failed)} of {len(todo)} could not run: {failed[0]}", change="the other records stand")


def _tell(record: Record) -> None:
    if record["value"] is None:
        print(f"{record['what']:<30} can not: {record['can_not']}", flush=True)
        return
    share = f"   {record['efficiency']:.0%} of one rank each" if "efficiency" in record else ""
    print(f"{record['what']:<30}{record['value']:>10.1f} {record['unit']}{share}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
