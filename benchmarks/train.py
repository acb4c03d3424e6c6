"""Training as train.py does it, from shards on disk: what it reaches, what of it is data, and what each lever is worth.

    python -m benchmarks.train --data SHARDS --out records.jsonl
    python -m benchmarks.train --data SHARDS --out records.jsonl --sweep [threads prefetch ...]

Three rows a setting, each setting in a process of its own: ``total`` (loader and all), ``headroom`` (batches kept from
the loader), ``compute only`` (random tensors made on the device). On a GPU ViT-S/16 with 2 x 224 + 8 x 96 crops, batch
256, bf16; on a CPU a small model with 2 x 96 + 2 x 48 crops in fp32. ``--sweep`` adds rows with one lever changed: the
loader's threads, prefetch and share of the hardware decoder (``total`` alone, beside the base's of the same round),
batch, precision, ZeRO stage, torch.compile, backend of the kernels, the others of ``--speed.*``; ``--sweep threads``
these only. Records are written as they come.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.archive import folder_name, write
from benchmarks.options import above_0, count, seconds
from benchmarks.pairing import by_round, ratio_to, told
from benchmarks.processes import Record, demand_a_figure, in_a_process, rounds
from benchmarks.training import MODELS, Job, Setting
from benchmarks.training.work import told_utilisation, utilisation
from shards.errors import exit_with
from skill_fast.data.index import open_index
from skill_fast.telemetry.provenance import provenance

ROWS = ("total", "headroom", "compute only")
BASE_ROW = "compute only"
"""What the other rows' ratios are to, within a process."""
FROM_DISK = "total"
"""What the ratios of other loader settings are to, within a round."""
ON_A_GPU = Setting()
# One rank has nothing to share: stages 1 and 2 would only copy each gradient, a twentieth of the step (docs/LOG.md).
ON_A_CPU = Setting(model="small_crops", batch=16, precision="fp32", stage=0, backend="auto")
GPU_SWEEP: dict[str, tuple[Any, ...]] = {
    "compile": ("off",),
    "backend": ("reference",),
    "stage": (0, 1),
    "batch": (64, 128, 512),
    "precision": ("fp16", "fp32"),
    "packed": (True,),
    "drop_path_by_subset": (True,),
    "gradient_checkpointing": (True,),
    "recipes": ("none",),
    "model": ("vit_base",),
}
CPU_SWEEP: dict[str, tuple[Any, ...]] = {
    "batch": (8, 32),
    "stage": (2,),
    "precision": ("bf16",),
    "packed": (True,),
    "backend": ("fused",),
    "recipes": ("none",),
}
"""Without compile: the C++ that torch writes for a CPU takes longer to compile than the rest of the benchmark."""
LOADER_SWEEP: dict[str, dict[str, tuple[Any, ...]]] = {
    "cuda": {"threads": (4, 8, 12), "prefetch": (1, 3, 4), "hw_decoder_load": (0.0, 0.5, 0.9)},
    "cpu": {"threads": (1, 2), "prefetch": (1, 4)},
}
"""--loader.threads, --loader.prefetch, --loader.hw-decoder-load of train.py, by device. Whatever the cores are by
default, there are two settings of threads."""
LEVERS = list(dict.fromkeys([*GPU_SWEEP, *CPU_SWEEP, *LOADER_SWEEP["cuda"]]))
TIMEOUT_S = 420


def jobs(options: argparse.Namespace) -> list[Job]:
    """The base first, then the sweep in the order of what it is expected to tell."""
    base = ON_A_GPU if options.device == "cuda" else ON_A_CPU
    given = {name: getattr(options, name) for name in vars(base) if getattr(options, name, None) is not None}
    first = Job(replace(base, **given), options.data, options.seconds, dict(options.loader))
    if options.sweep is None:
        return [first]
    found, points = [first], GPU_SWEEP if options.device == "cuda" else CPU_SWEEP
    for name, values in {**LOADER_SWEEP[options.device], **points}.items():
        for value in values if not options.sweep or name in options.sweep else ():
            if name in points:
                found.append(replace(first, setting=replace(first.setting, **{name: value})))
            else:  # the other rows' batches do not come from the loader
                found.append(replace(first, loader=first.loader | {name: value}, only_total=True))
    return [job for place, job in enumerate(found) if not place or title(job, first)]


SETTLED = ("threads", "prefetch", "hw_decoder_load")


def settled(job: Job, of_base: Sequence[Record]) -> Job:
    """``job`` with what the base's loader came to in its first round, and its own lever; as it is while none is known.

    Left to train.py on a GPU each row would be calibrated anew, and `threads 4` would be another prefetch and share of
    the hardware decoder too.
    """
    known = next((repeat["loader"] for repeat in of_base if "loader" in repeat), None)
    if known is None:
        return job
    return replace(job, loader={name: known[name] for name in SETTLED} | job.loader | {"calibrate": "off"})


def title(job: Job, base: Job) -> str:
    """ "" for the base; else what was changed, ", batch 512", ", threads 4"."""
    of_base = vars(base.setting) | base.loader
    given = (vars(job.setting) | job.loader).items()
    changed = {name: value for name, value in given if name not in of_base or value != of_base[name]}
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in changed.items())


def measure(job: Job, so_far: Callable[[Record], None]) -> Record:
    return in_a_process("benchmarks.training", [job.text()], TIMEOUT_S + 3 * job.seconds, so_far)


