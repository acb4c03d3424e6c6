"""Trains the demo at the tests' size for several configurations and writes their losses; one process a rank.

Cases: ``[small-]zeroSTAGE-PRECISION[ fused]:STEPS``. Started by test_curves.py, in Triton's interpreter.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from skill_fast.config import parse
from skill_fast.data.index import open_index
from skill_fast.engine.deepspeed_engine import init_distributed, leave
from skill_fast.engine.loop import Run
from skill_fast.kernels import backend
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder
from skill_fast.telemetry.clock import Clock
from skill_fast.train import build
from tests.conftest import TINY
from tests.engine.toy import ds_config
from tests.kernels.interpreted import patch_language_once_a_launch

BATCH = 16
SMALL_BATCH, SMALL = 4, ["--views.local-crops", "1", "--head.prototypes", "64"]
"""For Triton's interpreter, whose time goes by rows and views and hardly by prototypes."""


def curve(data: str, folder: Path, case: str, steps: int) -> list[float]:
    """The mean loss over ranks of each step; the schedules are those of 200 steps, however many are taken."""
    case, _, kernels = case.partition(" ")
    *small, stage, precision = case.split("-")
    backend._chosen = None  # a run is a process, a test has several
    options = [
        *TINY,
        *(SMALL if small else ()),
        "--data",
        data,
        "--steps",
        "200",
        "--speed.kernels",
        kernels or "reference",
    ]
    config = parse(options, PRESETS).config
    out = RunFolder(folder / f"{case}-{kernels}", rank=init_distributed()[0])
    out.open(fresh=True)
    batch = SMALL_BATCH if small else BATCH
    settings: dict[str, Any] = ds_config(int(stage.removeprefix("zero")), precision, train_batch_size=batch)
    with build(replace(config, out=str(out.path)), settings, open_index(data), out) as run:
        return losses(run, steps)


def losses(run: Run, steps: int) -> list[float]:
    batches, found = iter(run.loader), []
    for _ in range(steps):
        told = run.one_step(batches, run.course[run.step], Clock())
        run.step += 1
        found.append(run._mean_over_ranks({"loss": told["loss"]})["loss"])
    return torch.stack(found).tolist()


def main(data: str, folder: Path, *cases: str) -> None:
    patch_language_once_a_launch()
    init_distributed()
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    told = {}
    for case in cases:
        name, _, steps = case.partition(":")
        told[name] = curve(data, folder, name, int(steps))
    (folder / f"curves-{world}-{rank}.json").write_text(json.dumps(told))
    leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
