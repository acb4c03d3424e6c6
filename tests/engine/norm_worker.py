"""Batch norm through a step whose input is NaN: beside a twin that never saw it. Started by test_norms.py."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import torch

from skill_fast.engine.deepspeed_engine import build_engine, init_distributed
from skill_fast.engine.teacher import ShardedTeacher
from tests.engine.toy import ds_config


def buffers(given: list[torch.Tensor], stage: int) -> tuple[dict, dict, list[bool]]:
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3))
    module = copy.deepcopy(student)
    engine = build_engine(student, ds_config(stage, "fp32"))
    teacher = ShardedTeacher(engine, module)
    applied = []
    for x in given:
        engine.set_schedules(lr=0.01, weight_decay=0.0)
        with torch.no_grad():
            teacher.wait()
            target = teacher.module(x)
        loss = (engine(x) - target.nan_to_num() + 1).square().mean()
        engine.backward(loss)
        engine.step()
        applied.append(bool(engine.finite))
        teacher.update(0.9, engine.finite)
    kept = [
        {k: v.tolist() for k, v in module.state_dict().items() if "running" in k}
        for module in (engine.module, teacher.module)
    ]
    return kept[0], kept[1], applied


def main(path: Path) -> None:
    init_distributed()
    batches = [torch.randn(4, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    spoilt = [batches[0], batches[1] * torch.nan, *batches[1:]]
    path.write_text(json.dumps([[buffers(spoilt, stage), buffers(batches, stage)] for stage in (0, 2)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
