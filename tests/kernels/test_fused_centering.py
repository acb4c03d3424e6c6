"""The fused update of the center, and Sinkhorn-Knopp on the device, against float64."""

from __future__ import annotations

import pytest
import torch

from skill_fast.kernels.centering import fused, reference
from tests.kernels.interpreted import native_or_interpreted
from tests.kernels.oracles import logits

pytestmark = native_or_interpreted


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("prototypes", [1, 63, 1025, 65_536, 262_144])
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prototypes", [1, 63, 1025, 65_536])
def test_sinkhorn_is_the_matrix_scaling(device, prototypes, dtype):
    """3 times: columns to 1 / K, rows to 1 / B; all in float64, with the steps of SwAV's listing 1."""
    teacher, temp = logits(2, 3, prototypes, 0).to(dtype).to(device), 0.04
    q = torch.exp(teacher.double().flatten(0, 1) / temp)
    for _ in range(3):
        q = q / q.sum(0, keepdim=True) / prototypes
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    center = fused.sinkhorn(teacher, temp, 3, lambda _tensor, op: None)
    assert center.dtype == torch.float32 and center.isfinite().all()
    targets = torch.softmax((teacher - center) / temp, dim=-1).flatten(0, 1)
    # (logit - center) / temp reaches 50, which fp32 holds to 2^-19: an exponential of it errs by some of those.
    torch.testing.assert_close(targets.double(), q * q.shape[0], rtol=2e-5, atol=1e-9)
    assert torch.equal(center, fused.sinkhorn(teacher, temp, 3, lambda _tensor, op: None))
