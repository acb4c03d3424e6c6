"""The benchmark of training: every row on this machine, what is counted by hand, what is told of a sweep."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from benchmarks import train
from benchmarks.stopwatch import moment, ms_between
from benchmarks.training import MODELS, Job, Setting
from benchmarks.training.phases import Phases
from benchmarks.training.work import (
    flops_a_product,
    matmul_tflops,
    peak_tflops,
    tokens_a_product,
    told_utilisation,
    utilisation,
)
from skill_fast.config import parse
from skill_fast.data.views import ViewGroup
from skill_fast.models.vit import BackboneConfig
from skill_fast.presets import PRESETS
from tests.benchmarks import nvml_stub

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PARTS = {"rest", "data", "forward teacher", "forward student", "loss", "backward", "optimizer", "teacher", "gather"}
PARTS |= {"center"}


def groups(setting: Setting) -> tuple[ViewGroup, ...]:
    config = setting.config("d", "o")
    return config.views.global_groups(config.backbone.image_size) + config.views.local_groups()


def forward_flops(backbone: BackboneConfig, depth: int, dim: int, patch: int, size: int) -> int:
    """One crop through timm's plain ViT, multiply-adds counted as two, products of matrices only."""
    patches = (size // patch) ** 2
    tokens, total = patches + 1, 2 * patches * 3 * patch * patch * dim
    for _ in range(depth):
        for inputs, outputs in ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim)):
            total += 2 * tokens * inputs * outputs
        total += 2 * 2 * tokens * tokens * dim  # q k and its product with v
    return total


