"""The benchmark's fused rows compute what the definition does, at every launch of its sweep."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import Any

import pytest
import torch

from benchmarks import kernels
from benchmarks.contenders import centering_task, distillation_task, ema_task
from benchmarks.stopwatch import Timing
from tests.kernels.interpreted import native_or_interpreted

pytestmark = native_or_interpreted


@pytest.mark.parametrize("name", ["ema", "centering", "distillation/forward", "distillation/both"])
def test_fused_rows_pass_the_gate_and_stay_right_when_swept(device, monkeypatch, name):
    modules, about = kernels.fused_modules(), {"compiled": False}
    kind, _, part = name.partition("/")
    make: dict[str, Any] = {
        "ema": partial(ema_task, 1100, device),
        "centering": partial(centering_task, 65, device),
        "distillation": partial(distillation_task, 1, 65, torch.float32, device, part=part),
    }
    task = make[kind](fused=modules[kind], **about)
    assert "fused" in task.ways
    kernels.gate(task)
    launches = []

    def timed(way: Any, *_: Any, **__: Any) -> Timing:
        assert way is task.ways["fused"]
        launches.append(1)
        kernels.gate(task)
        return Timing((1.0,), 1, None)

    monkeypatch.setattr(kernels, "clocked", timed)
    assert len(list(kernels.sweep(task, device, Namespace(repeats=1, warm_up=0)))) == len(launches) >= 12
