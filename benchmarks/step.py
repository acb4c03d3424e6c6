"""The training step without a loader: its phases, MFU and memory, and what each lever is worth.

    python -m benchmarks.step --out records.jsonl
    python -m benchmarks.step --out records.jsonl --levers compile backend --repeats 5

The step is ``engine/loop.py``'s own, on random crops that lie on the device; a process a row, rows in rounds, each
behind a gate (finite losses, steps applied, student and teacher moved). The base first, then one lever changed at a
time, all of them off, ZeRO stages, batches, and on a GPU ViT-B/16. Ratios are of products/s to the base of the same
model, within a round. Records are written as they come; no row begins after ``--budget-s``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.archive import write
from benchmarks.options import above_0, count, seconds
from benchmarks.pairing import by_round, ratio_to, told
from benchmarks.processes import Record, demand_a_figure, in_a_process, rounds
from benchmarks.training import MODELS, Setting
from benchmarks.training.no_loader import StepJob
from benchmarks.training.work import told_utilisation, utilisation
from skill_fast.errors import exit_with
from skill_fast.telemetry.provenance import provenance

ON_A_GPU = Setting()
ON_A_CPU = Setting(model="small_crops", batch=8, precision="fp32")
LEVERS: dict[str, dict[str, Any]] = {
    "compile": {"compile": "off"},
    "backend": {"backend": "reference"},
    "packed": {"packed": True},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "drop_path_by_subset": {"drop_path_by_subset": True},
}
"""What differs from the base, by name. On a GPU compiled blocks and Triton are in the base; on a CPU neither is."""
COLLECTION, ALL_OFF = "garbage_collection", "all_off"
ONLY_ON_A_GPU = ("compile", "backend", ALL_OFF)
STAGES, BATCHES = (0, 1, 2), {True: (64, 128, 256, 512), False: (4, 16)}
TIMEOUT_S = 420


def jobs(options: argparse.Namespace) -> list[StepJob]:
    """In the order of what they are expected to tell; none twice."""
    gpu = options.device == "cuda"
    given = {name: value for name in vars(ON_A_GPU) if (value := getattr(options, name, None)) is not None}
    base = replace(ON_A_GPU if gpu else ON_A_CPU, **given)
    todo = [StepJob(base, options.seconds)]
    todo += [changed(todo[0], lever) for lever in options.levers]
    if not options.only_levers:
        models = [base] + ([replace(base, model="vit_base")] if gpu and options.model is None else [])
        for model in models:
            todo += [StepJob(replace(model, stage=stage), options.seconds) for stage in (base.stage, *STAGES)]
            todo += [StepJob(replace(model, batch=batch), options.seconds) for batch in BATCHES[gpu]]
    return list(dict.fromkeys(todo))


def changed(job: StepJob, lever: str) -> StepJob:
    """``job`` with one lever changed, or all that training uses by default taken away."""
    if lever == COLLECTION:
        return replace(job, collected_by_hand=False)
    if lever == ALL_OFF:
        setting = replace(job.setting, compile="off", backend="reference")
        return replace(job, setting=setting, collected_by_hand=False)
    return replace(job, setting=replace(job.setting, **LEVERS[lever]))


def title(job: StepJob, base: StepJob) -> str:
    """ "base", or what differs from it: "compile off", "model vit_base, batch 64"."""
    given = asdict(job.setting).items()
    differing = [f"{name.replace('_', ' ')} {value}" for name, value in given if value != getattr(base.setting, name)]
    collected = [] if job.collected_by_hand == base.collected_by_hand else ["garbage collected by Python"]
    return ", ".join([*differing, *collected]) or "base"


def measure(job: StepJob, name: str) -> Record:
    found = in_a_process("benchmarks.training.no_loader", [job.text()], TIMEOUT_S + job.seconds)
    rate = f"{found['products_per_s']:,.1f} products/s" if "can_not" not in found else f"can not: {found['can_not']}"
    print(f"{name:44} {rate}", flush=True)
    return found


def records(todo: Sequence[StepJob], found: Sequence[Sequence[Record]]) -> list[Record]:
    """A record a row that was measured so far, or can not be."""
    bases = {job.setting.model: repeats for job, repeats in reversed(list(zip(todo, found)))}
    names = {job.setting.model: title(job, todo[0]) for job in reversed(todo)}
    made = []
    for job, repeats in zip(todo, found):
        shared = {"what": f"step/{title(job, todo[0])}", "unit": "products/s", "settings": asdict(job.setting)}
        shared |= {"garbage_collected_by_hand": job.collected_by_hand}
        good = [repeat for repeat in repeats if "can_not" not in repeat]
        model = job.setting.model
        if good:
            rates = by_round(repeats)
            paired = ratio_to(f"step/{names[model]}", rates, by_round(bases[model]))
            made.append(shared | figures(good) | {"by_round": rates} | paired)
        elif repeats:
            made.append(shared | {"value": None, "can_not": repeats[-1]["can_not"]})
    return made


def figures(repeats: Sequence[Record]) -> Record:
    """The median of the rates and what follows from it; of the repeat nearest to it the phases' shares and the rest."""
    rates = sorted(repeat["products_per_s"] for repeat in repeats)
    rate = statistics.median(rates)
    middle = min(repeats, key=lambda repeat: abs(repeat["products_per_s"] - rate))
    tflops = rate * sum(middle["flops_a_product"].values()) / 1e12
    spent = sum(middle["phases_ms"].values())
    return {
        "value": rate,
        "quantiles": {"min": rates[0], "max": rates[-1]},
        "repeats": len(rates),
        "tflops": tflops,
        **utilisation(tflops, middle),
        "tokens_per_s": rate * sum(middle["tokens_a_product"].values()),
        "phase_shares": {name: spent_ms / spent for name, spent_ms in middle["phases_ms"].items()},
        **{name: value for name, value in middle.items() if name != "products_per_s"},
    }


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.step", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file for the records, one JSON object a line")
    gpu = torch.cuda.is_available()
    names = [*LEVERS, COLLECTION, ALL_OFF]
    usual = [name for name in names if gpu or name not in ONLY_ON_A_GPU]
    parser.set_defaults(device="cuda" if gpu else "cpu")
    parser.add_argument("--model", choices=list(MODELS), help="default: vit_small and vit_base; small_crops on a CPU")
    parser.add_argument("--batch", type=count, help="products of the base (default: 256 on a GPU, 8 on a CPU)")
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--levers", nargs="*", choices=names, default=usual, help="default: all that do something here")
    parser.add_argument("--only-levers", action="store_true", help="no rows of other stages, batches and models")
    parser.add_argument("--seconds", type=seconds, default=6.0 if gpu else 2.0, help="of each row, at least")
    parser.add_argument("--repeats", type=count, default=2, help="rounds over all rows (default %(default)s)")
    parser.add_argument("--budget-s", type=above_0, default=240.0, help="no row begins after it (default %(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    todo, about = jobs(options), provenance() | {"threads": torch.get_num_threads()}

    def keep(found: list[list[Record]]) -> None:
        write(options.out, (record | about for record in records(todo, found)))

    found = rounds(
        todo,
        lambda job: measure(job, title(job, todo[0])),
        repeats=options.repeats,
        budget_s=options.budget_s,
        after=keep,
    )
    print()
    for record in records(todo, found):
        _tell(record)
    demand_a_figure(found)


def _tell(record: Record) -> None:
    name = record["what"].removeprefix("step/")
    if record["value"] is None:
        print(f"{name:44} can not: {record['can_not']}", flush=True)
        return
    largest = sorted(record["phase_shares"].items(), key=lambda phase: -phase[1])[:4]
    print(
        f"{name:44} {record['value']:8,.1f} products/s  step p50 {record['step_ms']['p50']:7.1f} ms  "
        f"{told_utilisation(record)}  {told(record, record['ratio_to'].removeprefix('step/'))}  "
        + ", ".join(f"{phase} {share:.0%}" for phase, share in largest),
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_with(lambda: run(parsed(arguments)))


if __name__ == "__main__":
    sys.exit(main())