def records(todo: Sequence[Job], found: Sequence[Sequence[Record]], photographs: int) -> list[Record]:
    """A record a row of each setting that was measured so far; one for a setting that can not be."""
    made = []
    for job, repeats in zip(todo, found):
        if not repeats:
            continue
        name = title(job, todo[0])
        shared = {"settings": asdict(job.setting), "data": folder_name(job.data), "photographs": photographs}
        good = [repeat for repeat in repeats if "can_not" not in repeat]
        if not good:
            row = {"value": None, "unit": "products/s", "can_not": repeats[-1]["can_not"]}
            made.append({"what": f"train/total{name}", **row, **shared})
            continue
        base_row = FROM_DISK if job.only_total else BASE_ROW
        base = of_row(base_row, found[0] if job.only_total else repeats)
        for row in [row for row in ROWS if any(row in repeat["rows"] for repeat in good)]:
            rates = of_row(row, repeats)
            paired = {"by_round": rates, **ratio_to(f"train/{base_row}", rates, base)}
            made.append({"what": f"train/{row}{name}", **figures(row, good), **paired, **shared})
    return made


def of_row(row: str, repeats: Sequence[Record]) -> list[float | None]:
    """A row's products/s by round; None where its process had not come to it."""
    missing = {"can_not": "not come to"}
    return by_round([repeat.get("rows", {}).get(row, missing) for repeat in repeats])


def figures(row: str, repeats: Sequence[Record]) -> Record:
    """Of one row over its repeats: the median repeat's fields, beside the median of the rates."""
    repeats = [repeat for repeat in repeats if row in repeat["rows"]]
    rows = [repeat["rows"][row] for repeat in repeats]
    rates = [repeat["products_per_s"] for repeat in rows]
    rate = statistics.median(rates)
    middle = min(range(len(rates)), key=lambda place: abs(rates[place] - rate))
    about, fields = repeats[middle], dict(rows[middle])
    del fields["products_per_s"]
    return {
        "value": rate,
        "unit": "products/s",
        "quantiles": {"min": min(rates), "max": max(rates)},
        "repeats": len(rates),
        **derived(rate, about),
        **fields,
        **({"phases_ms": about["phases_ms"]} if row == "total" and "phases_ms" in about else {}),
        **{name: value for name, value in about.items() if name not in ("rows", "phases_ms")},
    }


def derived(rate: float, about: Record) -> Record:
    """What follows from products/s: photographs, megapixels, crops, tokens a second, and MFU.

    Of photographs and megapixels: decoded in ``total``, the work that the rate stands for in the other rows.
    """
    tflops = rate * sum(about["flops_a_product"].values()) / 1e12
    return {
        "photographs_per_s": 2 * rate,
        "megapixels_per_s": 2 * rate * about["megapixels_a_photograph"],
        "crops_per_s": rate * sum(views for views, _ in about["crops"].values()),
        "tokens_per_s": rate * sum(about["tokens_a_product"].values()),
        "tflops": tflops,
        **utilisation(tflops, about),
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.train", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder of shards")
    parser.add_argument("--out", type=Path, help="file for the records, one JSON object a line")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.set_defaults(device=device)
    parser.add_argument("--model", choices=list(MODELS), help="default: vit_small on a GPU, small_crops on a CPU")
    parser.add_argument("--batch", type=count, help="products (default: 256 on a GPU, 16 on a CPU)")
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--stage", type=int, choices=[0, 1, 2], help="of ZeRO (default: 2, on a CPU 0)")
    parser.add_argument(
        "--sweep",
        nargs="*",
        choices=LEVERS,
        metavar="LEVER",
        help=f"also one changed at a time: {', '.join(LEVERS)} (all)",
    )
    parser.add_argument(
        "--seconds", type=seconds, default=10.0 if device == "cuda" else 6.0, help="of each row, at least"
    )
    parser.add_argument("--repeats", type=count, default=3, help="rounds over all settings (default %(default)s)")
    parser.add_argument("--budget-s", type=above_0, default=480.0, help="no measurement starts after it")
    options = parser.parse_args(arguments)
    # On a GPU train.py calibrates its loader; on a CPU a thread a core is what it takes.
    options.loader = {} if device == "cuda" else {"threads": len(os.sched_getaffinity(0))}
    return options


def run(options: argparse.Namespace) -> None:
    todo, shared, photographs = jobs(options), provenance(), open_index(options.data).images
    of_base: list[Record] = []

    def keep(found: list[list[Record]]) -> None:
        of_base[:] = found[0]
        made = records(todo, found, photographs)
        if options.out:
            write(options.out, (record | shared for record in made))
        _tell(made[-1:] if "can_not" in made[-1] else made)

    def measured(job: Job, so_far: Callable[[Record], None]) -> Record:
        return measure(settled(job, of_base), so_far)

    how = {"repeats": options.repeats, "budget_s": options.budget_s}
    demand_a_figure(rounds(todo, measured, after=keep, telling=True, **how))


def _tell(made: Sequence[Record]) -> None:
    print()
    for record in made:
        if record["value"] is None:
            print(f"{record['what']:44} can not: {record['can_not']}", flush=True)
            continue
        print(
            f"{record['what']:44} {record['value']:9,.1f} products/s  step p50 {record['step_ms']['p50']:7.1f} ms, p99 "
            f"{record['step_ms']['p99']:7.1f}  {told_utilisation(record)}  data {record['data_wait_share']:5.1%}  "
            f"{told(record, record['ratio_to'].removeprefix('train/'))}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_with(lambda: run(parsed(arguments)))


if __name__ == "__main__":
    sys.exit(main())
