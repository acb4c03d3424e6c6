"""The teacher's moving average in one pass, in Triton.

Bytes an element: 4 + 4 read (student, teacher), 4 written (teacher) and 2 for a half-precision copy: 14, where a
foreach average followed by a cast moves 26. There is nothing to reuse, so copy bandwidth is the ceiling.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK, WARPS = 1024, 8  # 4 elements a thread: one 16-byte load of each tensor; more needs shared memory for the copy


@triton.jit
@no_type_check  # jaxtyping's import hook would wrap the kernel
def _move(teacher, student, out, weight, at, elements, COPIED: tl.constexpr, WHOLE: tl.constexpr):
    inside = (at < elements) | WHOLE  # constant in a whole block: its accesses stay vectors whatever the length
    t = tl.load(teacher + at, mask=inside)
    s = tl.load(student + at, mask=inside)
    moved = t + (s - t) * weight
    tl.store(teacher + at, moved, mask=inside)
    if COPIED:
        tl.store(out + at, moved.to(out.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def ema_kernel(
    teacher, student, out, momentum, elements, MOMENTUM_READ: tl.constexpr, COPIED: tl.constexpr, BLOCK: tl.constexpr
):
    """One block: ``teacher <- teacher + (student - teacher) weight``.

    momentum: MOMENTUM_READ: the address of m; else 1 - m, taken in double precision as torch takes it.
    """
    weight = (1 - tl.load(momentum)).to(tl.float32) if MOMENTUM_READ else momentum
    start = tl.program_id(0).to(tl.int64) * BLOCK
    at = start + tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        _move(teacher, student, out, weight, at, elements, COPIED, True)
    else:
        _move(teacher, student, out, weight, at, elements, COPIED, False)


def ema_update(
    teacher: Float[Tensor, " elements"],
    student: Float[Tensor, " elements"],
    momentum: float | Float[Tensor, ""],
    out: Float[Tensor, " elements"] | None = None,
) -> Float[Tensor, " elements"]:
    """See ``skill_fast.kernels.ema.op.ema_update``; bit for bit the reference's result."""
    elements = teacher.numel()
    for name, tensor in (("teacher", teacher), ("student", student), ("out", out)):
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"the fused average takes shards without gaps; {name} has stride {tensor.stride()}")
    read = isinstance(momentum, Tensor) and momentum.device == teacher.device
    if elements:
        with torch.cuda.device_of(teacher):
            ema_kernel[(triton.cdiv(elements, BLOCK),)](
                teacher,
                student,
                teacher if out is None else out,
                momentum if read else 1 - float(momentum),
                elements,
                MOMENTUM_READ=read,
                COPIED=out is not None,
                BLOCK=BLOCK,
                num_warps=WARPS,
                enable_fp_fusion=False,  # a fused multiply-add rounds once where the reference rounds twice
            )
    return teacher
