"""Where the fused kernels run: in Triton's interpreter if this process was started so, else on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.interpreted import INTERPRETED, patch_language_once_a_launch

if INTERPRETED:
    patch_language_once_a_launch()


@pytest.fixture
def device() -> torch.device:
    if INTERPRETED:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device("cuda", 0)


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory is full of NaN: what a kernel does not write, or reads before it is written, shows."""
    plain = torch.empty

    def empty(*shape, **how) -> torch.Tensor:
        fresh = plain(*shape, **how)
        return fresh.fill_(torch.nan) if fresh.is_floating_point() else fresh

    monkeypatch.setattr(torch, "empty", empty)
