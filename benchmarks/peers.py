"""Whole training in other people's recipes beside ours: the same model, crops, batch and photographs, a process each.

    python -m benchmarks.peers --data SHARDS --out records.jsonl
    python -m benchmarks.peers --data SHARDS --rows ours lightly --repeats 5

Before it is timed every recipe passes a gate: the crops' shapes and values, losses on one batch that are finite and
fall. Rates are medians over the rounds; ratios are to the original DINO recipe within a round. A recipe that can not
run here says why. Records are written as they come.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.archive import folder_name, write
from benchmarks.options import above_0, count, seconds
from benchmarks.pairing import by_round, ratio_to, told
from benchmarks.processes import Record, demand_a_figure, in_a_process, rounds
from benchmarks.recipes import BASE, MOST_WORKERS, RECIPES, Job
from benchmarks.train import ON_A_CPU, ON_A_GPU, derived
from benchmarks.training import MODELS
from shards.errors import exit_with
from skill_fast.data.index import open_index
from skill_fast.telemetry.provenance import provenance

KEPT_EQUAL = (
    "photographs; timm's backbone and the head, with the same first weights; crop sizes and areas, flip, jitter, grey, "
    "blur (sigma), normalisation; batch; precision (in bf16 autocast over fp32 weights in the peers, bf16 weights with "
    "fp32 masters in ours); temperatures, momentum, AdamW, clipping at 3; workers or threads, of which ours has as "
    "many as the DALI rows, with the same depth of 2 and DALI's usual share of the hardware decoder"
)
NOT_EQUAL = {
    "original DINO recipe": "clips each tensor by its own norm; no loss scaling",
    "lightly": "one forward pass a view, as in its example",
    "DALI readers.webdataset, eager step": "the reader takes each product's first two photographs",
    "DALI readers.webdataset, compiled step": "the reader takes each product's first two photographs",
    "kornia on batches, eager step": "crops are cut from 512 x 512 squares",
    "ours": "crc32 of every photograph, checks for steps that are not finite; 2 batches more wait ready; train.py "
    "would calibrate threads, prefetch and hardware decoder on a GPU, here they are pinned",
}
TIMEOUT_S = 300


def jobs(options: argparse.Namespace) -> list[Job]:
    base = ON_A_GPU if options.device == "cuda" else ON_A_CPU
    given = {name: getattr(options, name) for name in ("model", "batch", "precision") if getattr(options, name)}
    setting = replace(base, recipes="none", **given)
    shared = (setting, options.data, options.workers, options.device, options.seconds)
    return [Job(name, *shared) for name in options.rows or RECIPES]


def measure(job: Job) -> Record:
    return in_a_process("benchmarks.recipes", [job.text()], TIMEOUT_S + job.seconds)


def records(todo: Sequence[Job], found: Sequence[Sequence[Record]], photographs: int) -> list[Record]:
    """A record a recipe that was measured so far, or that can not be."""
    base = next((repeats for job, repeats in zip(todo, found) if job.name == BASE), [])
    return [_record(job, repeats, base, photographs) for job, repeats in zip(todo, found) if repeats]


def _record(job: Job, repeats: Sequence[Record], base: Sequence[Record], photographs: int) -> Record:
    record: Record = {"what": f"peers/{job.name}", "value": None, "unit": "products/s"}
    good = [repeat for repeat in repeats if "can_not" not in repeat]
    if good:
        rates = [repeat["products_per_s"] for repeat in good]
        rate = statistics.median(rates)
        fields = dict(good[min(range(len(rates)), key=lambda place: abs(rates[place] - rate))])
        del fields["products_per_s"]
        record |= {"value": rate, "quantiles": {"min": min(rates), "max": max(rates)}, "repeats": len(rates)}
        record |= derived(rate, fields) | fields
    else:
        record["can_not"] = repeats[-1]["can_not"]
    if good and base:
        record |= {"by_round": by_round(repeats), **ratio_to(BASE, by_round(repeats), by_round(base))}
    return record | {
        "kept_equal": KEPT_EQUAL,
        "not_equal": NOT_EQUAL[job.name],
        "settings": asdict(job.setting),
        "crops": {group.name: [group.views, group.size] for group in job.loader_job().views},
        "workers": job.workers,
        "device": job.device,
        "data": folder_name(job.data),
        "photographs": photographs,
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder of shards")
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    parser.add_argument("--rows", nargs="+", choices=list(RECIPES), help="recipes (default: all)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.set_defaults(device=device)
    parser.add_argument("--model", choices=list(MODELS), help="default: vit_small on a GPU, small_crops on a CPU")
    parser.add_argument("--batch", type=count, help="products (default: 256 on a GPU, 16 on a CPU)")
    parser.add_argument("--precision", choices=["bf16", "fp32"], help="default: bf16 on a GPU, fp32 on a CPU")
    workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    parser.add_argument("--workers", type=count, default=workers, help="processes or threads (default %(default)s)")
    parser.add_argument("--seconds", type=seconds, default=10.0, help="of each measurement, at least")
    parser.add_argument("--repeats", type=count, default=3, help="rounds over all recipes (default %(default)s)")
    parser.add_argument("--budget-s", type=above_0, default=480.0, help="no measurement starts after it")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    todo, shared, photographs = jobs(options), provenance(), open_index(options.data).images

    def keep(found: list[list[Record]]) -> None:
        made = records(todo, found, photographs)
        if options.out:
            write(options.out, (record | shared for record in made))
        _tell(made)

    demand_a_figure(rounds(todo, measure, repeats=options.repeats, budget_s=options.budget_s, after=keep))


def _tell(made: Sequence[Record]) -> None:
    print()
    for record in made:
        if record["value"] is None:
            print(f"{record['what']:46} can not: {record['can_not']}", flush=True)
            continue
        print(
            f"{record['what']:46} {record['value']:8,.1f} products/s  step p50 {record['step_ms']['p50']:7.1f} ms  "
            f"data {record['data_wait_share']:5.1%}  {told(record, BASE)}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_with(lambda: run(parsed(arguments)))


if __name__ == "__main__":
    sys.exit(main())
