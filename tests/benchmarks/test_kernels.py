"""The kernels' benchmark: its records on a CPU, and the gate before them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.contenders import distillation_task, ema_task
from benchmarks.kernels import gate, main
from skill_fast.errors import BadData

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it is no dry run")
def test_a_dry_run_writes_a_record_a_contender(tmp_path):
    out = tmp_path / "kernels.jsonl"
    assert main(["--out", str(out), "--repeats", "3", "--warm-up", "1"]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    ways = {"forward": ("reference", "loops"), "both": ("reference", "loops")}
    wanted = ["kernels/copy", *(f"kernels/distillation/{part}/{way}" for part in ways for way in ways[part])]
    wanted += ["kernels/ema/reference", "kernels/ema/foreach", "kernels/centering/reference"]
    assert [r["what"] for r in records] == wanted
    for record in records:
        assert record["value"] > 0 and record["repeats"] == 3 and {"commit", "cpu", "versions"} <= record.keys()


def test_the_gate_lets_the_original_loops_and_the_foreach_form_through():
    for part in ("forward", "both"):
        gate(distillation_task(2, 33, torch.bfloat16, CPU, fused=None, compiled=False, part=part))
    gate(ema_task(1000, CPU, fused=None, compiled=False))


def test_the_gate_stops_what_computes_something_else():
    task = ema_task(1000, CPU, fused=None, compiled=False)
    teacher, out = task.ways["reference"]()
    wrong = replace(task, ways=task.ways | {"foreach": lambda: (teacher * 1.001, out)})
    with pytest.raises(BadData, match="result 0 of 'foreach' is off"):
        gate(wrong)
