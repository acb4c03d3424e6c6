from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from skill_fast.telemetry import nvml
from skill_fast.telemetry.nvml import Sampler, available
from skill_fast.telemetry.provenance import fingerprint, provenance, source_state
from tests.benchmarks import nvml_stub

WHAT = ("commit", "dirty", "versions", "cpu", "cores", "host_load", "gpu", "gpus", "driver", "clocks", "date")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_provenance_names_what_a_number_depends_on() -> None:
    found = json.loads(json.dumps(provenance({"lr": 0.1})))
    assert set(found) == {*WHAT, "config_fingerprint"}
    assert found["versions"]["torch"].startswith("2.") and found["cpu"] and found["cores"] >= 1
    assert found["date"].endswith("+00:00")
    assert {"torchvision", "lightly", "kornia", "Pillow", "spdl"} <= found["versions"].keys()
    assert found["host_load"] >= 0
    assert "config_fingerprint" not in provenance()


@pytest.mark.skipif(available(), reason="for machines without an NVIDIA driver")
def test_without_a_gpu_it_has_neither_driver_nor_clocks() -> None:
    found = provenance()
    assert (found["gpu"], found["gpus"], found["driver"], found["clocks"]) == (None, 0, None, None)
    assert nvml.driver_and_clocks("GPU-1") == (None, None)


def test_driver_and_clocks_are_those_of_the_gpu_that_torch_counts_first(monkeypatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(nvml, "pynvml", nvml_stub)
    monkeypatch.setattr(nvml_stub, "asked_uuids", asked)
    properties = SimpleNamespace(uuid="5c1a")
    fake = {"is_available": lambda: True, "get_device_name": lambda _: "H", "device_count": lambda: 1}
    for name, stub in {**fake, "get_device_properties": lambda _: properties}.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    found = provenance()
    assert (found["gpu"], found["gpus"], found["driver"]) == ("H", 1, nvml_stub.DRIVER)
    assert found["clocks"] == {"sm_mhz": nvml_stub.SM_MHZ, "memory_mhz": nvml_stub.MEMORY_MHZ}
    assert asked == ["GPU-5c1a"]


def test_a_slice_of_a_gpu_has_a_driver_and_no_clocks(monkeypatch) -> None:
    def refused(_uuid: str) -> str:
        raise nvml_stub.NVMLError

    monkeypatch.setattr(nvml, "pynvml", nvml_stub)
    monkeypatch.setattr(nvml_stub, "nvmlDeviceGetHandleByUUID", refused)
    assert nvml.driver_and_clocks("MIG-1") == (nvml_stub.DRIVER, None)


def test_commit_and_dirt_of_a_checkout(tmp_path: Path) -> None:
    assert source_state(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert source_state(tmp_path) == (commit, False)
    (tmp_path / "untracked").write_text("x")
    assert source_state(tmp_path) == (commit, False)
    (tmp_path / "a").write_text("2")
    assert source_state(tmp_path) == (commit, True)


def test_fingerprint_is_of_values_not_of_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})


@pytest.mark.skipif(available(), reason="for machines without an NVIDIA driver")
def test_without_a_driver_the_sampler_yields_nothing() -> None:
    with Sampler() as sampler:
        time.sleep(0.01)
    assert list(sampler) == [] and sampler.means() == {}


def test_readings_of_a_driver_and_energy_by_its_counter(monkeypatch) -> None:
    monkeypatch.setattr(nvml, "pynvml", nvml_stub)
    monkeypatch.setattr(nvml_stub, "asked_uuids", [])
    with Sampler(uuid="GPU-1", every_s=0.02) as sampler:
        time.sleep(0.1)
    samples = list(sampler)
    assert nvml_stub.asked_uuids == ["GPU-1"] and len(samples) >= 3
    assert sampler.means() == {
        "sm_percent": nvml_stub.SM,
        "memory_percent": nvml_stub.MEMORY,
        "memory_used_mib": nvml_stub.USED_MIB,
        "nvjpg_percent": nvml_stub.NVJPG,
        "power_w": nvml_stub.POWER_W,
        "pcie_to_gpu_mb_per_s": nvml_stub.TO_GPU_KB / 1000,
        "pcie_from_gpu_mb_per_s": nvml_stub.FROM_GPU_KB / 1000,
    }
    # Counter and clock are read one after the other: a few milliseconds of 350 W.
    assert sampler.energy_j() == pytest.approx(nvml_stub.POWER_W * (samples[-1].at_s - samples[0].at_s), abs=5)
    assert samples[-1].at_s - samples[0].at_s >= 0.09, "one more reading at the end"


def test_energy_without_a_counter_is_the_sum_of_power_over_time() -> None:
    sampler = Sampler()
    assert sampler.energy_j() is None
    for at_s, power_w in ((1.0, 100.0), (2.0, 300.0), (2.5, None), (4.0, 200.0)):
        sampler._samples.append(nvml.GpuSample(at_s, None, None, None, None, power_w))
    assert sampler.energy_j() == 200.0 * 1 + 250.0 * 2
    sampler._samples[1:] = [nvml.GpuSample(9.0, None, None, None, None, None)]
    assert sampler.energy_j() is None


@pytest.mark.gpu
def test_with_a_gpu_it_samples() -> None:
    with Sampler(every_s=0.05) as sampler:
        time.sleep(0.5)
    assert len(list(sampler)) >= 3
    assert sampler.means()["power_w"] > 1
    with Sampler(index=999) as none:
        time.sleep(0.1)
    assert list(none) == []
