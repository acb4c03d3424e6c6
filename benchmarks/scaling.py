"""One and two ranks of a real training on this machine: products/s, and what a step sends.

    python -m benchmarks.scaling --out records.jsonl [--data SHARDS] [--ranks 1 2] [--stages 0 2]

Every rank has the same batch and one thread, whatever the number of ranks, so that a second rank brings a second core
along: the ratio to one rank, divided by the ranks, is the efficiency. Ranks talk over loopback (gloo; NCCL on GPUs).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from shards.errors import BadUsage, Failure, exit_with
from skill_fast.demo import DemoConfig, demo_shards
from skill_fast.telemetry.provenance import provenance

TIMEOUT_S = 240
Record = dict[str, Any]


def steps_with(ranks: int, stage: int, options: argparse.Namespace) -> dict[str, Any]:
    """What rank 0 of ``benchmarks.ranks`` found; Failure with the last line it said where there is nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "found.json"
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "benchmarks.ranks"]
        about = ["--stage", str(stage), "--data", str(options.data), "--batch", str(options.batch)]
        about += ["--precision", options.precision]
        command = [sys.executable, "-m", *launcher, *about, "--steps", str(options.steps), "--out", str(out)]
        done = subprocess.run(
            [*command, "--", "--loader.threads", "1", *options.settings],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode or not out.is_file():
            said = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
            raise Failure(f"{ranks} ranks at ZeRO {stage} ended with {done.returncode}: {said[0]}")
        return json.loads(out.read_text())


def records(options: argparse.Namespace) -> Iterator[Record]:
    """A record a stage and number of ranks, repeats interleaved; the ratio to one rank is taken within a repeat."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for _ in range(options.repeats):
        for stage in options.stages:
            for ranks in options.ranks:
                found.setdefault((stage, ranks), []).append(steps_with(ranks, stage, options))
    for (stage, ranks), repeats in found.items():
        rates = [rate(repeat, ranks, options.batch) for repeat in repeats]
        record: Record = {"what": f"scaling/{ranks} ranks, ZeRO {stage}", "value": statistics.median(rates)}
        record |= {"unit": "products/s", "quantiles": {"min": min(rates), "max": max(rates)}, "repeats": len(rates)}
        record |= {"settings": {"ranks": ranks, "stage": stage, "batch": options.batch, "threads": 1}}
        record["settings"] |= {"precision": options.precision}
        record |= {name: repeats[0][name] for name in ("bytes", "calls", "parameters", "element_bytes", "prototypes")}
        if (stage, 1) in found:
            alone = [rate(repeat, 1, options.batch) for repeat in found[stage, 1]]
            ratios = [mine / one for mine, one in zip(rates, alone)]
            record |= {"ratio_to": f"1 ranks, ZeRO {stage}", "ratio": statistics.median(ratios)}
            record |= {"efficiency": statistics.median(ratios) / ranks}
        yield record


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
    parser.add_argument("--ranks", type=int, nargs="+", default=usual, help="how many, in turn (default %(default)s)")
    parser.add_argument("--stages", type=int, nargs="+", choices=[0, 1, 2], default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=256 if gpus else 32, help="products a rank")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if gpus else "fp32")
    parser.add_argument("--steps", type=int, default=10, help="that are timed (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("settings", nargs="*", help="options of train.py, behind --")
    return exit_with(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if min(options.ranks) < 1 or options.steps < 1 or options.repeats < 1 or options.batch < 1:
        raise BadUsage("ranks, steps, repeats and batch count from 1", change="correct the option")
    options.data = options.data or demo_shards(DemoConfig())
    about = {"data": Path(options.data).name, **provenance()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as out:
        for record in records(options):
            out.write(json.dumps(record | about) + "\n")
            out.flush()
            share = f"   {record['efficiency']:.0%} of one rank each" if "efficiency" in record else ""
            print(f"{record['what']:<30}{record['value']:>10.1f} {record['unit']}{share}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
