"""The center against loops in float64."""

from __future__ import annotations

import pytest
import torch

from skill_fast.kernels import center_update


@pytest.mark.parametrize("prototypes", [1, 63, 1025])
def test_center_is_the_moving_mean_of_the_rows(prototypes):
    generator = torch.Generator().manual_seed(0)
    center = torch.zeros(prototypes)
    wanted = [0.0] * prototypes
    for _ in range(20):
        rows = torch.randn(2, 5, prototypes, generator=generator)
        center = center_update(center, rows.sum((0, 1)), 10, 0.9)
        for k in range(prototypes):
            mean = sum(rows[v, b, k].item() for v in range(2) for b in range(5)) / 10
            wanted[k] = 0.9 * wanted[k] + 0.1 * mean
    # 20 fp32 updates of values near 1, each rounded to 6e-8.
    torch.testing.assert_close(center.double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_the_old_center_is_left_alone():
    center = torch.ones(7)
    moved = center_update(center, torch.zeros(7), 3, 0.5)
    assert torch.equal(center, torch.ones(7))
    assert torch.equal(moved, torch.full((7,), 0.5))
