"""Which kernels run where, and that nothing else is run instead."""

from __future__ import annotations

import pytest
import torch

from skill_fast.errors import BadUsage
from skill_fast.kernels import backend, ema_update
from skill_fast.kernels.ema import reference

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def not_yet_chosen(monkeypatch):
    monkeypatch.setattr(backend, "_chosen", None)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_auto_is_fused_on_a_gpu_alone():
    assert backend.resolve(GPU)[0] == "fused"
    assert backend.resolve(CPU) == ("reference", "auto: tensors on cpu")
    assert backend.implementation("skill_fast.kernels.ema", torch.zeros(1)) is reference
    assert backend.describe("cpu") == "kernels: reference (auto: tensors on cpu)"


def test_auto_without_triton_says_so(monkeypatch):
    monkeypatch.setattr(backend, "_triton", lambda: "no Triton: No module named 'triton'")
    assert backend.resolve(GPU) == ("reference", "auto: no Triton: No module named 'triton'")
    backend.choose("fused")
    with pytest.raises(BadUsage, match="No module named"):
        backend.resolve(GPU)


def test_reference_is_reference_everywhere():
    backend.choose("reference")
    assert backend.resolve(GPU)[0] == backend.resolve(CPU)[0] == "reference"


def test_fused_on_a_cpu_is_refused_not_replaced(monkeypatch):
    backend.choose("fused")
    with pytest.raises(BadUsage, match="TRITON_INTERPRET"):
        ema_update(torch.zeros(3), torch.zeros(3), 0.5)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    name, reason = backend.resolve(CPU)
    assert name == "fused" and reason.endswith(", interpreted")


def test_a_process_chooses_once():
    backend.choose("reference")
    backend.choose("reference")
    with pytest.raises(BadUsage, match="runs with 'reference'"):
        backend.choose("fused")


def test_an_unknown_name_is_refused():
    with pytest.raises(BadUsage, match="auto, fused, reference"):
        backend.choose("cuda")
