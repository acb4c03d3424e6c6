"""The training step without a loader: by phase, with and without each lever, on synthetic crops.

    python -m benchmarks.step --out records.jsonl                       # on a GPU: ViT-S/16 and ViT-B/16, all levers
    python -m benchmarks.step --rows base packed --batch 256 --seconds 10

Each row is a process of its own: SkiLL's networks, loss, DeepSpeed's step, teacher and center as ``train.py`` builds
them. Two figures a row: whole steps queued one after another (``value``, what training pays), and steps cut into
phases by events (``phases_ms``, which adds waits). A gate first: the first loss is that of the plain row, and later
ones fall.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.step_row import Row, one
from shards.errors import exit_with
from skill_fast.telemetry.provenance import provenance

LEVERS: dict[str, dict[str, Any]] = {
    "base": {},
    "no compile": {"compile": "off"},
    "reference kernels": {"kernels": "reference"},
    "packed": {"packed": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "drop path by subset": {"drop_path_by_subset": True},
}
LOSS_AS_BASE = {"base", "no compile", "reference kernels", "packed", "gradient checkpointing"}


def rows(options: argparse.Namespace, on_gpu: bool) -> list[Row]:
    """Most important first: levers at the first batch, then batches, ZeRO stages, the larger model."""
    preset = options.preset or ("skill_vit_small" if on_gpu else "demo")
    precision = "bf16" if on_gpu else "fp32"
    first = Row("base", preset, options.batch[0], 1 if on_gpu else 0, precision)
    found = [replace(first, name=name, speed=speed) for name, speed in LEVERS.items()]
    if not on_gpu:  # inductor's C++ takes minutes, and plain torch is what runs there anyway
        found = [row for row in found if row.name not in ("no compile", "reference kernels")]
    found += [replace(first, name=f"ZeRO {stage}", stage=stage) for stage in (0, 1, 2) if stage != first.stage]
    found += [replace(first, name=f"batch {batch}", batch=batch) for batch in options.batch[1:]]
    if on_gpu and not options.preset:
        found.append(replace(first, name="ViT-B/16", preset="skill_vit_base", batch=min(options.batch[0], 128)))
    return [row for row in found if options.rows is None or row.name in options.rows]


def measure(row: Row, seconds: float) -> dict[str, Any]:
    """A row in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.step", "--one", json.dumps(vars(row)), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return {"can_not": said[-1] if said else f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.step", description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", nargs="+", help=f"of {', '.join(LEVERS)}, ZeRO N, batch N, ViT-B/16 (default: all)")
    parser.add_argument("--preset", help="default: skill_vit_small on a GPU, demo on a CPU")
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 64, 128, 512] if on_gpu else [32, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row, at least")
    parser.add_argument("--budget-s", type=float, default=480.0, help="no further row starts after it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        return exit_with(lambda: print(json.dumps(one(Row(**json.loads(options.one)), options.seconds))))
    return exit_with(lambda: _run(options, on_gpu))


def _run(options: argparse.Namespace, on_gpu: bool) -> None:
    shared, start, base = provenance(), time.perf_counter(), None
    lines = []
    for row in rows(options, on_gpu):
        if time.perf_counter() - start > options.budget_s:
            print(f"{row.name}: left out, the budget of {options.budget_s:g} s is used up")
            continue
        found = measure(row, options.seconds)
        if base is None and row.name == "base":
            base = found
        found = _gated(row, found, base)
        record = {"what": f"step/{row.name}", "value": found.pop("step_ms", None), "unit": "ms", **found}
        lines.append(json.dumps(record | {"settings": vars(row)} | shared) + "\n")
        _tell(row, record, base)
        if options.out:  # as they come: a run that is stopped has written what it has
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text("".join(lines), encoding="utf-8")


def _gated(row: Row, found: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    """A lever that must not change the result begins with the base's loss; else it does not count."""
    if base is None or "can_not" in found or "can_not" in base or row.name not in LOSS_AS_BASE:
        return found
    tolerance = 1e-4 if row.precision == "fp32" else 2e-2
    if abs(found["first_loss"] - base["first_loss"]) > tolerance * abs(base["first_loss"]):
        return {"can_not": f"the gate: first loss {found['first_loss']:.5f}, the base's {base['first_loss']:.5f}"}
    return found


def _tell(row: Row, record: dict[str, Any], base: dict[str, Any] | None) -> None:
    if record["value"] is None:
        print(f"{row.name:26} can not: {record['can_not']}", flush=True)
        return
    phases = "  ".join(f"{name} {ms:.1f}" for name, ms in record["phases_ms"].items())
    mfu = f"MFU {record['mfu']:.1%}  " if record["mfu"] else ""
    print(f"{row.name:26} {record['value']:8.2f} ms a step  {record['products_per_s']:9,.1f} products/s  {mfu}")
    print(f"{'':28}{phases}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