@pytest.mark.parametrize(("model", "depth", "dim", "patch"), [("vit_small", 12, 384, 16), ("toy", 2, 48, 8)])
def test_flops_are_those_of_the_matrix_products(model, depth, dim, patch):
    setting = Setting(model=model)
    config, views = setting.config("d", "o"), groups(setting)
    head = config.head
    sizes = [dim, head.hidden, head.hidden, head.bottleneck, head.prototypes]
    head_flops = sum(2 * a * b for a, b in itertools.pairwise(sizes))
    crops = {g.name: g.views * (forward_flops(config.backbone, depth, dim, patch, g.size) + head_flops) for g in views}
    counted = flops_a_product(config, views)
    assert counted["teacher"] == crops["global"]
    assert counted["student"] == sum(crops.values())
    # Twice the forward pass, but that pixels need no gradient: one product of the patch embedding less.
    embedding = sum(g.views * 2 * (g.size // patch) ** 2 * 3 * patch * patch * dim for g in views)
    assert counted["backward"] == 2 * counted["student"] - embedding


def test_tokens_of_the_papers_crops():
    setting = Setting()
    assert tokens_a_product(setting.config("d", "o"), groups(setting)) == {"student": 690, "teacher": 394}


SPARSE_BY_NVIDIA = {
    "NVIDIA H200": 1979, "NVIDIA H200 NVL": 1671, "NVIDIA H100 80GB HBM3": 1979, "NVIDIA H100 NVL": 1671,
    "NVIDIA H100 PCIe": 1513, "NVIDIA A100-SXM4-80GB": 624, "NVIDIA L40S": 733, "NVIDIA L4": 242,
}  # fmt: skip
"""bf16 on tensor cores as the data sheets print it, with 2:4 sparsity; of L40S they print 362.05 and 733, hence 2 %."""


@pytest.mark.parametrize("name", SPARSE_BY_NVIDIA)
def test_peaks_are_half_of_what_nvidia_prints_with_sparsity(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: name)
    peak, where = peak_tflops(torch.device("cuda"), "bf16")
    assert peak == pytest.approx(SPARSE_BY_NVIDIA[name] / 2, rel=0.02) and name in where


@pytest.mark.parametrize(
    "name",
    ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H20", "NVIDIA GH200 480GB", "NVIDIA L40", "NVIDIA H200 Next", "T4"],
)
def test_of_a_card_that_is_not_known_mfu_is_empty_and_that_is_said(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: name)
    peak, why = peak_tflops(torch.device("cuda"), "bf16")
    assert peak is None and name in why and "no MFU" in why
    found = utilisation(3.0, {"peak_tflops": peak, "matmul_tflops": 4.0})
    assert found == {"mfu": None, "of_matmul": 0.75}
    assert told_utilisation(found) == "of matmul 75.0% (no MFU: peak unknown)"
    assert told_utilisation({"mfu": 0.5, "of_matmul": 0.6}) == "MFU 50.0%"


def test_neither_is_a_peak_of_a_cpu_nor_of_a_precision_that_the_card_lacks(monkeypatch):
    assert peak_tflops(torch.device("cpu"), "fp32")[0] is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")
    assert peak_tflops(torch.device("cuda"), "bf16")[0] is None
    assert peak_tflops(torch.device("cuda"), "fp16")[0] == 65.0
    assert 0 < matmul_tflops(torch.device("cpu"), "fp32") < 100


def test_a_part_has_its_own_time_without_what_runs_inside_it():
    phases = Phases(torch.device("cpu"))
    inner = phases.around("inner", lambda: time.sleep(0.03))

    def work():
        time.sleep(0.01)
        inner()
        time.sleep(0.01)

    outer = phases.around("outer", work)
    phases.start()
    began = moment("cpu")
    for _ in range(2):
        outer()
        time.sleep(0.005)
        phases.finish_step()
    spent = phases.ms(steps=2)
    assert set(spent) == {"outer", "inner", "rest"}
    assert spent["inner"] >= 30 and spent["outer"] >= 20 and spent["rest"] >= 5
    assert 2 * sum(spent.values()) <= ms_between([began, moment("cpu")])[0] + 1


def test_a_sweep_changes_one_lever_at_a_time_and_names_it():
    options = Namespace(device="cuda", sweep=[], data="d", seconds=1, loader={}, model=None, batch=None, precision=None)
    todo = train.jobs(options)
    titles = [train.title(job, todo[0]) for job in todo]
    points = {**train.GPU_SWEEP, **train.LOADER_SWEEP["cuda"]}
    assert {"", ", compile off", ", batch 512", ", stage 0", ", packed True", ", prefetch 3"} <= set(titles)
    assert len(set(titles)) == len(titles) == 1 + sum(map(len, points.values()))
    settings = [job.setting for job in todo if not job.loader]
    for setting in settings:
        differing = [name for name in vars(setting) if getattr(setting, name) != getattr(settings[0], name)]
        assert len(differing) == (setting != settings[0])
        written = setting.ds_config()
        assert written["train_batch_size"] == setting.batch
        assert written["zero_optimization"]["stage"] == setting.stage
        assert [name for name in ("bf16", "fp16") if name in written] == [setting.precision] * (
            setting.precision != "fp32"
        )
        speed = setting.config("d", "o").speed
        assert (speed.compile, speed.kernels, speed.packed) == (setting.compile, setting.backend, setting.packed)
    assert [Job.of(job.text()) for job in todo] == todo
    assert {job.setting.model for job in train.jobs(options)} < set(MODELS)


def test_the_loaders_levers_are_train_pys_own_and_two_settings_of_threads_run_on_any_machine():
    usual = {"data": "d", "seconds": 1, "model": None, "batch": None, "precision": None}
    todo = train.jobs(Namespace(device="cuda", sweep=[], loader={}, **usual))
    swept = [job for job in todo if job.loader]
    assert all(job.only_total and job.setting == todo[0].setting for job in swept)
    for job in swept:
        (given,) = job.loader.items()
        config = job.setting.config("d", "o", job.loader)
        option = f"--loader.{given[0].replace('_', '-')}"
        assert (
            parse([*job.setting.arguments(), "--data", "d", "--out", "o", option, str(given[1])], PRESETS).config
            == config
        )
    assert {name for job in swept for name in job.loader} == {"threads", "prefetch", "hw_decoder_load"}
    for cores in (1, 2, 16):
        todo = train.jobs(Namespace(device="cpu", sweep=["threads"], loader={"threads": cores}, **usual))
        assert len({job.loader["threads"] for job in todo}) == len(todo) >= 2
        assert [train.title(job, todo[0]) for job in todo][1] in (", threads 1", ", threads 2")
    assert len(train.jobs(Namespace(device="cpu", sweep=None, loader={"threads": 2}, **usual))) == 1


def test_a_row_of_a_sweep_has_the_loader_that_the_base_came_to_but_for_its_own_lever(monkeypatch):
    """Nothing is calibrated anew: threads 4 has the base's prefetch and share of the hardware decoder."""
    came_to = {"threads": 12, "prefetch": 3, "hw_decoder_load": 0.8, "calibrate": "auto", "recipes": "by_type"}
    asked: list[Job] = []

    def measured(job: Job, _so_far: object) -> dict:
        asked.append(job)
        return {"can_not": "made up"} if len(asked) > 1 else found

    about = {"flops_a_product": {"all": 1e9}, "tokens_a_product": {"all": 10}, "crops": {"global": [2, 32]}}
    about |= {"megapixels_a_photograph": 1.0, "peak_tflops": None, "matmul_tflops": 1.0, "loader": came_to}
    found = {"rows": {"total": {"products_per_s": 9.0}}, **about}
    monkeypatch.setattr(train, "measure", measured)
    monkeypatch.setattr(train, "_tell", lambda _made: None)
    monkeypatch.setattr(train, "open_index", lambda _data: Namespace(images=3))
    given = {"device": "cuda", "sweep": [], "data": "d", "seconds": 1, "loader": {}, "out": None, "repeats": 1}
    train.run(Namespace(**given, budget_s=60, model=None, batch=None, precision=None))
    assert asked[0].loader == {}
    usual = {"threads": 12, "prefetch": 3, "hw_decoder_load": 0.8, "calibrate": "off"}
    todo = train.jobs(Namespace(**given, model=None, batch=None, precision=None))
    assert [job.loader for job in asked[1:]] == [usual | job.loader for job in todo[1:]] and len(asked) > 20
    assert usual | {"threads": 4} in [job.loader for job in asked]


def test_a_loader_settings_ratio_is_to_the_usual_ones_of_the_same_round():
    about = {"flops_a_product": {"all": 1e9}, "tokens_a_product": {"all": 10}, "crops": {"global": [2, 32]}}
    about |= {"megapixels_a_photograph": 1.0, "peak_tflops": None, "matmul_tflops": 1.0, "loader": {"threads": 2}}

    def told(**rates: float) -> dict:
        return {"rows": {row.replace("_", " "): {"products_per_s": rate} for row, rate in rates.items()}, **about}

    todo = [Job(Setting(), "d", 1.0, {"threads": 2}), Job(Setting(), "d", 1.0, {"threads": 1}, only_total=True)]
    base = [told(total=10.0, headroom=12.0, compute_only=20.0), told(total=5.0, headroom=6.0, compute_only=10.0)]
    one = [told(total=8.0) | {"loader": {"threads": 1}}, told(total=4.0) | {"loader": {"threads": 1}}]
    *_, swept = train.records(todo, [base, one], 3)
    assert (swept["what"], swept["loader"]) == ("train/total, threads 1", {"threads": 1})
    assert (swept["ratio_to"], swept["ratios"], swept["ratio_rounds"]) == ("train/total", [0.8, 0.8], 2)


def test_the_command_writes_the_three_rows(drawn, tmp_path):
    out = tmp_path / "records.jsonl"
    few = ["--model", "toy", "--batch", "4", "--precision", "fp32", "--seconds", "0", "--repeats", "1"]
    command = [sys.executable, "-m", "benchmarks.train", "--data", str(drawn), "--out", str(out), *few]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    records = {record["what"]: record for record in map(json.loads, out.read_text().splitlines())}
    assert list(records) == ["train/total", "train/headroom", "train/compute only"]
    for record in records.values():
        rate, work = record["value"], record["flops_a_product"]
        assert rate > 0 and record["unit"] == "products/s" and record["steps"] == 8 and not record["steps_not_applied"]
        assert record["photographs_per_s"] == 2 * rate and record["crops_per_s"] == 4 * rate
        assert record["tokens_per_s"] == rate * sum(record["tokens_a_product"].values())
        assert record["mfu"] is None is record["peak_tflops"] and "a CPU" in record["peak_is"]
        assert record["of_matmul"] == pytest.approx(rate * sum(work.values()) / 1e12 / record["matmul_tflops"])
        assert record["step_ms"]["p50"] <= record["step_ms"]["p99"]
        assert record["ratio"] == pytest.approx(rate / records["train/compute only"]["value"])
        assert record["commit"] and record["cpu"] and record["settings"]["model"] == "toy"
    assert set(records["train/total"]["phases_ms"]) == PARTS
    assert "phases_ms" not in records["train/headroom"]
    assert records["train/compute only"]["data_wait_share"] == 0 == records["train/headroom"]["data_wait_share"]
    assert records["train/total"]["data_wait_share"] > 0


def test_every_row_of_a_gpus_sweep_runs_and_a_setting_that_can_not_says_why(drawn, tmp_path):
    """On this machine's device, a toy model, the driver's readings stubbed: nothing else is."""
    command = [sys.executable, "-m", "tests.benchmarks.train_worker", str(drawn), str(tmp_path)]
    threads = {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["refused"] == "the student did not move"
    rows = told["rows"]
    assert {"", ", compile off", ", backend reference", ", stage 0", ", stage 1", ", batch 8", ", recipes none"} <= set(
        rows
    )
    assert {", threads 4", ", prefetch 4", ", hw decoder load 0.0"} <= set(rows)
    assert rows[", threads 4"]["loader"]["threads"] == 4 and rows[", prefetch 4"]["loader"]["prefetch"] == 4
    assert {", packed True", ", drop path by subset True", ", gradient checkpointing True"} <= set(rows)
    for name, found in rows.items():
        if name == ", precision fp16" and "can_not" in found:  # not every CPU has it
            assert "fp16" in found["can_not"]
            continue
        assert "can_not" not in found, (name, found)
        of_loader = name.startswith((", threads", ", prefetch", ", hw decoder"))
        assert set(found["rows"]) == ({"total"} if of_loader else set(train.ROWS))
        for row in found["rows"].values():
            check_readings(row, batch=8 if name == ", batch 8" else 4)


def test_a_measurement_that_is_cut_short_leaves_the_rows_that_it_came_to():
    """Stopped behind the first row there is no ratio yet; a round without one is no pair of the other's."""
    about = {"flops_a_product": {"all": 1e9}, "tokens_a_product": {"all": 10}, "crops": {"global": [2, 32]}}
    about |= {"megapixels_a_photograph": 1.0, "peak_tflops": None, "matmul_tflops": 1.0}

    def told(**rates: float) -> dict:
        return {"rows": {row.replace("_", " "): {"products_per_s": rate} for row, rate in rates.items()}, **about}

    todo = [Job(Setting(), "d", 1.0)]
    (total,) = train.records(todo, [[told(total=10.0)]], 3)
    assert (total["value"], total["no_ratio"]) == (10.0, "no round in which both ran") and "ratio" not in total
    whole = told(total=20.0, headroom=30.0, compute_only=40.0) | {"phases_ms": {"loss": 1.0}}
    total, headroom, compute = train.records(todo, [[told(total=10.0) | {"cut_short": "stopped"}, whole]], 3)
    assert (total["value"], total["by_round"], total["ratio"], total["ratio_rounds"]) == (15.0, [10.0, 20.0], 0.5, 1)
    assert (headroom["by_round"], compute["ratio"]) == ([None, 30.0], 1.0)


def test_peak_memory_is_the_trainings_own(drawn, tmp_path):
    """Read right behind the steps from disk, before batches are kept, and before a product on a GPU resets the peak."""
    command = [sys.executable, "-m", "tests.benchmarks.memory_worker", str(drawn), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    order = json.loads((tmp_path / "order.json").read_text())
    assert order[:2] == ["timed", "memory_fields"] and order.count("memory_fields") == 1
    assert order.count("timed") == 3 and "clocked" in order[2:]
    assert order[order.index("closed") + 1] == "clocked", "the ceiling is of an idle machine"
    told = [step for step in order if step == "timed" or step.startswith("told")]
    assert told == ["timed", *["told 1 rows"] * 2, "timed", "told 2 rows", "timed"]


def check_readings(row: dict, batch: int) -> None:
    wanted = {"sm_percent": nvml_stub.SM, "memory_percent": nvml_stub.MEMORY, "nvjpg_percent": nvml_stub.NVJPG}
    wanted |= {"power_w": nvml_stub.POWER_W, "pcie_to_gpu_mb_per_s": 12_000, "pcie_from_gpu_mb_per_s": 3_000}
    wanted |= {"memory_used_mib": nvml_stub.USED_MIB}
    assert {name: row[name] for name in wanted} == wanted
    seconds = row["steps"] * batch / row["products_per_s"]
    joules = nvml_stub.POWER_W * seconds * 1000 / (2 * row["steps"] * batch)
    # The sampler starts before the first step and reads once more after the last.
    assert joules * 0.5 < row["joules_per_1000_photographs"] and math.isfinite(row["joules_per_1000_photographs"])
    assert row["gpu_samples"][0]["at_s"] == 0 and row["gpu_samples"][-1]["nvjpg_percent"] == nvml_stub.NVJPG


@pytest.mark.gpu
def test_on_a_gpu_the_three_rows_come_with_its_readings(drawn, tmp_path):
    out = tmp_path / "records.jsonl"
    few = ["--model", "toy", "--batch", "8", "--seconds", "3", "--repeats", "1", "--out", str(out)]
    assert train.main(["--data", str(drawn), *few]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["what"] for record in records] == ["train/total", "train/headroom", "train/compute only"]
    for record in records:
        assert record["gpu"] and record["power_w"] > 1 and record["joules_per_1000_photographs"] > 0
        assert record["gpu_allocated_mib"] > 0 and len(record["gpu_samples"]) > 3
        assert "fused" in record["kernels"] and 0 < record["mfu"] < 1
    phases = records[0]["phases_ms"]
    assert sum(phases.values()) == pytest.approx(records[0]["step_ms"]["p50"], rel=1.0)
