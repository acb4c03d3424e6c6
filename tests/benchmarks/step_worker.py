"""Rows of the benchmark of the step, on a toy model and this machine's device, the driver's readings stubbed.

A process of its own, as each measurement is; see test_gpu_rows.py.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

import torch

from benchmarks.training import Setting, no_loader
from skill_fast.kernels import backend
from skill_fast.methods import METHODS
from skill_fast.telemetry import nvml
from tests.benchmarks import nvml_stub

TOY: dict[str, Any] = {"model": "toy", "batch": 4, "precision": "fp32"}


def measured(changed: dict[str, Any], by_hand: bool) -> dict[str, Any]:
    backend._chosen = None  # a process measures one setting; here one measures them all
    gc.enable()
    collecting, timed = [], no_loader.timed

    def seen(*arguments: Any) -> dict[str, Any]:
        collecting.append(gc.isenabled())
        return timed(*arguments)

    no_loader.timed = seen
    setting = Setting(**(TOY | changed))
    found = no_loader.measure(no_loader.StepJob(setting, 0.0, by_hand))
    no_loader.timed = timed
    return found | {"collecting": collecting, "levers": vars(setting)}


def vit_base() -> dict[str, Any]:
    """Of the network that the row's setting builds, without memory for it."""
    config = Setting(model="vit_base").config("", "")
    with torch.device("meta"):
        method = METHODS["skill"](config.skill, config.backbone, config.head, config.views, seed=0)
    backbone: Any = method.student.backbone
    views = [[group.views, group.size] for group in method.views()]
    return {"dim": backbone.num_features, "depth": len(backbone.blocks), "views": views}


if __name__ == "__main__":
    nvml.pynvml = nvml_stub
    told = {name: measured(*row) for name, row in json.loads(sys.argv[1]).items()}
    print(json.dumps(told | {"vit_base": vit_base()}), flush=True)
    os._exit(0)  # DeepSpeed leaves threads behind
