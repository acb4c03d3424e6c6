"""The center's update as one launch, in Triton: plain torch takes four for three vectors of 256 KB."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from skill_fast.kernels.centering.reference import sinkhorn

__all__ = [
    "center_update",
    "sinkhorn",
]  # Sinkhorn-Knopp is matrix products and reductions: torch's own are fused enough

BLOCK, WARPS = 1024, 4


@triton.jit
@no_type_check  # jaxtyping's import hook would wrap the kernel
def center_kernel(
    center, teacher_sum, moved, rows, momentum, rest, prototypes, ROWS_READ: tl.constexpr, BLOCK: tl.constexpr
):
    """One block: ``moved <- center momentum + (teacher_sum / rows) rest``; ROWS_READ: rows is an address."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = k < prototypes
    count = tl.zeros([BLOCK], dtype=tl.float32) + (tl.load(rows).to(tl.float32) if ROWS_READ else rows)
    mean = tl.div_rn(tl.load(teacher_sum + k, mask=inside, other=0), count)
    tl.store(moved + k, tl.load(center + k, mask=inside) * momentum + mean * rest, mask=inside)


def center_update(
    center: Float[Tensor, " prototypes"],
    teacher_sum: Float[Tensor, " prototypes"],
    rows: int | Float[Tensor, ""],
    momentum: float,
) -> Float[Tensor, " prototypes"]:
    """See ``skill_fast.kernels.centering.op.center_update``."""
    prototypes = center.numel()
    moved = torch.empty(prototypes, dtype=torch.float32, device=center.device)
    read = isinstance(rows, Tensor) and rows.device == center.device
    with torch.cuda.device_of(center):
        center_kernel[(triton.cdiv(prototypes, BLOCK),)](
            center.contiguous(),
            teacher_sum.contiguous(),
            moved,
            rows if read else float(rows),
            momentum,
            1 - momentum,
            prototypes,
            ROWS_READ=read,
            BLOCK=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=False,  # rounds as the reference does
        )
    return moved
