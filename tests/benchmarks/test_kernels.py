"""The kernels' benchmark: its records on a CPU, and the gate before them."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace

import pytest
import torch

from benchmarks import kernels
from benchmarks.contenders import Task, distillation_task, ema_task, sinkhorn_task
from benchmarks.kernels import gate, main
from benchmarks.stopwatch import Timing
from skill_fast.errors import BadData

CPU = torch.device("cpu")


SMALL = ["--batch", "2", "--prototypes", "257", "--elements", "10000", "--repeats", "3", "--warm-up", "1"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU there are fused rows too")
def test_a_record_a_contender_and_one_a_ratio(tmp_path, capsys):
    out = tmp_path / "kernels.jsonl"
    assert main(["--out", str(out), *SMALL]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    tasks = {
        "ema": ("loops", "foreach"),
        "distillation/forward": ("loops",),
        "distillation/both": ("loops",),
        "centering": (),
        "sinkhorn": ("loops",),
    }
    wanted = ["kernels/copy"]
    for task, others in tasks.items():
        wanted += [f"kernels/{task}/{way}" for way in ("reference", *others)]
        wanted += [f"kernels/{task}/{way} over reference" for way in others]
    assert [r["what"] for r in records] == wanted
    for record in records:
        assert record["value"] > 0 and {"commit", "cpu", "versions", "shapes"} <= record.keys()
        if record["unit"] == "ratio":
            assert record["ratios"][0] <= record["value"] <= record["ratios"][1]
    assert "not begun" not in capsys.readouterr().out


def test_a_ratio_is_taken_within_a_turn(monkeypatch):
    """The machine is three times as slow in one turn of five: times tell, ratios do not."""
    slow = iter([1, 1, 1, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    monkeypatch.setattr(kernels, "clocked", lambda cost_ms, *_, **__: Timing((cost_ms * next(slow),), 1, None))
    monkeypatch.setattr(kernels, "plain_copy", lambda moved_bytes, device: moved_bytes / 100)  # 100 bytes a ms
    task = Task("ema", {"reference": 2.0, "loops": 8.0}, 200, 100, {"elements": [10]}, "float32")
    plain, other, ratio = kernels.measure(task, CPU, Namespace(repeats=5, warm_up=1))
    assert plain["quantiles"] == {"p10": 2, "p50": 2, "p90": 6} and other["value"] == 8
    assert plain["copy_share"] == 1.0 and plain["copy_shares"] == [1.0, 1.0] and plain["memory_ratio"] is None
    assert other["copy_share"] == 0.25 and other["copy_gb_per_s"] == 1e-4
    assert ratio["value"] == 4 and ratio["ratios"] == [4, 4] and ratio["what"] == "kernels/ema/loops over reference"


@pytest.mark.parametrize("moved_bytes", [8, 4096, 786_432])
def test_the_ceiling_copies_as_many_bytes_as_the_task_must_move(moved_bytes):
    copied = kernels.plain_copy(moved_bytes, CPU)()
    assert 2 * copied.nbytes == moved_bytes and copied.isfinite().all()


def test_nothing_begins_after_the_budget(tmp_path, capsys):
    out = tmp_path / "kernels.jsonl"
    assert main(["--out", str(out), *SMALL, "--budget-s", "1e-9"]) == 0
    assert [json.loads(line)["what"] for line in out.read_text().splitlines()] == ["kernels/copy"]
    assert "5 of 5 tasks not begun within 0 s" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="refused without a GPU only")
def test_a_sweep_without_a_gpu_is_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "x.jsonl"), "--sweep"]) == 2
    assert "--sweep without a GPU" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_every_task_has_its_fused_row_and_the_sweep_its_launches(tmp_path):
    out = tmp_path / "kernels.jsonl"
    assert main(["--out", str(out), *SMALL, "--no-compile"]) == 0
    what = {json.loads(line)["what"] for line in out.read_text().splitlines()}
    tasks = ("ema", "distillation/forward", "distillation/both", "centering")
    assert {f"kernels/{task}/fused" for task in tasks} <= what
    assert main(["--out", str(out), *SMALL, "--sweep"]) == 0
    swept = [json.loads(line) for line in out.read_text().splitlines()][1:]
    assert len(swept) == 27 + 16 + 2 * 12 and all(r["launch"] for r in swept)


def test_the_gate_lets_the_original_loops_and_the_foreach_form_through():
    for part in ("forward", "both"):
        gate(distillation_task(2, 33, torch.bfloat16, CPU, fused=None, compiled=False, part=part))
    gate(ema_task(1000, CPU, fused=None, compiled=False))
    gate(sinkhorn_task(3, 33, torch.bfloat16, CPU, compiled=False))


def test_the_gate_stops_what_computes_something_else():
    task = ema_task(1000, CPU, fused=None, compiled=False)
    reference = task.ways["reference"]
    teacher, out = (moved.clone() for moved in reference())
    wrong = replace(task, ways={"reference": lambda: (teacher, out), "foreach": lambda: (teacher * 1.001, out)})
    with pytest.raises(BadData, match="result 0 of 'foreach' is off"):
        gate(wrong)
