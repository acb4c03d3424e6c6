"""Trains 200 steps for every ZeRO stage and writes the losses; one process a rank. See test_curves.py."""

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
from skill_fast.presets import PRESETS
from skill_fast.run_folder import RunFolder
from skill_fast.telemetry.clock import Clock
from skill_fast.train import build
from tests.conftest import TINY
from tests.engine.toy import ds_config

BATCH = 16


def curve(data: str, folder: Path, stage: int, precision: str, steps: int, kernels: str) -> list[float]:
    """The mean loss over ranks of each step, of the demo preset at the tests' size."""
    config = parse([*TINY, "--data", data, "--steps", "200", "--speed.kernels", kernels], PRESETS).config
    out = RunFolder(folder / f"zero{stage}-{precision}", rank=init_distributed()[0])
    out.open(fresh=True)
    settings: dict[str, Any] = ds_config(stage, precision, train_batch_size=BATCH)
    losses = []
    with build(replace(config, out=str(out.path)), settings, open_index(data), out) as run:
        batches = iter(run.loader)
        for _ in range(steps):
            told = run.one_step(batches, run.course[run.step], Clock())
            run.step += 1
            losses.append(run._mean_over_ranks({"loss": told["loss"]})["loss"])
    return torch.stack(losses).tolist()


def main(data: str, folder: Path, steps: int, kernels: str, *cases: str) -> None:
    init_distributed()
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    told = {}
    for case in cases:
        stage, precision = case.removeprefix("zero").split("-")
        told[case] = curve(data, folder, int(stage), precision, steps, kernels)
    (folder / f"curves-{world}-{rank}-{kernels}.json").write_text(json.dumps(told))
    leave()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
