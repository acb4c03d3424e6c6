"""The distillation loss and its gradient in two passes over the logits, in Triton.

This file cuts the work, launches the kernels of ``passes.py`` and is the autograd function around them.

Bytes, in half precision, S student and T teacher views: forward 2 (S + T) B K, backward 2 (2 S + T) B K, together
4.5 MB a row for S = 10, T = 2, K = 65,536. Besides [K]-sized vectors and the column sums of at most programs / chunks
groups of rows, memory holds 3 T + 2 S + S T numbers a row and chunk: 1.5 % of the logits. No atomics, and no order that
depends on the device: two runs agree bit for bit. Everything inside is fp32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from skill_fast.kernels.distillation.passes import combine_kernel, finish_kernel, gradient_kernel, partials_kernel
from skill_fast.kernels.distillation.reference import pairs_of


class Launch(NamedTuple):
    """How the work is cut; chosen by registers and instruction counts, not yet by a clock."""

    tile: int = 1024
    """Forward: teacher views times prototypes of a chunk: 512 prototypes for two views; 168 registers, no spills."""
    warps: int = 1
    """Forward: of one warp no reduction has a barrier, and a view's load overlaps the arithmetic of the one before."""
    programs: int = 1536
    """Forward: chunks times groups of rows; at 168 registers an H200's 132 SMs hold 1,584 warps at a time."""
    gradient_block: int = 1024
    gradient_warps: int = 4


LAUNCH = Launch()  # `python -m benchmarks.kernels --sweep` tries its neighbours


class Distillation(torch.autograd.Function):
    """(loss, teacher_sum, teacher_entropy, kl); only the loss has a gradient, and only the student's logits get one."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        center: Tensor,
        student_temp: float | Tensor,
        teacher_temp: float | Tensor,
        pairs: str,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        S, B, K = student.shape
        T = teacher.shape[0]
        listed = pairs_of(pairs, S, T)
        views: dict[str, Any] = {"S": S, "T": T, "T_PAD": triton.next_power_of_2(T), "FIRST": min(s for _, s in listed)}
        temps: dict[str, Any] = {"student_temp": student_temp, "teacher_temp": teacher_temp}
        temps |= {f"{name.upper()}_READ": isinstance(temp, Tensor) for name, temp in temps.items()}
        block = max(32, LAUNCH.tile // max(2, views["T_PAD"]))
        chunks = triton.cdiv(K, block)
        rows = triton.cdiv(B, max(1, min(B, LAUNCH.programs // chunks)))
        groups = triton.cdiv(B, rows)

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float32, device=student.device)

        parts = empty(B, chunks, 3, T), empty(B, chunks, 2, S), empty(B, chunks, T, S)
        norms, row_means, column_parts = (empty(2, T, B), empty(2, S, B)), empty(3, B), empty(groups, K)
        loss, entropy, kl, teacher_sum = empty(), empty(), empty(), empty(K)
        partials_kernel[(chunks, groups)](
            student, teacher, center, *parts, column_parts, B, K, chunks, rows,
            *student.stride()[:2], *teacher.stride()[:2], **temps, **views, S_PAD=triton.next_power_of_2(S),
            BLOCK=block, WHOLE=K % block == 0, num_warps=LAUNCH.warps, enable_fp_fusion=True,
        )  # fmt: skip
        combine_kernel[(B,)](
            *parts, *norms, row_means, B, chunks, **views, PAIRS=len(listed), CHUNKS=triton.next_power_of_2(chunks),
            num_warps=4 if views["T_PAD"] * chunks <= 1024 else 8, enable_fp_fusion=True,
        )  # fmt: skip
        finish_kernel[(1 + triton.cdiv(K, 1024),)](
            row_means, column_parts, loss, entropy, kl, teacher_sum, B, groups, K, BLOCK=1024, num_warps=4,
            enable_fp_fusion=True,
        )  # fmt: skip
        ctx.save_for_backward(student, teacher, center, *norms)
        ctx.temps, ctx.views, ctx.pairs = temps, views, len(listed)
        ctx.mark_non_differentiable(teacher_sum, entropy, kl)
        return loss, teacher_sum, entropy, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        student, teacher, center, *norms = ctx.saved_tensors
        _, B, K = student.shape
        gradient = torch.empty(student.shape, dtype=student.dtype, device=student.device)
        chunks = triton.cdiv(K, LAUNCH.gradient_block)
        gradient_kernel[(chunks * B,)](
            student, teacher, center, *norms, upstream, gradient, B, K, chunks,
            *student.stride()[:2], *teacher.stride()[:2], **ctx.temps, **ctx.views, PAIRS=ctx.pairs,
            BLOCK=LAUNCH.gradient_block, WHOLE=K % LAUNCH.gradient_block == 0, num_warps=LAUNCH.gradient_warps,
            enable_fp_fusion=True,
        )  # fmt: skip
        return gradient, None, None, None, None, None


def distillation_loss(
    student_logits: Float[Tensor, "student_views batch prototypes"],
    teacher_logits: Float[Tensor, "teacher_views batch prototypes"],
    center: Float[Tensor, " prototypes"],
    student_temp: float | Float[Tensor, ""],
    teacher_temp: float | Float[Tensor, ""],
    pairs: str,
) -> tuple[Float[Tensor, ""], Float[Tensor, " prototypes"], Float[Tensor, ""], Float[Tensor, ""]]:
    """See ``skill_fast.kernels.distillation.op.distillation_loss``; returns loss, teacher_sum, teacher_entropy, kl.

    Rows may lie anywhere, at any distance; logits whose prototypes are not adjacent are copied first.
    A temperature on the device is read there, at each launch: it must not change before the backward pass.
    """
    with torch.cuda.device_of(student_logits):
        return Distillation.apply(
            _with_adjacent_prototypes(student_logits),
            _with_adjacent_prototypes(teacher_logits.detach()),
            center.detach().contiguous(),
            _number(student_temp, center),
            _number(teacher_temp, center),
            pairs,
        )


def _with_adjacent_prototypes(logits: Tensor) -> Tensor:
    return logits if logits.stride(-1) == 1 or logits.shape[-1] == 1 else logits.contiguous()


def _number(value: float | Tensor, like: Tensor) -> float | Tensor:
    """A kernel's argument: a tensor stays one only where the kernel can read it."""
    return value.detach() if isinstance(value, Tensor) and value.device == like.device else float(value)
