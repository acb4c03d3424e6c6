"""The fused update of the center against the definition."""

from __future__ import annotations

import pytest
import torch

from skill_fast.kernels.centering import fused, reference
from tests.kernels.interpreted import native_or_interpreted

pytestmark = native_or_interpreted


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("prototypes", [1, 63, 1025, 65_536])
def test_center_is_the_moving_mean(device, poisoned, prototypes, on_device):
    generator = torch.Generator().manual_seed(0)
    center, total = (torch.randn(2, prototypes, generator=generator) * torch.tensor([[1.0], [30.0]])).to(device)
    rows = torch.tensor(20.0, device=device) if on_device else 20
    kept = center.clone()
    moved = fused.center_update(center, total, rows, 0.9)
    exact = 0.9 * center.double() + 0.1 * total.double() / 20
    plain = reference.center_update(center, total, rows, 0.9)
    assert (moved.double() - exact).norm() <= 2 * (plain.double() - exact).norm() + 1e-8
    torch.testing.assert_close(moved, plain, rtol=2e-7, atol=1e-8)  # torch on a GPU multiplies by 1 / 20
    assert torch.equal(center, kept) and moved.data_ptr() != center.data_ptr()
    assert torch.equal(moved, fused.center_update(center, total, rows, 0.9))
