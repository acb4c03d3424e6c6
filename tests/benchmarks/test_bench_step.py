"""The benchmark of the step alone: its rows, its ratios, and one run of the command with a toy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from benchmarks import step
from benchmarks.training.no_loader import StepJob
from tests.benchmarks.test_bench_train import PARTS

ROOT = Path(__file__).parents[2]
EVERY_LEVER = [*step.LEVERS, step.COLLECTION, step.ALL_OFF]


def options(device: str, **given) -> Namespace:
    usual = {"model": None, "batch": None, "precision": None, "levers": EVERY_LEVER, "only_levers": False}
    return Namespace(**(usual | {"device": device, "seconds": 1.0} | given))


def test_on_a_gpu_every_lever_stage_batch_and_model_has_a_row():
    todo = step.jobs(options("cuda"))
    titles = [step.title(job, todo[0]) for job in todo]
    assert len(set(titles)) == len(titles) == len(set(todo))
    assert titles[:3] == ["base", "compile off", "backend reference"]
    wanted = {f"batch {batch}" for batch in (64, 128, 512)} | {f"stage {stage}" for stage in (0, 1)}
    assert wanted | {"model vit_base"} | {f"model vit_base, {row}" for row in wanted} <= set(titles)
    base = asdict(todo[0].setting)
    for job, lever in zip(todo[1:], EVERY_LEVER):
        differing = {name for name, value in asdict(job.setting).items() if value != base[name]}
        assert differing == {step.COLLECTION: set(), step.ALL_OFF: {"compile", "backend"}}.get(lever, {lever})
        assert job.collected_by_hand == (lever not in (step.COLLECTION, step.ALL_OFF))
        assert StepJob.of(job.text()) == job


def found(rate: float) -> dict:
    """What a row's process tells."""
    return {
        "products_per_s": rate,
        "flops_a_product": {"teacher": 1e9, "student": 2e9, "backward": 4e9},
        "tokens_a_product": {"student": 690, "teacher": 394},
        "peak_tflops": 7.0,
        "matmul_tflops": 3.5,
        "phases_ms": {"backward": 30.0, "rest": 10.0},
        "step_ms": {"p50": 40.0},
    }


def test_a_base_that_fails_in_a_later_round_leaves_the_ratios_of_those_that_it_ran_in(capsys):
    todo = step.jobs(options("cuda", only_levers=True, levers=["packed", "backend"]))
    lost = {"can_not": "exit code 1: no memory"}
    base, packed, late = step.records(
        todo, [[found(100), lost], [found(120), found(400)], [lost | {"can_not": "busy"}, found(90)]]
    )
    assert (base["value"], base["ratio"], base["ratio_rounds"]) == (100, 1.0, 1)
    assert (packed["ratio"], packed["ratios"], packed["ratio_rounds"]) == (1.2, [1.2, 1.2], 1)
    assert packed["by_round"] == [120, 400]
    assert late["value"] == 90 and late["no_ratio"] == "no round in which both ran" and "ratio" not in late
    for record in (base, packed, late):
        step._tell(record)
    assert "no ratio to base: no round" in capsys.readouterr().out


def test_a_ratio_is_within_a_round_and_to_the_models_own_base():
    """Twice as slow a second round changes no ratio; a row that can not run says why."""
    todo = step.jobs(options("cuda", only_levers=True, levers=["packed", "backend"]))

    base, packed, backend = step.records(
        todo, [[found(100), found(50)], [found(120), found(60)], [{"can_not": "no Triton"}]]
    )
    assert base["ratio"] == 1 and packed["ratios"] == [1.2, 1.2]
    assert packed["ratio_to"] == base["what"] == "step/base"
    assert backend["value"] is None and backend["can_not"] == "no Triton"
    assert packed["value"] == 90 and packed["mfu"] == pytest.approx(90 * 7e9 / 7e12) == packed["of_matmul"] / 2
    assert packed["phase_shares"] == {"backward": 0.75, "rest": 0.25} and packed["tokens_per_s"] == 90 * 1084


def test_the_command_writes_its_row(tmp_path):
    out = tmp_path / "records.jsonl"
    few = ["--model", "toy", "--batch", "4", "--precision", "fp32", "--seconds", "0", "--repeats", "1"]
    few += ["--only-levers", "--levers"]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.step", "--out", str(out), *few],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["what"] for r in records] == ["step/base"]
    for record in records:
        assert record["value"] > 0 and record["steps"] == 8 and not record["steps_not_applied"]
        assert set(record["phases_ms"]) == PARTS and record["step_ms"]["p50"] <= record["step_ms"]["p99"]
        assert record["crops"] == {"global": [2, 32], "local": [2, 16]} and record["commit"] and record["cpu"]
        assert record["mfu"] is None is record["peak_tflops"] and "a CPU" in record["peak_is"]
        tflops = record["value"] * sum(record["flops_a_product"].values()) / 1e12
        assert record["of_matmul"] == pytest.approx(tflops / record["matmul_tflops"])


def test_without_time_every_row_says_that_it_was_not_begun(tmp_path):
    out = tmp_path / "records.jsonl"
    few = ["--model", "toy", "--batch", "4", "--levers", "packed", "--only-levers", "--budget-s", "1e-9"]
    assert step.main(["--out", str(out), *few]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(records) == 2 and all("not begun" in record["can_not"] for record in records)


@pytest.mark.gpu
def test_on_a_gpu_a_compiled_fused_step_and_its_memory(tmp_path):
    out = tmp_path / "records.jsonl"
    few = ["--model", "toy", "--batch", "4", "--levers", "all_off", "--only-levers", "--seconds", "0", "--repeats", "1"]
    assert step.main(["--out", str(out), *few]) == 0
    base, off = (json.loads(line) for line in out.read_text().splitlines())
    assert "fused" in base["kernels"] and "reference" in off["kernels"]
    for record in (base, off):
        assert record["gpu_allocated_mib"] > 0 and record["gpu"] == torch.cuda.get_device_name(0)
