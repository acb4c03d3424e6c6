"""One rank of a short real training, timed and its collectives counted; ``benchmarks.scaling`` starts them.

torchrun --standalone --nproc-per-node 2 -m benchmarks.ranks --stage 1 --precision fp32 --data SHARDS --out F.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.options import count
from benchmarks.stopwatch import settle
from benchmarks.traffic import Traffic
from skill_fast.config import parse
from skill_fast.data.index import open_index
from skill_fast.engine.deepspeed_engine import init_distributed, leave
from skill_fast.engine.loop import Run
from skill_fast.errors import exit_with
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder
from skill_fast.telemetry.clock import Clock
from skill_fast.train import build

WARM_UP = 3


def steps_of(run: Run, steps: int) -> dict[str, Any]:
    """Step times of this rank, ms, and what one step sent: bytes and calls by collective."""
    batches, times_ms = iter(run.loader), []

    def step() -> None:
        run.one_step(batches, run.course[run.step], Clock())
        run.step += 1

    for _ in range(WARM_UP):
        step()
    for _ in range(steps):
        settle(run.engine.device)  # a step of a GPU is queued long before it is done
        began = time.perf_counter()
        step()
        settle(run.engine.device)
        times_ms.append((time.perf_counter() - began) * 1e3)
    with Traffic() as traffic:
        step()
        run.teacher.wait()
    return {
        "steps_ms": times_ms,
        "warm_up": WARM_UP,
        "bytes": dict(traffic.bytes),
        "calls": dict(traffic.calls),
        "parameters": sum(p.numel() for p in run.engine.module.parameters()),
        "element_bytes": run.engine.dtype.itemsize,
        "prototypes": run.method.state_dict()["center"].numel(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="benchmarks.ranks", description=__doc__.splitlines()[0])
    parser.add_argument("--stage", type=int, choices=[0, 1, 2], required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--precision", choices=["bf16", "fp32"], required=True)
    parser.add_argument("--batch", type=count, default=32, help="products a rank")
    parser.add_argument("--steps", type=count, default=10)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("settings", nargs="*", help="options of train.py, behind --")
    options = parser.parse_args(arguments)
    return exit_with(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    rank, world_size, _ = init_distributed()
    total = options.steps + WARM_UP + 1
    config = parse([*options.settings, "--data", options.data, "--steps", str(total)], PRESETS).config
    ds_config: dict[str, Any] = {
        "train_batch_size": options.batch * world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 3.0,
        "zero_optimization": {"stage": options.stage, "overlap_comm": False, "reduce_scatter": True},
        "bf16": {"enabled": options.precision == "bf16"},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "run", rank=rank)
        folder.open(fresh=True)
        with build(replace(config, out=str(folder.path)), ds_config, open_index(options.data), folder) as run:
            found = steps_of(run, options.steps)
    if rank == 0:
        options.out.write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    sys.exit(main())
